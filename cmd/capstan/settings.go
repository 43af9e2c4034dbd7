package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"

	"capstan/internal/capstanfile"
	"capstan/internal/cloud/ec2"
	"capstan/internal/cloud/gce"
	"capstan/internal/hypervisor/vsphere"
	"capstan/internal/instance"
	"capstan/internal/repo"
)

// settings are what a user can fix for all commands: a flag counts before
// CAPSTAN_* in the environment, that before config.yaml in the root.
type settings struct {
	Root   string // absolute
	On     string // on: the platform; "" takes the best that works
	QEMU   string // qemu_path: a path or name; "" looks for it
	VBox   string // vbox_path: likewise of VBoxManage
	VMRun  string // vmrun_path: likewise of VMware's vmrun
	Accel  string // accel: "" takes the best that works
	Memory int64  // memory, in bytes, where neither flag nor image says
	CPUs   int    // cpus, likewise
	// Log bounds what is kept of an instance's output: log_size for each of
	// log_files files.
	Log instance.LogLimit

	VSphere  vsphere.Options // vsphere: the server, and where on it machines are made
	EC2, GCE cloudSettings   // ec2 and gce: what is usual there
	Sections map[string]bool // which of these three config.yaml has

	RepoURL    string          // repo_url: an old repository, asked first for names that it could have
	Offline    bool            // offline: nothing is looked up outside
	Registries repo.Registries // registries: where short names are looked for, in this order

	// progress is what clouds tell how far they are, by whoever waits; or nil.
	progress func(what string, done, total int64)
}

// minLogSize leaves room for a piece of output with its index.
const minLogSize = 128 << 10

func loadSettings(flags *pflag.FlagSet) (settings, error) {
	v := viper.New()
	v.SetEnvPrefix("CAPSTAN")
	v.AutomaticEnv()
	v.SetDefault("memory", "512M")
	v.SetDefault("cpus", "1")
	v.SetDefault("offline", "false")
	v.SetDefault("disable_kvm", "false")
	v.SetDefault("log_size", size(instance.DefaultLog.Size))
	v.SetDefault("log_files", strconv.Itoa(instance.DefaultLog.Files))
	if flags != nil {
		v.BindPFlag("root", flags.Lookup("root"))
		v.BindPFlag("offline", flags.Lookup("offline"))
	}
	root, err := rootFolder(v.GetString("root"))
	if err != nil {
		return settings{}, err
	}
	config, err := readConfig(filepath.Join(root, "config.yaml"))
	if err != nil {
		return settings{}, err
	}
	s := settings{Root: root, Sections: map[string]bool{}}
	for _, name := range []string{vsphere.Name, ec2.Name, gce.Name} {
		s.Sections[name] = config.values[name] != nil
	}
	if s.VSphere, err = vsphereOptions(config); err != nil {
		return settings{}, err
	}
	if s.EC2, err = ec2Settings(config); err != nil {
		return settings{}, err
	}
	if s.GCE, err = gceSettings(config); err != nil {
		return settings{}, err
	}
	v.SetConfigType("yaml")
	if err := v.ReadConfig(bytes.NewReader(config.data)); err != nil {
		return settings{}, fmt.Errorf("reading %s: %w", config.path, err)
	}
	s.On, s.Accel = v.GetString("on"), v.GetString("accel")
	s.QEMU, s.VBox, s.VMRun = v.GetString("qemu_path"), v.GetString("vbox_path"), v.GetString("vmrun_path")
	s.RepoURL = v.GetString("repo_url")
	wrong := func(key, problem string) (settings, error) { return settings{}, config.wrongSetting(v, key, problem) }
	if _, err := platformOf(s, s.On); s.On != "" && err != nil {
		return wrong("on", fmt.Sprintf("%q is no platform", s.On))
	}
	if s.Registries, err = registriesOf(v, config.path, config.data); err != nil {
		return settings{}, err
	}
	if s.Memory, err = capstanfile.ParseMemory(v.GetString("memory")); err != nil {
		return wrong("memory", fmt.Sprintf("%q is no size with its unit", v.GetString("memory")))
	}
	if s.CPUs, err = strconv.Atoi(v.GetString("cpus")); err != nil || s.CPUs < 1 {
		return wrong("cpus", fmt.Sprintf("%q is no number of CPUs", v.GetString("cpus")))
	}
	if s.Offline, err = strconv.ParseBool(v.GetString("offline")); err != nil {
		return wrong("offline", fmt.Sprintf("%q is neither true nor false", v.GetString("offline")))
	}
	noKVM, err := strconv.ParseBool(v.GetString("disable_kvm"))
	if err != nil {
		return wrong("disable_kvm", fmt.Sprintf("%q is neither true nor false", v.GetString("disable_kvm")))
	}
	if noKVM && s.Accel == "" { // old Capstan's name for it
		s.Accel = "tcg"
	}
	if s.Log.Size, err = capstanfile.ParseMemory(v.GetString("log_size")); err != nil || s.Log.Size < minLogSize {
		return wrong("log_size", fmt.Sprintf("%q is no size of %s or more", v.GetString("log_size"), size(minLogSize)))
	}
	if s.Log.Files, err = strconv.Atoi(v.GetString("log_files")); err != nil || s.Log.Files < 1 {
		return wrong("log_files", fmt.Sprintf("%q is no number of files", v.GetString("log_files")))
	}
	return s, nil
}

const rootHint = "another folder, with --root or CAPSTAN_ROOT"

func rootFolder(given string) (string, error) {
	if given == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("finding the home folder: %w (set CAPSTAN_ROOT)", err)
		}
		given = filepath.Join(home, ".capstan")
	}
	root, err := filepath.Abs(given)
	if err != nil {
		return "", fmt.Errorf("finding the capstan root: %w", err)
	}
	// One that is not there yet is made by the first command that writes.
	if info, err := os.Stat(root); errors.Is(err, syscall.ENOTDIR) || err == nil && !info.IsDir() {
		return "", &hinted{fmt.Errorf("%s is not a folder", root), rootHint}
	}
	return root, nil
}
