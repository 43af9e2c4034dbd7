// Command guestinit is the PID 1 of the ext4 package's guest test. It mounts
// the file system on /dev/vda and does what its environment variable "phase"
// (from the kernel's command line) says, reporting on the console line by
// line; "PASS" or "FAIL: why" is the last.
package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"capstan/internal/image/guesttest/pid1"
)

const (
	disk       = "/disk"
	resizeFS   = 0x40086610 // EXT4_IOC_RESIZE_FS: _IOW('f', 16, __u64), in blocks
	keptFiles  = 200        // files that must survive a kill
	moreFiles  = 40         // files of moreSize that need a grown file system
	moreSize   = 4 << 20
	churnFiles = 50
)

var phases = map[string]func() error{
	"write":  write,
	"verify": verify,
	"grow":   grow,
}

func main() { pid1.Main(run) }

func run() error {
	phase, known := phases[os.Getenv("phase")]
	if !known {
		return fmt.Errorf("unknown phase %q", os.Getenv("phase"))
	}
	if err := pid1.Mount("/dev/vda", disk, "ext4", 0, "noinit_itable"); err != nil {
		return err
	}
	if err := phase(); err != nil {
		return err
	}
	if err := unix.Unmount(disk, 0); err != nil {
		return fmt.Errorf("unmounting: %w", err)
	}
	return nil
}

// write fills the file system through an overlay, syncs it, then changes
// other files until it is killed.
func write() error {
	if err := os.MkdirAll("/lower/dir", 0o755); err != nil {
		return err
	}
	if err := os.WriteFile("/lower/gone", []byte("x"), 0o644); err != nil {
		return err
	}
	if err := pid1.Mount("overlay", "/merged", "overlay", 0,
		"lowerdir=/lower,upperdir="+disk+"/upper,workdir="+disk+"/work"); err != nil {
		return err
	}
	for i := range keptFiles {
		if err := put("/merged/dir", "kept"+strconv.Itoa(i), size(i)); err != nil {
			return err
		}
	}
	if err := os.Remove("/merged/gone"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	unix.Sync()
	for i := 0; ; i++ {
		if err := churn(i); err != nil {
			return err
		}
		fmt.Println("churned", i)
	}
}

// churn makes, replaces or removes one file.
func churn(i int) error {
	name := "churn" + strconv.Itoa(i%churnFiles)
	if i%7 == 3 {
		if err := os.RemoveAll(filepath.Join("/merged", name)); err != nil {
			return err
		}
	} else if err := put("/merged", name, size(i)); err != nil {
		return err
	}
	if i%10 == 0 {
		unix.Sync()
	}
	return nil
}

// verify reads what write had synced.
func verify() error {
	for i := range keptFiles {
		if err := check(disk+"/upper/dir", "kept"+strconv.Itoa(i), size(i)); err != nil {
			return err
		}
	}
	info, err := os.Lstat(disk + "/upper/gone")
	if err != nil {
		return err
	}
	if info.Mode()&os.ModeCharDevice == 0 {
		return fmt.Errorf("the removed file left %v, no whiteout", info.Mode())
	}
	return nil
}

// grow grows the file system to each size, in blocks, that "sizes" lists; if
// "fill" is set, it then fills more of it than there was before, and reads
// that back.
func grow() error {
	for _, s := range strings.Split(os.Getenv("sizes"), ",") {
		blocks, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			return err
		}
		start := time.Now()
		if err := growTo(blocks); err != nil {
			return fmt.Errorf("growing to %d blocks: %w", blocks, err)
		}
		fmt.Println("grown", blocks, "in", time.Since(start))
	}
	if os.Getenv("fill") == "" {
		return nil
	}
	for i := range moreFiles {
		if err := put(fmt.Sprintf("%s/more%d", disk, i), "data", moreSize); err != nil {
			return err
		}
	}
	unix.Sync()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for i := range moreFiles {
		if err := check(fmt.Sprintf("%s/more%d", disk, i), "data", moreSize); err != nil {
			return err
		}
	}
	return verify()
}

func growTo(blocks uint64) error {
	d, err := os.Open(disk)
	if err != nil {
		return err
	}
	defer d.Close()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, d.Fd(), resizeFS, uintptr(unsafe.Pointer(&blocks))); errno != 0 {
		return errno
	}
	var st unix.Statfs_t
	if err := unix.Statfs(disk, &st); err != nil {
		return err
	}
	if st.Bfree < blocks*9/10 {
		return fmt.Errorf("only %d blocks are free", st.Bfree)
	}
	return nil
}

// size varies from none to 64 KiB.
func size(i int) int { return i * 7919 % (64 << 10) }

// content is what the file of that name and size holds.
func content(name string, size int) []byte {
	b := make([]byte, size)
	rand.NewChaCha8(sha256.Sum256([]byte(name))).Read(b)
	return b
}

func put(dir, name string, size int) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path+".new", content(name, size), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func check(dir, name string, size int) error {
	got, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	if !bytes.Equal(got, content(name, size)) {
		return fmt.Errorf("%s/%s has other content, %d bytes of %d", dir, name, len(got), size)
	}
	return nil
}
