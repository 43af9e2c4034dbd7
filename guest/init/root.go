//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"capstan/guest/api"
)

// Where the parts of the root are mounted in the initramfs. After the switch
// nothing but the overlay itself reaches them.
const (
	lowerDir = "/lower"
	upperDir = "/upper"
	newRoot  = "/root"
)

// mountRoot mounts the application's root, with all that a program expects
// to find mounted in it, and makes it PID 1's own.
func (g *guest) mountRoot() error {
	lower, err := mountLower(g.cfg.Root.Lower)
	if err != nil {
		return err
	}
	volatile, err := g.mountUpper()
	if err != nil {
		return err
	}
	for _, dir := range []string{upperDir + "/upper", upperDir + "/work"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("preparing the root: %w", err)
		}
	}
	// redirect_dir lets programs rename directories of the image.
	options := "lowerdir=" + strings.Join(lower, ":") + ",upperdir=" + upperDir + "/upper,workdir=" + upperDir + "/work,redirect_dir=on,index=off,metacopy=off"
	if volatile {
		options += ",volatile" // memory needs no syncing
	}
	if err := (mount{"root", newRoot, "overlay", unix.MS_NOATIME, options}).do(); err != nil {
		return err
	}
	// The overlay holds the lower file systems; their own mounts are done with.
	for _, dir := range lower {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmounting %s: %w", dir, err)
		}
	}
	if err := g.furnish(volatile); err != nil {
		return err
	}
	return switchRoot()
}

// mountLower mounts the image's devices and returns where, topmost first.
func mountLower(names []string) ([]string, error) {
	dirs := make([]string, len(names))
	for i, name := range names {
		dev, err := waitDevice(name)
		if err != nil {
			return nil, err
		}
		dirs[i] = fmt.Sprintf("%s%d", lowerDir, i)
		if err := (mount{dev, dirs[i], "erofs", unix.MS_RDONLY, ""}).do(); err != nil {
			return nil, fmt.Errorf("the root disk %q cannot be used: %w", name, err)
		}
	}
	return dirs, nil
}

// mountUpper mounts what takes the writes: the config's device, or memory,
// which makes them volatile.
func (g *guest) mountUpper() (volatile bool, err error) {
	name := g.cfg.Root.Upper
	if name == "" || g.cfg.Root.ReadOnly {
		return true, mount{"root", upperDir, "tmpfs", 0, "mode=0755"}.do()
	}
	dev, err := waitDevice(name)
	if err != nil {
		return false, err
	}
	if label, ok := strings.CutPrefix(name, "partlabel:"); ok {
		if err := growPartition(dev, label); err != nil {
			g.log.warnf("the disk is larger than what is used of it: %v", err)
		}
	}
	if err := g.mountExt4(dev, upperDir, 0); err != nil {
		return false, fmt.Errorf("the writable disk %q cannot be used: %w", name, err)
	}
	g.upper, err = os.Open(upperDir)
	return false, err
}

// switchRoot makes the new root the machine's, as switch_root(8) does. The
// initramfs stays below it, with nothing in it but PID 1's own program.
func switchRoot() error {
	for _, dir := range []string{"/dev", "/proc", "/sys"} {
		if err := unix.Mount(dir, newRoot+dir, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("moving %s: %w", dir, err)
		}
	}
	// The config may hold secrets; no program reads it again.
	if err := os.RemoveAll(filepath.Dir(api.ConfigPath)); err != nil {
		return fmt.Errorf("removing the config: %w", err)
	}
	if err := errors.Join(unix.Chdir(newRoot), unix.Mount(".", "/", "", unix.MS_MOVE, ""), unix.Chroot("."), unix.Chdir("/")); err != nil {
		return fmt.Errorf("switching to the root: %w", err)
	}
	return nil
}
