package erofs

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Sizes of erofs_xattr_ibody_header and erofs_xattr_entry.
const (
	xattrHeaderSize = 12
	xattrEntrySize  = 4
	maxShared       = 255 // h_shared_count has 8 bits
)

// Bounds on what is remembered in order to store equal attributes once.
const (
	maxSharedSize = 512
	maxSharedKeys = 8192
)

// xattrPrefixes are the name spaces that EROFS has, by e_name_index.
var xattrPrefixes = [...]string{
	1: "user.",
	2: "system.posix_acl_access",
	3: "system.posix_acl_default",
	4: "trusted.",
	6: "security.",
}

// xattr is one attribute as it is stored.
type xattr struct {
	index byte
	name  string // without the prefix
	value string
}

func (x *xattr) size() int64 {
	return roundUp(xattrEntrySize+int64(len(x.name))+int64(len(x.value)), 4)
}

func (x *xattr) append(b []byte) []byte {
	b = append(b, byte(len(x.name)), x.index)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(x.value)))
	b = append(b, x.name...)
	b = append(b, x.value...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// splitXattr finds the name space of an attribute.
func splitXattr(name string) (index byte, rest string, ok bool) {
	for i, prefix := range xattrPrefixes {
		if prefix == "" || !strings.HasPrefix(name, prefix) {
			continue
		}
		rest = name[len(prefix):]
		// An access control list is a whole name, the others are prefixes.
		if isACL := !strings.HasSuffix(prefix, "."); isACL != (rest == "") {
			continue
		}
		return byte(i), rest, true
	}
	return 0, "", false
}

// HasXattr reports whether EROFS has a place for an attribute of that name:
// it must be in user., trusted. or security., or be a POSIX access control
// list.
func HasXattr(name string) bool {
	_, _, ok := splitXattr(name)
	return ok
}

// sortXattrs checks attributes and puts them in the order of their names.
func (w *Writer) sortXattrs(attrs map[string][]byte) ([]xattr, error) {
	if len(attrs) == 0 {
		return nil, nil
	}
	var total int64
	list := make([]xattr, 0, len(attrs))
	for _, name := range slices.Sorted(maps.Keys(attrs)) {
		value := attrs[name]
		index, rest, ok := splitXattr(name)
		if !ok || strings.ContainsRune(name, 0) {
			return nil, fmt.Errorf("extended attribute %.200q: %w", name, ErrEntry)
		}
		if len(name) > maxNameLen {
			return nil, &LimitError{"bytes of an extended attribute's name", maxNameLen}
		}
		if len(value) > 1<<16-1 {
			return nil, &LimitError{"bytes of an extended attribute's value", 1<<16 - 1}
		}
		if total += int64(len(name) + len(value)); total > w.opts.MaxXattrs {
			return nil, &LimitError{"bytes of an entry's extended attributes", w.opts.MaxXattrs}
		}
		list = append(list, xattr{index, rest, string(value)})
	}
	return list, nil
}

// xattrBody gives what stands behind an inode: the header, references to
// shared attributes, then the others. An attribute is shared from the second
// time that it occurs, or at once where all are to be shared.
func (w *Writer) xattrBody(list []xattr, shareAll bool) ([]byte, error) {
	if len(list) == 0 {
		return nil, nil
	}
	body := make([]byte, xattrHeaderSize)
	var inline []*xattr
	for i := range list {
		x := &list[i]
		ref, ok, err := w.share(x, shareAll)
		if err != nil {
			return nil, err
		}
		if !ok || body[4] == maxShared {
			inline = append(inline, x)
			continue
		}
		body[4]++
		body = binary.LittleEndian.AppendUint32(body, ref)
	}
	for _, x := range inline {
		body = x.append(body)
	}
	if count := xattrCount(body); count > 1<<16-1 {
		return nil, &LimitError{"words of an entry's extended attributes", 1<<16 - 1}
	}
	return body, nil
}

// xattrCount is i_xattr_icount for a body.
func xattrCount(body []byte) int {
	if len(body) == 0 {
		return 0
	}
	return 1 + (len(body)-xattrHeaderSize)/4
}

// share gives the reference by which an inode can name x, if it has one.
func (w *Writer) share(x *xattr, force bool) (ref uint32, ok bool, err error) {
	if !force && x.size() > maxSharedSize {
		return 0, false, nil
	}
	key := string(x.append(nil))
	ref, seen := w.shared[key]
	switch {
	case ref != 0:
		return ref, true, nil
	case !seen && !force:
		if len(w.shared) < maxSharedKeys {
			w.shared[key] = 0
		}
		return 0, false, nil
	}
	// References count words from block 0 and have 32 bits.
	off, err := w.space.item(int64(len(key)), 4)
	if err != nil || off/4 > 1<<32-1 {
		return 0, false, err
	}
	if err := w.fatal(w.out.write([]byte(key), off)); err != nil {
		return 0, false, err
	}
	if ref = uint32(off / 4); seen || len(w.shared) < maxSharedKeys {
		w.shared[key] = ref
	}
	return ref, true, nil
}
