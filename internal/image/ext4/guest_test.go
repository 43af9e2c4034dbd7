//go:build e2e && linux

package ext4

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const bootTimeout = 3 * time.Minute // of one boot, under TCG on a busy machine

// guest boots the guest kernel with testdata/guestinit as its PID 1.
type guest struct{ kernel, initrd string }

func newGuest(t *testing.T) guest {
	t.Helper()
	kernel := os.Getenv("CAPSTAN_GUEST")
	if kernel == "" {
		kernel = "../../../guest/build/guest-amd64"
	}
	if _, err := os.Stat(kernel); err != nil {
		t.Fatalf("%v: make the guest first, or set CAPSTAN_GUEST", err)
	}
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Fatal("qemu-system-x86_64 is missing; it is in the package qemu-system-x86")
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "init")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", program, "./testdata/guestinit")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building guestinit: %v\n%s", err, out)
	}
	content, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	initrd := filepath.Join(dir, "initrd")
	archive := cpioEntry("dev", 0o040755, nil) + cpioEntry("ext4test", 0o100755, content) + cpioEntry("TRAILER!!!", 0, nil)
	if err := os.WriteFile(initrd, []byte(archive), 0o644); err != nil {
		t.Fatal(err)
	}
	return guest{kernel, initrd}
}

// cpioEntry is a file in an initramfs: the kernel's
// driver-api/early-userspace/buffer-format.rst.
func cpioEntry(name string, mode int, content []byte) string {
	pad := func(s string) string { return s + strings.Repeat("\x00", -len(s)&3) }
	head := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0)
	return pad(head+name+"\x00") + pad(string(content))
}

// boot runs one phase of guestinit on the disk. It ends when guestinit does,
// which must pass, or is killed at the first line that starts with killAt.
func (g guest) boot(t *testing.T, disk, killAt string, env ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), bootTimeout)
	defer cancel()
	args := []string{"-accel", "tcg", "-machine", "q35", "-m", "192M", "-nodefaults", "-no-user-config",
		"-display", "none", "-serial", "stdio", "-no-reboot", "-kernel", g.kernel, "-initrd", g.initrd,
		"-append", "console=ttyS0 loglevel=4 panic=-1 rdinit=/ext4test " + strings.Join(env, " "),
		"-drive", "if=none,id=d,format=raw,file=" + disk, "-device", "virtio-blk-pci,drive=d"}
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", args...)
	var errors bytes.Buffer
	cmd.Stderr = &errors
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var console strings.Builder
	var killed, passed bool
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		line := strings.TrimRight(lines.Text(), "\r")
		fmt.Fprintln(&console, line)
		passed = passed || line == "PASS"
		if strings.HasPrefix(line, "grown") {
			t.Log(line)
		}
		if killAt != "" && !killed && strings.HasPrefix(line, killAt) {
			killed = true
			cmd.Process.Kill()
		}
	}
	err = cmd.Wait()
	t.Logf("%s: %v, %d KiB on disk", strings.Join(env, " "), time.Since(start).Round(time.Millisecond), allocated(t, disk)>>10)
	if ctx.Err() != nil {
		t.Fatalf("the guest did not end within %v:\n%s%s", bootTimeout, &console, &errors)
	}
	if killAt != "" && !killed || killAt == "" && (err != nil || !passed) {
		t.Fatalf("the guest ended with %v:\n%s%s", err, &console, &errors)
	}
	for _, bad := range []string{"EXT4-fs error", "EXT4-fs warning", "JBD2:", "WARNING:", "BUG:"} {
		if strings.Contains(console.String(), bad) {
			t.Errorf("the kernel complained:\n%s", &console)
		}
	}
}

// needsRecovery says whether the journal has something to replay, as it has
// after a kill: without it a test shows nothing.
func needsRecovery(t *testing.T, disk string) bool {
	t.Helper()
	return strings.Contains(tool(t, "dumpe2fs", "-h", disk), "needs_recovery")
}

func TestGuestSurvivesKill(t *testing.T) {
	g := newGuest(t)
	disk := makeFile(t, Options{Size: 10 << 30, Dirs: []string{"upper", "work"}})
	for _, at := range []string{"churned 5", "churned 104", "churned 333"} {
		g.boot(t, disk, at, "phase=write")
		if !needsRecovery(t, disk) {
			t.Error("killed, yet the journal is clean")
		}
		g.boot(t, disk, "", "phase=verify")
		checkFile(t, disk)
	}
}

func TestGuestGrowsOnline(t *testing.T) {
	g := newGuest(t)
	disk := makeFile(t, Options{Size: 64 << 20, Dirs: []string{"upper", "work"}})
	if err := os.Truncate(disk, 1<<40); err != nil {
		t.Fatal(err)
	}
	g.boot(t, disk, "churned 20", "phase=write")

	blocks := func(gib ...int) string {
		var list []string
		for _, n := range gib {
			list = append(list, fmt.Sprint(n<<30/blockSize))
		}
		return "sizes=" + strings.Join(list, ",")
	}
	var steps []int
	for n := 2; n < 20; n += 2 {
		steps = append(steps, n)
	}
	g.boot(t, disk, fmt.Sprint("grown ", 10<<30/blockSize), "phase=grow", blocks(steps...))
	if !needsRecovery(t, disk) {
		t.Error("killed, yet the journal is clean")
	}
	g.boot(t, disk, "", "phase=grow", blocks(20), "fill=1")
	checkFile(t, disk)
	g.boot(t, disk, "", "phase=grow", blocks(1024))
	g.boot(t, disk, "", "phase=verify")
	checkFile(t, disk)
	if dump := tool(t, "dumpe2fs", "-h", disk); !strings.Contains(dump, "Block count:              268435456\n") {
		t.Errorf("not grown to 1 TiB:\n%s", dump)
	}
}

// TestLargest is here because e2fsck takes half a minute for it.
func TestLargest(t *testing.T) {
	checkFile(t, makeFile(t, Options{Size: MaxSize - blockSize})) // the most that a file on ext4 has
}
