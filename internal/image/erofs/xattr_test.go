package erofs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"capstan/internal/image/erofs"
	"capstan/internal/image/erofs/erofstest"
)

func TestXattrs(t *testing.T) {
	many, some := map[string][]byte{}, map[string][]byte{}
	for i := range 700 {
		many[fmt.Sprintf("user.%d", i)] = []byte(fmt.Sprint("value", i))
		if i < 255 {
			some[fmt.Sprintf("user.%d", i)] = []byte(fmt.Sprint("value", i))
		}
	}
	all := map[string]map[string][]byte{
		"capability":  {"security.capability": []byte(erofstest.Capability)},
		"capability2": {"security.capability": []byte(erofstest.Capability)},
		"capability3": {"security.capability": []byte(erofstest.Capability)},
		"acl": {
			"system.posix_acl_access":  []byte(erofstest.ACL),
			"system.posix_acl_default": []byte(erofstest.ACL),
		},
		"empty":    {"user.empty": {}, "trusted.empty": nil},
		"prefixes": {"user.a": {1}, "trusted.a": {2}, "security.a": {3}, "user.system.posix_acl_access": {4}},
		"many":     many, "many2": many, "many3": many, "some": some,
		"largest":  {"user.l": bytes.Repeat([]byte{0, 0xff}, 32700)},
		"longest":  {"user." + strings.Repeat("x", 250): {1}},
		"2 blocks": {"user.a": make([]byte, 4000), "user.b": make([]byte, 4000)},
		"none":     nil,
	}
	for _, root := range []string{"none", "capability", "acl", "some", "largest", "2 blocks"} {
		t.Run("root with "+root, func(t *testing.T) {
			fsys, _ := image(t, erofs.Options{}, func(w *erofs.Writer) error {
				if err := w.Add(&erofs.Entry{Name: "/", Mode: fs.ModeDir | 0o755, Xattrs: all[root]}, nil); err != nil {
					return err
				}
				for _, name := range slices.Sorted(maps.Keys(all)) {
					for _, mode := range []fs.FileMode{0, fs.ModeDir, fs.ModeSymlink, fs.ModeNamedPipe} {
						e := erofs.Entry{
							Name: name + mode.String(), Mode: mode, Target: "t", Size: 5000, Xattrs: all[name],
						}
						if err := w.Add(&e, bytes.NewReader(make([]byte, 5000))); err != nil {
							return err
						}
					}
				}
				return nil
			})
			check := func(name string, want map[string][]byte) {
				got, err := fsys.Xattrs(name)
				if err != nil || !maps.EqualFunc(got, want, bytes.Equal) {
					t.Errorf("%q has %d attributes, want %d, %v", name, len(got), len(want), err)
				}
			}
			check(".", all[root])
			for name, want := range all {
				for _, mode := range []fs.FileMode{0, fs.ModeDir, fs.ModeSymlink, fs.ModeNamedPipe} {
					check(name+mode.String(), want)
				}
			}
		})
	}
}

func TestEqualXattrsAreStoredOnce(t *testing.T) {
	size := func(attrs map[string][]byte) int64 {
		w := erofs.Create(&memory{}, erofs.Options{})
		for i := range 1000 {
			if err := w.Add(&erofs.Entry{Name: fmt.Sprint(i), Xattrs: attrs}, nil); err != nil {
				t.Fatal(err)
			}
		}
		n, err := w.Close()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	// An inode with attributes takes a slot of 32 bytes more.
	if with, without := size(map[string][]byte{"user.a": make([]byte, 500)}), size(nil); with > without+40000 {
		t.Errorf("an image of %d bytes without attributes has %d with the same in all files", without, with)
	}
}

func TestTotalOfXattrsIsBounded(t *testing.T) {
	w := erofs.Create(&memory{}, erofs.Options{})
	attrs := map[string][]byte{"user.a": make([]byte, 40000), "user.b": make([]byte, 40000)}
	var limit *erofs.LimitError
	if err := w.Add(&erofs.Entry{Name: "a", Xattrs: attrs}, nil); !errors.As(err, &limit) {
		t.Errorf("error is %v, want a LimitError", err)
	}
	attrs = map[string][]byte{}
	for i := range 256 {
		attrs[fmt.Sprint("user.", i)] = nil
	}
	if err := w.Add(&erofs.Entry{Name: "/", Mode: fs.ModeDir, Xattrs: attrs}, nil); !errors.As(err, &limit) {
		t.Errorf("error for the root is %v, want a LimitError", err)
	}
}
