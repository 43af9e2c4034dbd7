//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxSeed bounds what an image's /run and /tmp may hold to be copied into
// the fresh ones; larger ones stay as they are in the image.
const (
	maxSeedBytes   = 8 << 20
	maxSeedEntries = 4096
)

// furnish mounts into the new root what programs expect, and writes the
// instance's own files.
func (g *guest) furnish(volatile bool) error {
	for _, dir := range []string{"dev", "proc", "sys"} {
		if err := os.MkdirAll(filepath.Join(newRoot, dir), 0o755); err != nil {
			return fmt.Errorf("making /%s: %w", dir, err)
		}
	}
	if err := g.writeEtc(newRoot); err != nil {
		return err
	}
	if err := makeTarget(g.workdir()); err != nil {
		return err
	}
	for _, m := range g.cfg.Mounts {
		if err := makeMountPoint(m); err != nil {
			return err
		}
	}
	if err := g.mountFresh("run", 0o755, true); err != nil {
		return err
	}
	if err := g.mountFresh("tmp", 0o1777, volatile); err != nil {
		return err
	}
	if err := furnishDev(); err != nil {
		return err
	}
	if g.cfg.Root.ReadOnly {
		if err := unix.Mount("", newRoot, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			return fmt.Errorf("making the root read-only: %w", err)
		}
	}
	for _, m := range g.cfg.Mounts {
		if err := g.mountConfigured(m); err != nil {
			return err
		}
	}
	return nil
}

// furnishDev completes /dev, which is not moved into the root yet.
func furnishDev() error {
	const safe = unix.MS_NOSUID | unix.MS_NOEXEC
	for _, m := range []mount{
		{"devpts", "/dev/pts", "devpts", safe, "mode=0620,gid=5,ptmxmode=0666"},
		{"shm", "/dev/shm", "tmpfs", safe | unix.MS_NODEV, "mode=1777"},
		{"mqueue", "/dev/mqueue", "mqueue", safe | unix.MS_NODEV, ""},
	} {
		if err := m.do(); err != nil && m.kind != "mqueue" { // a kernel may do without
			return err
		}
	}
	for name, target := range map[string]string{
		"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	} {
		if err := os.Symlink(target, "/dev/"+name); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("making /dev/%s: %w", name, err)
		}
	}
	// Who opens the kernel's console by name is not asked for a password.
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		if err := os.Chmod("/dev/"+name, 0o666); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("opening /dev/%s to all: %w", name, err)
		}
	}
	return nil
}

// mountFresh mounts an empty directory over the root's, and copies into it
// what the image has there: packages put directories with owners of their own
// into /run. In memory it is a tmpfs, else a directory of the upper device,
// so that temporary files do not take memory where there is a disk.
func (g *guest) mountFresh(name string, mode os.FileMode, memory bool) error {
	target := filepath.Join(newRoot, name)
	if info, err := os.Lstat(target); err == nil && !info.IsDir() {
		if err := os.Remove(target); err != nil { // /tmp -> /var/tmp, say
			return fmt.Errorf("replacing /%s: %w", name, err)
		}
	}
	if err := os.MkdirAll(target, 0o755); err != nil {
		return fmt.Errorf("making /%s: %w", name, err)
	}
	inside, err := os.ReadDir(target)
	if err != nil {
		return fmt.Errorf("reading the image: %w", err)
	}
	if len(inside) > 0 {
		if fits, err := seedFits(target); err != nil || !fits {
			return err
		}
	}
	fresh := "/fresh-" + name
	unixMode := uint32(mode.Perm())
	if mode&0o1000 != 0 {
		unixMode |= unix.S_ISVTX
	}
	if memory {
		err = mount{name, fresh, "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, fmt.Sprintf("mode=%o", unixMode)}.do()
	} else {
		fresh = filepath.Join(upperDir, name)
		if err = os.RemoveAll(fresh); err == nil {
			err = unix.Mkdir(fresh, unixMode)
		}
		if err == nil {
			err = unix.Chmod(fresh, unixMode)
		}
	}
	if err == nil && len(inside) > 0 {
		err = seed(fresh, target)
	}
	if err != nil {
		return fmt.Errorf("preparing /%s: %w", name, err)
	}
	how := uintptr(unix.MS_MOVE)
	if !memory {
		how = unix.MS_BIND
	}
	if err := unix.Mount(fresh, target, "", how, ""); err != nil {
		return fmt.Errorf("mounting /%s: %w", name, err)
	}
	return nil
}

// seedFits tells whether the tree at dir is small enough to be copied.
func seedFits(dir string) (bool, error) {
	var entries int
	var bytes int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		entries++
		if info.Mode().IsRegular() {
			bytes += info.Size()
		}
		if entries > maxSeedEntries || bytes > maxSeedBytes {
			return fs.SkipAll
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("reading the image: %w", err)
	}
	return entries <= maxSeedEntries && bytes <= maxSeedBytes, nil
}

// seed copies directories, files and symbolic links with their owners and
// modes from the tree at from into the directory to. Sockets, FIFOs and
// devices are left out: nobody serves them in a machine that just started.
func seed(to, from string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == from {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		st := info.Sys().(*syscall.Stat_t)
		switch info.Mode().Type() {
		case fs.ModeDir:
			err = os.Mkdir(target, 0o700)
		case fs.ModeSymlink:
			var link string
			if link, err = os.Readlink(path); err == nil {
				err = os.Symlink(link, target)
			}
		case 0:
			err = copyFile(target, path)
		default:
			return nil
		}
		if err != nil {
			return err
		}
		if err := os.Lchown(target, int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
		if info.Mode().Type() == fs.ModeSymlink {
			return nil
		}
		return unix.Chmod(target, st.Mode&0o7777)
	})
}

func copyFile(to, from string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}
