package ext4

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tool runs one of e2fsprogs' programs, which must succeed, and returns what
// it printed.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	path := name
	if found, err := exec.LookPath(name); err == nil {
		path = found
	} else if path, err = exec.LookPath("/usr/sbin/" + name); err != nil {
		t.Fatalf("%s is missing; it is in the package e2fsprogs", name)
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// makeFile formats a sparse file and says what it cost.
func makeFile(t *testing.T, o Options) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fs.img")
	start := time.Now()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := Format(f, o); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(o.Size); err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	t.Logf("%d bytes: %v, %d KiB on disk", o.Size, took, allocated(t, path)>>10)
	return path
}

func allocated(t *testing.T, path string) int64 {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

// checkFile runs e2fsck on a file: any finding fails the test.
func checkFile(t *testing.T, path string) {
	t.Helper()
	tool(t, "e2fsck", "-f", "-n", path)
}

func TestCheckedByE2fsck(t *testing.T) {
	many := make([]string, maxDirs)
	for i := range many {
		many[i] = strings.Repeat("d", i+1)
	}
	for name, o := range map[string]Options{
		"16M":            {Size: MinSize},
		"16M, journal":   {Size: MinSize, JournalSize: 8 << 20},
		"64M":            {Size: 64 << 20, Label: "capstan-data", Dirs: []string{"upper", "work"}},
		"odd 100M":       {Size: 100<<20 + 77*blockSize},
		"128M":           {Size: 128 << 20},
		"tail dropped":   {Size: 128<<20 + 500*blockSize},
		"tail just kept": {Size: 128<<20 + (516+minTail)*blockSize},
		"1G":             {Size: 1 << 30},
		"10G":            {Size: 10 << 30, Dirs: []string{"upper", "work"}},
		"100G":           {Size: 100 << 30},
		"1T":             {Size: 1 << 40},
		"64 directories": {Size: 64 << 20, Dirs: many},
		"long names":     {Size: 64 << 20, Dirs: []string{strings.Repeat("x", 255), strings.Repeat("y", 254)}},
	} {
		t.Run(name, func(t *testing.T) {
			path := makeFile(t, o)
			checkFile(t, path)
			if most := 128<<10 + o.Size/(512<<10); allocated(t, path) > most+int64(len(o.Dirs))*4608 {
				t.Errorf("%d bytes on disk, more than %d", allocated(t, path), most)
			}
		})
	}
}

func TestDumpe2fs(t *testing.T) {
	id := [16]byte{0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0x4d, 0xef, 0x81, 1, 2, 3, 4, 5, 6, 7}
	out := tool(t, "dumpe2fs", makeFile(t, Options{Size: 10 << 30, Label: "data", UUID: id}))
	for _, want := range []string{
		`Filesystem volume name: +data\n`,
		`Filesystem UUID: +12345678-9abc-4def-8101-020304050607\n`,
		`Filesystem features: +has_journal ext_attr dir_index filetype meta_bg extent 64bit flex_bg ` +
			`sparse_super large_file huge_file dir_nlink extra_isize metadata_csum\n`,
		`Filesystem state: +clean\n`,
		`Errors behavior: +Remount read-only\n`,
		`Inode count: +655360\n`,
		`Block count: +2621440\n`,
		`Reserved block count: +0\n`,
		`Free inodes: +655350\n`,
		`Journal size: +64M\n|Total journal size: +64M\n`,
		`Checksum type: +crc32c\n`,
		`Journal sequence: +0x00000001\n`,
		`Journal start: +0\n`,
		`Group 1: .* \[INODE_UNINIT, BLOCK_UNINIT, ITABLE_ZEROED\]\n`,
		`Group 79: .* \[INODE_UNINIT, ITABLE_ZEROED\]\n`,
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("%q is missing", want)
		}
	}
	if t.Failed() {
		t.Log(out[:3000])
	}
}

func TestDebugfs(t *testing.T) {
	path := makeFile(t, Options{Size: 64 << 20, Dirs: []string{"upper", "work"}})
	source := filepath.Join(t.TempDir(), "source")
	copied := source + "-copied"
	want := bytes.Repeat([]byte("some text, some megabytes of it\n"), 1<<17)
	if err := os.WriteFile(source, want, 0o644); err != nil {
		t.Fatal(err)
	}
	tool(t, "debugfs", "-w", "-R", "write "+source+" upper/file", path)
	checkFile(t, path)
	tool(t, "debugfs", "-R", "dump upper/file "+copied, path)
	if got, err := os.ReadFile(copied); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes read back of %d: %v", len(got), len(want), err)
	}
	listing := tool(t, "debugfs", "-R", "ls -l /", path)
	for _, name := range []string{"upper", "work"} {
		if !regexp.MustCompile(`40755 \(2\) +0 +0 +4096 .* ` + name + "\n").MatchString(listing) {
			t.Errorf("no directory %s with mode 0755 of root in:\n%s", name, listing)
		}
	}
}

func TestResize2fs(t *testing.T) {
	path := makeFile(t, Options{Size: 64 << 20})
	for _, size := range []int64{20 << 30, 1 << 40} {
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
		checkFile(t, path)
		tool(t, "resize2fs", path)
		checkFile(t, path)
		t.Logf("grown to %d bytes: %d KiB on disk", size, allocated(t, path)>>10)
	}
}
