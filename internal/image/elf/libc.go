package elf

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"syscall"
)

// openedByGlibc is what glibc opens by itself when it is first needed.
func openedByGlibc() []string {
	return []string{"libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2", "libgcc_s.so.1"}
}

// nsswitch makes glibc look users up in /etc/passwd, and hosts in /etc/hosts
// and then by DNS (nsswitch.conf(5)).
const nsswitch = `passwd: files
group: files
shadow: files
hosts: files dns
networks: files
protocols: files
services: files
`

// libcData adds what the C library reads by itself.
func (c *closer) libcData(main *loaded) error {
	libc := c.names["libc.so.6"]
	if libc == nil {
		return nil
	}
	for _, name := range openedByGlibc() {
		lib, err := c.load(libc, name)
		var missing *MissingError
		if errors.As(err, &missing) {
			continue
		}
		if err == nil && lib != nil {
			err = c.libraries(lib)
		}
		if err != nil {
			return err
		}
	}
	for _, dir := range []string{"/usr/lib/locale/C.utf8", "/usr/lib/locale/C.UTF-8"} {
		if err := c.tree(dir); err != nil {
			return err
		}
	}
	if err := c.put(Entry{Guest: "/etc/nsswitch.conf", Data: []byte(nsswitch)}); err != nil {
		return err
	}
	return c.put(Entry{Guest: "/etc/ld.so.cache", Data: cache(c.cached, machineOf(main.Arch).cacheFlag)})
}

// maxTree bounds how many files a data directory may hold.
const maxTree = 1000

// tree adds the regular files and links of a directory of the sysroot, where
// it exists.
func (c *closer) tree(name string) error {
	at, links, err := c.system.resolve(name)
	if err != nil {
		return nil
	}
	for _, l := range links {
		if err := c.put(Entry{Guest: l.path, Target: l.target}); err != nil {
			return err
		}
	}
	left := maxTree
	top := c.system.host(at)
	return fs.WalkDir(os.DirFS(top), ".", func(rel string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("reading %s: %w", top, cause(err))
		}
		if left--; left < 0 {
			return fmt.Errorf("reading %s: more than %d files", top, maxTree)
		}
		guest := path.Join(at, rel)
		switch {
		case d.Type().IsRegular():
			return c.put(Entry{Guest: guest, Host: c.system.host(guest)})
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(c.system.host(guest))
			if err != nil {
				return fmt.Errorf("reading %s: %w", c.system.host(guest), cause(err))
			}
			return c.put(Entry{Guest: guest, Target: target})
		}
		return nil
	})
}

// cache returns an ld.so.cache that maps names to paths, so that libraries in
// directories that only /etc/ld.so.conf names are found. The format is that
// of glibc's sysdeps/generic/dl-cache.h, "glibc-ld.so.cache1.1": a header of
// 48 bytes, entries of 24 bytes in falling order, then the strings.
func cache(paths map[string]string, flag uint32) []byte {
	names := make([]string, 0, len(paths))
	for name := range paths {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return compareSonames(b, a) })

	start := 48 + 24*len(names)
	var entries, text []byte
	str := func(s string) uint32 {
		at := start + len(text)
		text = append(append(text, s...), 0)
		return uint32(at)
	}
	for _, name := range names {
		entries = binary.LittleEndian.AppendUint32(entries, flag)
		entries = binary.LittleEndian.AppendUint32(entries, str(name))
		entries = binary.LittleEndian.AppendUint32(entries, str(paths[name]))
		entries = append(entries, make([]byte, 12)...) // osversion, hwcap
	}
	const littleEndian = 2
	var out bytes.Buffer
	out.WriteString("glibc-ld.so.cache1.1")
	out.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(names))))
	out.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(text))))
	out.WriteByte(littleEndian)
	out.Write(make([]byte, 19)) // padding, extension offset, unused
	out.Write(entries)
	out.Write(text)
	return out.Bytes()
}

// compareSonames orders names as the loader's binary search expects: runs of
// digits by their number, and above everything else.
func compareSonames(a, b string) int {
	digit := func(s string) bool { return s != "" && s[0] >= '0' && s[0] <= '9' }
	number := func(s string) (uint64, string) {
		var n uint64
		for digit(s) {
			n = n*10 + uint64(s[0]-'0')
			s = s[1:]
		}
		return n, s
	}
	for a != "" && b != "" {
		switch {
		case digit(a) && digit(b):
			var x, y uint64
			x, a = number(a)
			y, b = number(b)
			if x != y {
				return cmp.Compare(x, y)
			}
		case digit(a):
			return 1
		case digit(b):
			return -1
		case a[0] != b[0]:
			return cmp.Compare(a[0], b[0])
		default:
			a, b = a[1:], b[1:]
		}
	}
	return cmp.Compare(len(a), len(b))
}

// isNotDir reports whether a path led through something that is no directory.
func isNotDir(err error) bool { return errors.Is(err, syscall.ENOTDIR) }

// otherMachine reports whether a file is ELF for a machine that Parse refuses:
// a 32-bit library on the way, which a 64-bit loader passes over.
func otherMachine(host string) bool {
	f, err := openRegular(host)
	if err != nil {
		return false
	}
	defer f.Close()
	var start [20]byte
	if _, err := f.ReadAt(start[:], 0); err != nil || string(start[:4]) != "\x7fELF" {
		return false
	}
	is64le := start[4] == 2 && start[5] == 1
	known := start[18] == 62 || start[18] == 183
	return !is64le || !known || start[19] != 0
}
