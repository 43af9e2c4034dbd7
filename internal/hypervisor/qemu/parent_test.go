//go:build linux

package qemu

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"capstan/internal/hypervisor"
)

// parentEnv makes the test binary a parent to be killed.
const parentEnv = "CAPSTAN_TEST_QEMU_PARENT"

// hangupEnv makes the parent start QEMU as other Unix systems do.
const hangupEnv = "CAPSTAN_TEST_QEMU_HANGUP"

func TestQEMUDiesWithItsParent(t *testing.T) {
	if kernel := os.Getenv(parentEnv); kernel != "" {
		beParent(t, kernel)
		return
	}
	realQEMU(t)
	for name, env := range map[string]string{"death signal": "", "hangup": hangupEnv + "=1"} {
		t.Run(name, func(t *testing.T) { diesWithParent(t, env) })
	}
}

// beParent starts QEMU, says its process and waits to be killed.
func beParent(t *testing.T, kernel string) {
	if os.Getenv(hangupEnv) == "" {
		m, err := New(Options{}).Start(t.Context(), &hypervisor.Spec{
			Name: "orphan", Dir: filepath.Dir(kernel), Kernel: kernel, Memory: minMemory, Accel: "tcg",
		})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("pid %d\n", m.PID())
		m.Wait()
		return
	}
	path, err := New(Options{}).find()
	if err != nil {
		t.Fatal(err)
	}
	// Whoever ignores hangups for this process (nohup) would do so for QEMU,
	// too, until that has handlers of its own.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	qemu := exec.Command(path, "-nodefaults", "-display", "none", "-S", "-machine", "none", "-qmp", "stdio")
	out, err := qemu.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	release, err := startOnTerminal(qemu)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	fmt.Printf("pid %d\n", qemu.Process.Pid)
	qemu.Wait()
}

func diesWithParent(t *testing.T, env string) {
	parent := exec.Command(os.Args[0], "-test.run=^TestQEMUDiesWithItsParent$")
	parent.Env = append(os.Environ(), parentEnv+"="+tinyKernel(t, "", halts), env)
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	defer parent.Process.Kill()
	line, err := bufio.NewReader(out).ReadString('\n')
	pid, convErr := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(line, "pid ")))
	if err != nil || convErr != nil {
		t.Fatalf("the parent says %q, %v", line, err)
	}
	qemu, err := os.FindProcess(pid) // holds the process itself, not its number
	if err != nil {
		t.Fatal(err)
	}
	if pgid, err := syscall.Getpgid(pid); err != nil || pgid != pid {
		t.Errorf("QEMU is in the process group %d, %v: a terminal's Ctrl-C would reach it", pgid, err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	parent.Wait()
	for end := within(t); qemu.Signal(syscall.Signal(0)) == nil && !zombie(pid); {
		select {
		case <-end.Done():
			t.Fatal("QEMU outlived its parent")
		case <-time.After(5 * time.Millisecond): // it is not ours to wait for
		}
	}
}

// zombie tells whether a process has ended and nobody has reaped it: the
// adoptive parent may take its time.
func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(stat), ") Z ")
}
