// Package erofstest makes file trees that are hard to store, and compares what
// a file system holds with the tar that it was made from.
package erofstest

import (
	"archive/tar"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Capability is a value of security.capability that Linux accepts: version 2,
// cap_net_bind_service, effective.
const Capability = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// ACL is a value of system.posix_acl_access that Linux accepts: user::rw-,
// user:1000:r--, group::r--, mask::r--, other::r--.
const ACL = "\x02\x00\x00\x00" +
	"\x01\x00\x06\x00\xff\xff\xff\xff" +
	"\x02\x00\x04\x00\xe8\x03\x00\x00" +
	"\x04\x00\x04\x00\xff\xff\xff\xff" +
	"\x10\x00\x04\x00\xff\xff\xff\xff" +
	"\x20\x00\x04\x00\xff\xff\xff\xff"

// sizes are files' sizes around every limit of the format's layouts.
var sizes = []int{
	0, 1, 100, 2000, 4031, 4032, 4033, 4095, 4096, 4097, 8191, 8192, 12000,
	65535, 65536, 65537, 65536 + 4032, 131072, 200000, 400001,
}

// Tree writes a tar of about the given number of random entries, each name
// once, parents first: the same bytes for the same seed. With all that a tar
// can hold, it has names of 255 bytes and of odd characters, nested
// directories, files with zeros in them, hard links, symbolic links, devices,
// FIFOs, extended attributes, file capabilities, access control lists, and
// unusual owners, modes and times.
func Tree(w io.Writer, seed uint64, entries int) error {
	g := generator{
		tw:   tar.NewWriter(w),
		rng:  rand.New(rand.NewPCG(seed, 0)),
		dirs: []string{""},
		seen: map[string]bool{},
	}
	if err := g.header(&tar.Header{Name: "./", Typeflag: tar.TypeDir}); err != nil {
		return err
	}
	for range entries {
		if err := g.entry(); err != nil {
			return err
		}
	}
	if err := g.tw.Close(); err != nil {
		return fmt.Errorf("ending the tar: %w", err)
	}
	return nil
}

type generator struct {
	tw    *tar.Writer
	rng   *rand.Rand
	dirs  []string
	files []string // what can be linked to
	seen  map[string]bool
}

// name makes a path that has not been used, shorter than Linux's limit.
func (g *generator) name() string {
	for {
		dir := g.dirs[g.rng.IntN(len(g.dirs))]
		var base string
		switch g.rng.IntN(10) {
		case 0:
			base = strings.Repeat(string(rune('a'+g.rng.IntN(26))), 255)
		case 1:
			base = []string{
				" ", "!", "-", "..a", "...", ".x", "a\nb", "\x01", "\x7f", "ü", "日本語", "\\", "*", "\"q\"", "caf\xe9",
			}[g.rng.IntN(15)]
		case 2:
			base = strings.Repeat("n", 1+g.rng.IntN(255))
		default:
			base = fmt.Sprintf("f%x", g.rng.IntN(1<<20))
		}
		if name := dir + base; !g.seen[name] && len(name) < 3000 {
			g.seen[name] = true
			return name
		}
	}
}

// header writes hdr with a random owner, mode, time and attributes.
func (g *generator) header(hdr *tar.Header) error {
	r := g.rng
	hdr.Format = tar.FormatPAX
	hdr.Mode = int64(r.IntN(0o10000))
	hdr.Uid = []int{0, 0, 1, 1000, 65535, 65536, 1<<32 - 2}[r.IntN(7)]
	hdr.Gid = []int{0, 0, 1, 1000, 65535, 65536, 1<<32 - 2}[r.IntN(7)]
	// From 1900 to 2100, half of them with nanoseconds.
	hdr.ModTime = time.Unix(r.Int64N(6311390400)-2208988800, 0)
	if r.IntN(2) == 0 {
		hdr.ModTime = hdr.ModTime.Add(time.Duration(r.IntN(1e9)))
	}
	if hdr.Typeflag != tar.TypeLink {
		g.xattrs(hdr)
	}
	if err := g.tw.WriteHeader(hdr); err != nil {
		return fmt.Errorf("writing the header of %q: %w", hdr.Name, err)
	}
	return nil
}

// xattrs gives a third of all entries attributes that Linux allows them.
func (g *generator) xattrs(hdr *tar.Header) {
	r := g.rng
	if r.IntN(3) > 0 {
		return
	}
	attrs := map[string]string{"trusted.same": "equal in many files"}
	attrs[fmt.Sprintf("trusted.k%d", r.IntN(100))] = g.random(r.IntN(100))
	attrs["security.capstan"] = g.random(r.IntN(10))
	if hdr.Typeflag == tar.TypeReg || hdr.Typeflag == tar.TypeDir {
		attrs["user."+strings.Repeat("x", 1+r.IntN(250))] = g.random(r.IntN(300))
		if r.IntN(3) == 0 {
			attrs["system.posix_acl_access"] = ACL
		}
		if r.IntN(20) == 0 {
			attrs["user.large"] = g.random(1000 + r.IntN(20000))
		}
	}
	if hdr.Typeflag == tar.TypeReg && r.IntN(3) == 0 {
		attrs["security.capability"] = Capability
	}
	hdr.PAXRecords = map[string]string{}
	for name, value := range attrs {
		hdr.PAXRecords["SCHILY.xattr."+name] = value
	}
}

// random gives n bytes.
func (g *generator) random(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(g.rng.Uint32())
	}
	return string(b)
}

