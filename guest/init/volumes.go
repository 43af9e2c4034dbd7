//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"capstan/guest/api"
)

// sharesDir is where shares are mounted of which only one file is wanted.
const sharesDir = "/shares"

// inRoot returns the path of a target in the new root, following symbolic
// links as the application will see them.
func inRoot(target string) (string, error) {
	path := newRoot
	rest := strings.Split(filepath.Clean("/"+target), "/")
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		if part == "" || part == "." {
			continue
		}
		if part == ".." {
			if path != newRoot {
				path = filepath.Dir(path)
			}
			continue
		}
		next := filepath.Join(path, part)
		link, err := os.Readlink(next)
		if err != nil {
			path = next
			continue
		}
		if links++; links > 40 {
			return "", fmt.Errorf("finding %s: %w", target, unix.ELOOP)
		}
		if filepath.IsAbs(link) {
			path = newRoot
		}
		rest = append(strings.Split(link, "/"), rest...)
	}
	return path, nil
}

// makeTarget makes a directory in the new root.
func makeTarget(target string) error {
	path, err := inRoot(target)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return fmt.Errorf("making the directory %s: %w", target, errors.Unwrap(err))
	}
	return nil
}

// makeMountPoint makes the directory, or the file, that m is mounted on.
func makeMountPoint(m api.Mount) error {
	if m.Target == "" || filepath.Clean("/"+m.Target) == "/" {
		return fmt.Errorf("the instance config mounts %q on %q, which is not possible", m.Source, m.Target)
	}
	if m.File == "" {
		return makeTarget(m.Target)
	}
	if err := makeTarget(filepath.Dir(m.Target)); err != nil {
		return err
	}
	path, err := inRoot(m.Target)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("making the file %s: %w", m.Target, err)
	}
	return f.Close()
}

// mountConfigured mounts m into the new root.
func (g *guest) mountConfigured(m api.Mount) error {
	target, err := inRoot(m.Target)
	if err != nil {
		return err
	}
	if strings.HasPrefix(target, newRoot+"/dev/") {
		target = strings.TrimPrefix(target, newRoot) // not moved yet
		if err := os.MkdirAll(target, 0o755); err != nil {
			return fmt.Errorf("making the directory %s: %w", m.Target, err)
		}
	}
	where := target
	if m.File != "" {
		if where = filepath.Join(sharesDir, m.Source); !filepath.IsLocal(m.File) || !filepath.IsLocal(m.Source) {
			return fmt.Errorf("the instance config mounts the file %q, which is not in the share", m.File)
		}
	}
	// A share of which several files are wanted is mounted once.
	if _, err := os.Stat(where); m.File != "" && err == nil {
		return bindFile(m, where, target)
	}
	if err := g.mountOn(m, where); err != nil {
		return fmt.Errorf("mounting %s: %w", m.Target, err)
	}
	if m.File == "" {
		return nil
	}
	return bindFile(m, where, target)
}

func bindFile(m api.Mount, share, target string) error {
	if err := unix.Mount(filepath.Join(share, m.File), target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mounting the file %s: %w", m.Target, err)
	}
	return nil
}

func (g *guest) mountOn(m api.Mount, where string) error {
	var flags uintptr
	if m.ReadOnly {
		flags = unix.MS_RDONLY
	}
	switch m.Type {
	case "9p":
		// cache=mmap: no caching of names and sizes, so that both sides see
		// each other's changes, but mmap works, as databases need.
		return mount{m.Source, where, "9p", flags | unix.MS_NODEV, "trans=virtio,version=9p2000.L,msize=262144,cache=mmap"}.do()
	case "virtiofs":
		return mount{m.Source, where, "virtiofs", flags | unix.MS_NODEV, ""}.do()
	case "tmpfs":
		return mount{"tmpfs", where, "tmpfs", flags | unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"}.do()
	case "ext4":
		find := waitDevice
		if m.Wait > 0 {
			g.log.debugf("waiting for the disk %s", m.Source)
			find = func(name string) (string, error) { return waitAttached(name, time.Duration(m.Wait)*time.Second) }
		}
		dev, err := find(m.Source)
		if err != nil {
			return err
		}
		return g.mountExt4(dev, where, flags)
	}
	return fmt.Errorf("%q is no type of file system that this guest knows", m.Type)
}
