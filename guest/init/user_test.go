//go:build linux

package main

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func TestLookupUser(t *testing.T) {
	root := fstest.MapFS{
		"etc/passwd": {Data: []byte("# comment\nroot:x:0:0:root:/root:/bin/sh\nweb:x:33:44::/srv:/bin/sh\n1000:x:7:8::/odd:\nbroken:x:abc:0::/:\nshort:x:5:6\n\nlast:x:4294967294:1::/l:")},
		"etc/group":  {Data: []byte("root:x:0:\nwww:x:44:\nextra:x:55:web,other\nlogs:x:66:other,web\nagain:x:66:web\nbad:x:x:web\nfew:x\n")},
	}
	for spec, want := range map[string]identity{
		"":             {0, 0, []uint32{0}, "/root"},
		"root":         {0, 0, []uint32{0}, "/root"},
		"web":          {33, 44, []uint32{44, 55, 66}, "/srv"},
		"33":           {33, 44, []uint32{44, 55, 66}, "/srv"},
		"web:extra":    {33, 55, []uint32{55}, "/srv"},
		"web:77":       {33, 77, []uint32{77}, "/srv"},
		"33:logs":      {33, 66, []uint32{66}, "/srv"},
		"web:":         {33, 44, []uint32{44, 55, 66}, "/srv"},
		":55":          {0, 55, []uint32{55}, "/root"},
		"4711":         {4711, 0, []uint32{0}, ""},
		"4711:12":      {4711, 12, []uint32{12}, ""},
		"1000":         {7, 8, []uint32{8}, "/odd"}, // a name of digits
		"short":        {5, 6, []uint32{6}, ""},
		"4294967294":   {4294967294, 1, []uint32{1}, "/l"},
		"last:www":     {4294967294, 44, []uint32{44}, "/l"},
		"4711:4711":    {4711, 4711, []uint32{4711}, ""},
		"0:0":          {0, 0, []uint32{0}, "/root"},
		"root:root":    {0, 0, []uint32{0}, "/root"},
		"web:www":      {33, 44, []uint32{44}, "/srv"},
		"33:44":        {33, 44, []uint32{44}, "/srv"},
		"other":        {},
		"broken":       {},
		"web:nope":     {},
		"web:bad":      {},
		"4294967295":   {},
		"-1":           {},
		"1:4294967295": {},
		"99999999999":  {},
	} {
		got, err := lookupUser(root, spec)
		if fails := want.groups == nil; fails {
			if err == nil {
				t.Errorf("%q: %+v", spec, got)
			}
			continue
		}
		if err != nil || got.uid != want.uid || got.gid != want.gid || got.home != want.home || !slices.Equal(got.groups, want.groups) {
			t.Errorf("%q: %+v, %v", spec, got, err)
		}
	}
	empty := fstest.MapFS{}
	if id, err := lookupUser(empty, ""); err != nil || id.uid != 0 {
		t.Errorf("an image without accounts: %+v, %v", id, err)
	}
	if _, err := lookupUser(empty, "web"); err == nil || !strings.Contains(err.Error(), `no user "web"`) {
		t.Errorf("an image without accounts: %v", err)
	}
}

func FuzzLookupUser(f *testing.F) {
	f.Add("root:x:0:0:::\n", "wheel:x:10:root\n", "root")
	f.Add("a:b:c", "::::", "a:b")
	f.Fuzz(func(t *testing.T, passwd, group, spec string) {
		root := fstest.MapFS{"etc/passwd": {Data: []byte(passwd)}, "etc/group": {Data: []byte(group)}}
		if id, err := lookupUser(root, spec); err == nil && (id.groups[0] != id.gid || id.uid == 1<<32-1) {
			t.Errorf("%q: %+v", spec, id)
		}
	})
}
