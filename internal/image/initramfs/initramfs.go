// Package initramfs writes the archives that the Linux kernel unpacks into its
// first root file system, in which the guest finds its config.
package initramfs

import (
	"bytes"
	"fmt"
	"path"

	"capstan/guest/api"
)

// Config is the archive with an instance's config, a document of guest/api.
func Config(doc []byte) []byte {
	var a Archive
	a.Directory(path.Dir(api.ConfigPath)[1:], 0o700)
	a.File(api.ConfigPath[1:], 0o600, doc)
	return a.End()
}

// Archive is a cpio archive in the "newc" format of Linux's
// Documentation/driver-api/early-userspace/buffer-format.rst. Names have no
// slash at their beginning; a directory comes before what lies in it.
type Archive struct {
	buf     bytes.Buffer
	entries int
}

// Directory adds a directory.
func (a *Archive) Directory(name string, permissions int) {
	a.entry(name, 0o040000|permissions, nil)
}

// File adds a regular file.
func (a *Archive) File(name string, permissions int, content []byte) {
	a.entry(name, 0o100000|permissions, content)
}

// End completes the archive and returns it.
func (a *Archive) End() []byte {
	a.entry("TRAILER!!!", 0, nil)
	return a.buf.Bytes()
}

func (a *Archive) entry(name string, mode int, content []byte) {
	a.entries++
	fmt.Fprintf(&a.buf, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		a.entries, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0)
	for _, part := range [][]byte{append([]byte(name), 0), content} {
		a.buf.Write(part)
		a.buf.Write(make([]byte, -a.buf.Len()&3))
	}
}
