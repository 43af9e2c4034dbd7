package source

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"capstan/internal/image/elf"
)

// The users that every Linux system has.
const (
	passwd = "root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n"
	group  = "root:x:0:\nnogroup:x:65534:\n"
)

// certificates is where Go, OpenSSL, GnuTLS and the JVM's tools look for the
// certificates of public authorities, Debian's name first.
const certificates = "/etc/ssl/certs/ca-certificates.crt"

// FromProgram plans a layer of an ELF program and all that it needs to run in
// an otherwise empty root: its loader and shared libraries (package elf says
// how they are found), /etc/passwd and /etc/group with root and nobody, /root,
// a /tmp for everyone, and the host's certificates of public authorities.
//
// A program of the system (below /usr, /opt, /bin, /sbin or /lib) keeps its
// path; any other goes to /usr/local/bin, which is in everyone's PATH.
func FromProgram(program string, opts Options) (*Layer, error) {
	abs, err := filepath.Abs(program)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", program, err)
	}
	where := elf.Options{}
	if !ofSystem(abs) {
		where.Guest = path.Join("/usr/local/bin", filepath.Base(abs))
	}
	closure, err := elf.Resolve(program, where)
	if err != nil {
		return nil, err
	}
	t := newTree(opts.Base)
	for _, e := range append(closure.Entries, surroundings(closure)...) {
		n, err := closureNode(e)
		if err != nil {
			return nil, err
		}
		if err := t.put(e.Guest, n); err != nil {
			return nil, fmt.Errorf("placing %s: %w", e.Guest, err)
		}
	}
	for _, d := range []struct {
		guest string
		mode  fs.FileMode
	}{{"/tmp", 0o777 | fs.ModeSticky}, {"/root", 0o700}} {
		n := newDir("", program)
		n.mode, n.made = fs.ModeDir|d.mode, false
		if err := t.put(d.guest, n); err != nil {
			return nil, err
		}
	}
	if n, err := t.find(closure.Program); err == nil && n != nil {
		n.mode |= 0o555
	}
	return &Layer{
		Kind: Program, Arch: closure.Arch, Argv: []string{closure.Program},
		top: t.top, note: opts.note,
	}, nil
}

// ofSystem reports whether a program's path means the same in the guest.
func ofSystem(abs string) bool {
	for _, dir := range []string{"/usr", "/opt", "/bin", "/sbin", "/lib", "/lib64"} {
		if strings.HasPrefix(abs, dir+"/") {
			return true
		}
	}
	return false
}

// closureNode makes a node of what a program needs.
func closureNode(e elf.Entry) (*node, error) {
	n := &node{target: e.Target, data: e.Data, host: e.Host, from: "what the program needs"}
	switch {
	case e.Target != "":
		n.mode = fs.ModeSymlink | 0o777
	case e.Data != nil:
		n.mode = 0o644
	default:
		info, err := os.Stat(e.Host)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", e.Host, cause(err))
		}
		n.meta = metaOf(info)
		n.nlink = 1 // names of one file on the host are files of their own here
	}
	return n, nil
}

// surroundings returns what a program without a base needs beside its
// libraries.
func surroundings(c *elf.Closure) []elf.Entry {
	entries := []elf.Entry{
		{Guest: "/etc/passwd", Data: []byte(passwd)},
		{Guest: "/etc/group", Data: []byte(group)},
	}
	for _, host := range []string{
		certificates,
		"/etc/pki/tls/certs/ca-bundle.crt", // Fedora
		"/etc/ssl/ca-bundle.pem",           // openSUSE
		"/etc/ssl/cert.pem",                // Alpine, macOS
	} {
		real, err := filepath.EvalSymlinks(host)
		if err != nil {
			continue
		}
		entries = append(entries,
			elf.Entry{Guest: certificates, Host: real},
			elf.Entry{Guest: "/etc/ssl/cert.pem", Target: "certs/ca-certificates.crt"})
		if usesOpenSSL(c) {
			// OPENSSLDIR of Debian's build.
			entries = append(entries, elf.Entry{Guest: "/usr/lib/ssl/cert.pem", Target: certificates})
		}
		break
	}
	return entries
}

func usesOpenSSL(c *elf.Closure) bool {
	return slices.ContainsFunc(c.Entries, func(e elf.Entry) bool {
		return strings.HasPrefix(path.Base(e.Guest), "libcrypto.so")
	})
}
