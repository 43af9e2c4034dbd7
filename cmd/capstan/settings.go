package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"

	"capstan/internal/capstanfile"
	"capstan/internal/repo"
)

// settings are what a user can fix for all commands: a flag counts before
// CAPSTAN_* in the environment, that before config.yaml in the root.
type settings struct {
	Root   string // absolute
	QEMU   string // qemu_path: a path or name; "" looks for it
	Accel  string // accel: "" takes the best that works
	Memory int64  // memory, in bytes, where neither flag nor image says
	CPUs   int    // cpus, likewise

	Offline    bool            // offline: nothing is looked up outside
	Registries repo.Registries // registries: where short names are looked for, in this order
}

func loadSettings(flags *pflag.FlagSet) (settings, error) {
	v := viper.New()
	v.SetEnvPrefix("CAPSTAN")
	v.AutomaticEnv()
	v.SetDefault("memory", "512M")
	v.SetDefault("cpus", 1)
	v.SetDefault("offline", false)
	if flags != nil {
		v.BindPFlag("root", flags.Lookup("root"))
		v.BindPFlag("offline", flags.Lookup("offline"))
	}
	root, err := rootFolder(v.GetString("root"))
	if err != nil {
		return settings{}, err
	}
	path := filepath.Join(root, "config.yaml")
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return settings{}, fmt.Errorf("reading the configuration: %w", err)
	}
	v.SetConfigType("yaml")
	if err := v.ReadConfig(bytes.NewReader(data)); err != nil {
		return settings{}, fmt.Errorf("reading %s: %w", path, err)
	}
	registries, err := registriesOf(v, path, data)
	if err != nil {
		return settings{}, err
	}
	memory, err := capstanfile.ParseMemory(v.GetString("memory"))
	if err != nil {
		return settings{}, fmt.Errorf("reading the setting memory: %w", err)
	}
	s := settings{
		Root: root, QEMU: v.GetString("qemu_path"), Accel: v.GetString("accel"), Memory: memory, CPUs: v.GetInt("cpus"),
		Registries: registries,
	}
	if s.Offline, err = strconv.ParseBool(v.GetString("offline")); err != nil {
		return settings{}, fmt.Errorf("the setting offline is %q, and must be true or false", v.GetString("offline"))
	}
	if v.GetBool("disable_kvm") && s.Accel == "" { // old Capstan's name for it
		s.Accel = "tcg"
	}
	if s.CPUs < 1 {
		return settings{}, fmt.Errorf("the setting cpus is %q, and must be 1 or more", v.GetString("cpus"))
	}
	return s, nil
}

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
	return root, nil
}
