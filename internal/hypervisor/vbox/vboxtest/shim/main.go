//go:build linux

// Command shim stands in front of a real VBoxManage that cannot switch machines
// on, for want of a kernel module. It hands every command on, but that startvm
// boots under QEMU what VirtualBox itself says of the machine: its disk, its
// serial ports and its forwards. controlvm reaches that QEMU, and of what
// showvminfo prints the line VMState alone is changed.
//
// SHIM_ROOT is the root of debroot.sh's that VirtualBox is in, SHIM_DEBROOT that
// script, and SHIM_STATE a folder for what is running.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	args := os.Args[1:]
	var status int
	var err error
	switch verb := first(args); {
	case verb == "startvm" && len(args) == 4 && args[2] == "--type" && args[3] == "headless":
		status, err = startVM(args[1])
	case verb == "run-machine": // startvm's own
		err = runMachine(args[1], args[2:])
	case verb == "controlvm" && len(args) == 3 && running(args[1]):
		err = controlVM(args[1], args[2])
	case verb == "showvminfo" && len(args) == 3:
		status, err = showVMInfo(args)
	case verb == "unregistervm" && running(args[1]):
		status = refuse("VBOX_E_INVALID_OBJECT_STATE", "Cannot unregister the machine '%s' while it is locked", args[1])
	default:
		err = syscall.Exec(os.Getenv("SHIM_DEBROOT"), forward(args), os.Environ())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "shim:", err)
		status = 70
	}
	os.Exit(status)
}

func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

// forward is the real program's command line.
func forward(args []string) []string {
	return append([]string{"debroot.sh", "run", os.Getenv("SHIM_ROOT"), "VBoxManage"}, args...)
}

// real runs the real program.
func real(args ...string) (stdout []byte, status int, err error) {
	cmd := exec.Command(os.Getenv("SHIM_DEBROOT"), forward(args)[1:]...)
	cmd.Stderr = os.Stderr
	cmd.WaitDelay = time.Second
	stdout, err = cmd.Output()
	if errors.As(err, new(*exec.ExitError)) || errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	return stdout, cmd.ProcessState.ExitCode(), err
}

// refuse says no as VBoxManage does.
func refuse(code, format string, args ...any) int {
	fmt.Fprintf(os.Stderr, "VBoxManage: error: "+format+"\n", args...)
	fmt.Fprintf(os.Stderr, "VBoxManage: error: Details: code %s (0x80bb0007), component MachineWrap, interface IMachine\n", code)
	return 1
}

// file is where something of a machine's is kept.
func file(uuid, what string) string { return filepath.Join(os.Getenv("SHIM_STATE"), uuid+"."+what) }

// running tells whether the machine's QEMU is there.
func running(uuid string) bool { return state(uuid) == "running" }

// state is the machine's as the shim knows it, "" for one that it never ran.
func state(uuid string) string {
	b, err := os.ReadFile(file(uuid, "state"))
	if err != nil {
		return ""
	}
	return string(b)
}

func setState(uuid, state string) error {
	tmp := file(uuid, "state.new")
	if err := os.WriteFile(tmp, []byte(state), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, file(uuid, "state"))
}

func showVMInfo(args []string) (int, error) {
	out, status, err := real(args...)
	if s := state(args[1]); err == nil && s != "" {
		lines := bytes.SplitAfter(out, []byte("\n"))
		for i, line := range lines {
			if bytes.HasPrefix(line, []byte("VMState=")) {
				lines[i] = fmt.Appendf(nil, "VMState=%q\n", s)
			}
		}
		out = bytes.Join(lines, nil)
	}
	os.Stdout.Write(out)
	return status, err
}

// startVM boots the machine and returns once QEMU runs it.
func startVM(uuid string) (int, error) {
	out, status, err := real("showvminfo", uuid, "--machinereadable")
	if err != nil || status != 0 {
		return status, err
	}
	if running(uuid) {
		return refuse("VBOX_E_INVALID_OBJECT_STATE", "The machine '%s' is already locked by a session", uuid), nil
	}
	qemu, err := arguments(uuid, parse(out))
	if err != nil {
		return 0, err
	}
	fmt.Printf("Waiting for VM %q to power on...\n", uuid)
	// A process of its own, which waits for QEMU: whoever starts a machine does
	// not live as long as it.
	keeper := exec.Command("/proc/self/exe", append([]string{"run-machine", uuid}, qemu...)...)
	keeper.Dir = "/"
	keeper.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	told, err := keeper.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := keeper.Start(); err != nil {
		return 0, err
	}
	line, err := bufio.NewReader(told).ReadString('\n')
	if line != "running\n" {
		keeper.Wait()
		return refuse("NS_ERROR_FAILURE", "The virtual machine '%s' has terminated unexpectedly during startup with exit code 1 (0x1)%s", uuid, line), nil
	}
	fmt.Printf("VM %q has been successfully started.\n", uuid)
	return 0, err
}

// runMachine runs QEMU to its end.
func runMachine(uuid string, args []string) error {
	log, err := os.Create(file(uuid, "log"))
	if err != nil {
		return err
	}
	cmd := exec.Command("qemu-system-x86_64", args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	qmp, err := connect(uuid)
	if err == nil {
		_, err = bufio.NewReader(qmp).ReadString('\n') // its greeting comes when all is set up
	}
	if err != nil {
		cmd.Process.Kill()
		cmd.Wait()
		said, _ := os.ReadFile(file(uuid, "log"))
		return fmt.Errorf("%w: %s", err, said)
	}
	qmp.Close()
	if err := setState(uuid, "running"); err != nil {
		return err
	}
	fmt.Println("running")
	os.Stdout.Close()
	last := "poweroff"
	if cmd.Wait() != nil {
		last = "aborted"
	}
	return setState(uuid, last)
}

func controlVM(uuid, verb string) error {
	order := map[string]string{"poweroff": "quit", "acpipowerbutton": "system_powerdown"}[verb]
	if order == "" {
		return fmt.Errorf("controlvm %s is not for this shim", verb)
	}
	qmp, err := connect(uuid)
	if err != nil {
		return err
	}
	defer qmp.Close()
	for _, execute := range []string{"qmp_capabilities", order} {
		if err := json.NewEncoder(qmp).Encode(map[string]string{"execute": execute}); err != nil {
			return err
		}
		if err := answered(qmp); err != nil {
			return err
		}
	}
	for order == "quit" && running(uuid) {
		time.Sleep(5 * time.Millisecond) // its keeper is about to write it down
	}
	return nil
}

// answered waits for the answer to a command, past what QEMU tells meanwhile.
func answered(qmp net.Conn) error {
	for lines := bufio.NewScanner(qmp); lines.Scan(); {
		if strings.Contains(lines.Text(), `"error"`) {
			return errors.New(lines.Text())
		}
		if strings.Contains(lines.Text(), `"return"`) {
			return nil
		}
	}
	return errors.New("QEMU has hung up")
}

// connect waits for QEMU's monitor.
func connect(uuid string) (conn net.Conn, err error) {
	for range 2000 {
		if conn, err = net.Dial("unix", file(uuid, "qmp")); err == nil {
			return conn, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil, err
}
