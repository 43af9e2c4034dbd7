//go:build unix

// Command vmrun stands in for VMware's own, which is not to be had for tests. It
// checks a .vmx file against the recorded keys (../../testdata/keys.txt) and boots
// the disk that this names by UEFI firmware under QEMU, with the network card and
// the serial ports that it names. It has no tools in its machines, as VMware has
// none, and their machines begin anew where they reset.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Println("Error:", err) // where VMware's says it, too
		os.Exit(255)
	}
}

// state is the folder with a file for each machine, with its process and .vmx.
func state() string { return os.Getenv("VMRUN_STATE") }

func run(args []string) error {
	if len(args) < 3 || args[0] != "-T" || args[1] != "ws" {
		return fmt.Errorf("unrecognized command %q", args)
	}
	switch args = args[2:]; {
	case len(args) == 1 && args[0] == "list":
		return list()
	case len(args) == 3 && args[0] == "start" && args[2] == "nogui":
		return start(args[1])
	case len(args) == 3 && args[0] == "stop" && args[2] == "hard":
		return stop(args[1])
	}
	return fmt.Errorf("unrecognized command %q", args)
}

// machines are the processes of those that run, by their .vmx.
func machines() (map[string]int, error) {
	files, err := filepath.Glob(filepath.Join(state(), "*.pid"))
	all := map[string]int{}
	for _, file := range files {
		pid, _ := os.ReadFile(file)
		vmx, _ := os.ReadFile(strings.TrimSuffix(file, ".pid") + ".vmx")
		n, err := strconv.Atoi(strings.TrimSpace(string(pid)))
		if err == nil && syscall.Kill(n, 0) == nil {
			all[string(vmx)] = n
		}
	}
	return all, err
}

func list() error {
	all, err := machines()
	fmt.Println("Total running VMs:", len(all))
	for vmx := range all {
		fmt.Println(vmx)
	}
	return err
}

func stop(vmx string) error {
	all, err := machines()
	if err != nil {
		return err
	}
	pid, ok := all[vmx]
	if !ok {
		return errors.New("The virtual machine is not powered on: " + vmx)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return err
	}
	for syscall.Kill(pid, 0) == nil {
		time.Sleep(5 * time.Millisecond) // its parent, PID 1, is about to be told
	}
	return nil
}

func start(vmx string) error {
	all, err := machines()
	if err != nil {
		return err
	}
	if _, ok := all[vmx]; ok {
		return errors.New("The virtual machine is already running: " + vmx)
	}
	text, err := os.ReadFile(vmx)
	if err != nil {
		return err
	}
	keys, err := os.ReadFile(os.Getenv("VMRUN_KEYS"))
	if err != nil {
		return err
	}
	settings, err := parse(string(text), string(keys))
	if err != nil {
		return err
	}
	at := filepath.Join(state(), strconv.Itoa(os.Getpid()))
	if err := os.WriteFile(at+".vmx", []byte(vmx), 0o600); err != nil {
		return err
	}
	out, err := exec.Command("qemu-system-x86_64", arguments(settings, at+".pid")...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

var line = regexp.MustCompile(`^([A-Za-z0-9.:]+) = "([^"]*)"$`)

// parse reads a .vmx file, each of whose keys must be a known one.
func parse(text, keys string) (map[string]string, error) {
	settings := map[string]string{}
	for l := range strings.Lines(text) {
		m := line.FindStringSubmatch(strings.TrimSuffix(l, "\n"))
		if m == nil {
			return nil, fmt.Errorf("the file is not valid: %q", l)
		}
		if _, ok := settings[m[1]]; ok || !known(keys, m[1], m[2]) {
			return nil, fmt.Errorf("the file is not valid: %s is unknown, or there twice, or not to be %q", m[1], m[2])
		}
		settings[m[1]] = strings.NewReplacer("|22", `"`, "|7C", "|").Replace(m[2])
	}
	return settings, nil
}

func known(keys, key, value string) bool {
	for l := range strings.Lines(keys) {
		f := strings.Fields(l)
		if len(f) < 3 || f[0] == "#" || strings.HasPrefix(l, "#") {
			continue
		}
		pattern := strings.Join(f[2:], " ")
		if regexp.MustCompile(`^(?:`+f[1]+`)$`).MatchString(key) && regexp.MustCompile(`^(?:`+pattern+`)$`).MatchString(value) {
			return true
		}
	}
	return false
}

// arguments are QEMU's.
func arguments(s map[string]string, pidfile string) []string {
	comma := strings.NewReplacer(",", ",,")
	args := []string{
		"-accel", "tcg", "-machine", "q35", "-cpu", "max", "-m", s["memsize"], "-smp", s["numvcpus"],
		"-nodefaults", "-display", "none", "-daemonize", "-pidfile", pidfile,
		"-drive", "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd",
		"-drive", "if=none,id=disk,format=vmdk,file=" + comma.Replace(s["sata0:0.fileName"]), "-device", "ide-hd,drive=disk,bus=ide.0",
	}
	if s["ethernet0.present"] == "TRUE" {
		args = append(args, "-netdev", "user,id=net", "-device", s["ethernet0.virtualDev"]+",netdev=net,romfile=")
	}
	uarts := []string{"iobase=0x3f8,irq=4", "iobase=0x2f8,irq=3", "iobase=0x3e8,irq=5"}
	for n, uart := range uarts {
		port := "serial" + strconv.Itoa(n)
		if s[port+".present"] == "TRUE" {
			args = append(args, "-chardev", "socket,id="+port+",path="+comma.Replace(s[port+".fileName"]), "-device", "isa-serial,chardev="+port+","+uart+",index="+strconv.Itoa(n))
		}
	}
	return slices.Clip(args)
}