func (g *generator) entry() error {
	name := g.name()
	hdr := &tar.Header{Name: name}
	switch k := g.rng.IntN(20); {
	case k < 5:
		g.dirs = append(g.dirs, name+"/")
		hdr.Typeflag, hdr.Name = tar.TypeDir, name+"/"
	case k < 7:
		hdr.Typeflag = tar.TypeSymlink
		hdr.Linkname = []string{
			"x", "/", "..", "../../../../etc/passwd", "/absolute/target",
			strings.Repeat("t/", 1+g.rng.IntN(2047)), strings.Repeat("u", 4095),
		}[g.rng.IntN(7)]
	case k < 9 && len(g.files) > 0:
		hdr.Typeflag = tar.TypeLink
		hdr.Linkname = g.files[g.rng.IntN(len(g.files))]
		return g.header(hdr)
	case k == 9:
		hdr.Typeflag = []byte{tar.TypeChar, tar.TypeBlock}[g.rng.IntN(2)]
		hdr.Devmajor, hdr.Devminor = g.rng.Int64N(1<<12), g.rng.Int64N(1<<20)
	case k == 10:
		hdr.Typeflag = tar.TypeFifo
	default:
		return g.file(hdr)
	}
	if hdr.Typeflag != tar.TypeDir {
		g.files = append(g.files, name)
	}
	return g.header(hdr)
}

// file writes a regular file, of which some parts may be zero.
func (g *generator) file(hdr *tar.Header) error {
	g.files = append(g.files, hdr.Name)
	hdr.Typeflag = tar.TypeReg
	content := make([]byte, sizes[g.rng.IntN(len(sizes))])
	from := g.rng.Uint32()
	for i := range content {
		from = from*1664525 + 1013904223
		content[i] = byte(from >> 24)
	}
	if len(content) > 0 && g.rng.IntN(3) == 0 {
		cuts := []int{g.rng.IntN(len(content)), g.rng.IntN(len(content) + 1), 0, len(content)}
		at := g.rng.IntN(3)
		cut := slices.Sorted(slices.Values(cuts[at:min(at+2, len(cuts))]))
		clear(content[cut[0]:cut[len(cut)-1]])
	}
	hdr.Size = int64(len(content))
	if err := g.header(hdr); err != nil {
		return err
	}
	if _, err := g.tw.Write(content); err != nil {
		return fmt.Errorf("writing %q: %w", hdr.Name, err)
	}
	return nil
}
