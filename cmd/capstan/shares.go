package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"capstan/guest/api"
	"capstan/internal/hypervisor"
)

// shared is what -v asks for.
type shared struct {
	mounts []api.Mount
	shares []hypervisor.Share
	links  []link
}

// link is a single file to share. 9p exports directories, and its directory
// is nothing that the guest should see: so the instance has a directory with
// nothing but a hard link to the file. As with a container's mount of a file,
// a program that replaces the file by renaming is not noticed in the guest.
type link struct {
	host     string
	dir      string // relative to the instance's
	readOnly bool
}

// parseShares reads HOST:GUEST[:ro].
func parseShares(list []string) (shared, error) {
	var all shared
	for n, s := range list {
		host, target, readOnly, err := splitShare(s)
		if err != nil {
			return all, fmt.Errorf("-v %s: %w", s, err)
		}
		info, err := os.Stat(host)
		if err != nil {
			return all, fmt.Errorf("-v %s: sharing %s: %w", s, host, cause(err))
		}
		mount := api.Mount{Type: "9p", Source: fmt.Sprintf("share%d", n), Target: target, ReadOnly: readOnly}
		switch {
		case info.Mode().IsRegular():
			l := link{host: host, dir: filepath.Join("shares", mount.Source), readOnly: readOnly}
			mount.File, host = filepath.Base(host), l.dir
			all.links = append(all.links, l)
		case !info.IsDir():
			return all, fmt.Errorf("-v %s: %s is neither a directory nor a regular file", s, host)
		}
		all.mounts = append(all.mounts, mount)
		all.shares = append(all.shares, hypervisor.Share{Tag: mount.Source, Path: host, ReadOnly: readOnly})
	}
	return all, nil
}

func splitShare(s string) (host, target string, readOnly bool, err error) {
	if at := strings.LastIndexByte(s, ':'); strings.HasPrefix(s[at+1:], sizeOption) {
		return "", "", false, &hinted{fmt.Errorf("%q is for volumes of clouds", s[at+1:]), "leave it out, or --on gce -v NAME:/PATH:size=20G"}
	}
	rest, mode := s, ""
	if at := strings.LastIndexByte(s, ':'); at > 0 && (s[at+1:] == "ro" || s[at+1:] == "rw") {
		rest, mode = s[:at], s[at+1:]
	}
	at := strings.LastIndexByte(rest, ':')
	if at <= 0 {
		return "", "", false, &hinted{errors.New("expected HOST:GUEST[:ro]"), "-v ./DIR:/PATH shares a directory; --verbose says more"}
	}
	host, target = rest[:at], rest[at+1:]
	if !path.IsAbs(target) || path.Clean(target) == "/" {
		return "", "", false, fmt.Errorf("%q must be an absolute path in the guest, and not its root", target)
	}
	if !isHostPath(host) {
		return "", "", false, &hinted{fmt.Errorf("%q would be a volume, which only clouds have", host), "./" + host + " for a directory; or --on gce"}
	}
	host, err = filepath.Abs(host)
	return host, path.Clean(target), mode == "ro", err
}

// isHostPath tells a file or directory of this host from a volume's name.
func isHostPath(s string) bool { return strings.ContainsAny(s, `/\`) || s == "." || s == ".." }

// linkShares makes the directories of shared files in an instance's.
func linkShares(dir string, links []link) error {
	for _, l := range links {
		own := filepath.Join(dir, l.dir)
		if err := os.MkdirAll(own, 0o700); err != nil {
			return err
		}
		to := filepath.Join(own, filepath.Base(l.host))
		err := os.Link(l.host, to)
		if err != nil && l.readOnly {
			err = copyFile(to, l.host) // another file system, or another's file
		}
		if err != nil {
			return &hinted{fmt.Errorf("sharing the file %s: %w", l.host, err), "share the directory that it is in, or share it with :ro"}
		}
	}
	return nil
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
