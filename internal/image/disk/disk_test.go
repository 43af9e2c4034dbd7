package disk_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"capstan/internal/image/disk"
	"capstan/internal/image/disk/disktest"
)

// kinds are ways in which qemu-img makes disks.
var kinds = []struct {
	name   string
	format disk.Format
	args   []string
}{
	{"raw", disk.Raw, []string{"-O", "raw"}},
	{"qcow2", disk.QCOW2, []string{"-O", "qcow2"}},
	{"qcow2 version 2", disk.QCOW2, []string{"-O", "qcow2", "-o", "compat=0.10"}},
	{"qcow2 compressed", disk.QCOW2, []string{"-c", "-O", "qcow2"}},
	{"qcow2 zstd", disk.QCOW2, []string{"-c", "-O", "qcow2", "-o", "compression_type=zstd"}},
	{"qcow2 small clusters", disk.QCOW2, []string{"-O", "qcow2", "-o", "cluster_size=512"}},
	{"qcow2 large clusters", disk.QCOW2, []string{"-c", "-O", "qcow2", "-o", "cluster_size=2M"}},
	{"vmdk", disk.VMDK, []string{"-O", "vmdk"}},
	{"vmdk stream", disk.VMDK, []string{"-O", "vmdk", "-o", "subformat=streamOptimized"}},
	{"vdi", disk.VDI, []string{"-O", "vdi"}},
	{"vdi static", disk.VDI, []string{"-O", "vdi", "-o", "static=on"}},
	{"vhd", disk.VHD, []string{"-O", "vpc"}},
	{"vhd exact", disk.VHD, []string{"-O", "vpc", "-o", "force_size=on"}},
	{"vhd fixed", disk.Raw, []string{"-O", "vpc", "-o", "subformat=fixed,force_size=on"}},
}

func qemuImg(t testing.TB, args ...string) {
	t.Helper()
	if _, err := exec.LookPath("qemu-img"); err != nil {
		t.Fatal("qemu-img is missing: apt-get install qemu-utils")
	}
	if out, err := exec.Command("qemu-img", args...).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// convert makes a file of a raw disk as qemu-img's arguments say.
func convert(t testing.TB, raw []byte, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to.some.iso") // endings say nothing
	if err := os.WriteFile(from, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	qemuImg(t, append(append([]string{"convert", "-f", "raw"}, args...), from, to)...)
	return to
}

func open(t testing.TB, path string) (*disk.Disk, error) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return disk.Open(f, info.Size())
}

// TestRead: every format that qemu-img writes reads as what went in.
func TestRead(t *testing.T) {
	raw := disktest.BIOS("/hello.so", false)
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			d, err := open(t, convert(t, raw, kind.args...))
			if err != nil {
				t.Fatal(err)
			}
			// VHD without force_size ends on a cylinder.
			if d.Format != kind.format || d.Size < int64(len(raw)) || d.Size > int64(len(raw))+1<<20 || d.Size != int64(len(raw)) && kind.name != "vhd" {
				t.Errorf("it is %s of %d bytes", d.Format, d.Size)
			}
			if err := d.Check(); err != nil {
				t.Errorf("Check: %v", err)
			}
			got, err := io.ReadAll(io.NewSectionReader(d, 0, d.Size))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got[:len(raw)], raw) || len(bytes.Trim(got[len(raw):], "\x00")) > 0 {
				t.Error("it does not read as what was written")
			}
			boot, err := d.ReadBoot()
			if err != nil || boot != (disk.Boot{BIOS: true, OSv: true}) {
				t.Errorf("ReadBoot: %+v, %v", boot, err)
			}
		})
	}
}

// TestTruncated: whatever is cut off, it is noticed.
func TestTruncated(t *testing.T) {
	raw := disktest.BIOS("/hello.so", false)
	for _, kind := range kinds {
		if kind.format == disk.Raw {
			continue // nothing in it says how long it is
		}
		t.Run(kind.name, func(t *testing.T) {
			path := convert(t, raw, kind.args...)
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, part := range []int64{10, 100, 1000, 4096, info.Size() / 2, info.Size()/2 + 4096} {
				if err := os.Truncate(path, info.Size()/2+4096); err != nil {
					t.Fatal(err)
				}
				if err := os.Truncate(path, min(part, info.Size()/2+4096)); err != nil {
					t.Fatal(err)
				}
				d, err := open(t, path)
				if err == nil && d.Format != disk.Raw { // of which too little is left to tell
					err = d.Check()
				} else if err == nil {
					continue
				}
				var refused *disk.Error
				if !errors.As(err, &refused) {
					t.Errorf("cut to %d bytes of %d: %v", part, info.Size(), err)
				}
			}
		})
	}
}

// TestOtherFiles: a disk that names another file is refused, whichever way
// it does.
func TestOtherFiles(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, disktest.BIOS("secret", false), 0o600); err != nil {
		t.Fatal(err)
	}
	make := func(args ...string) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			qemuImg(t, append(append([]string{"create", "-q"}, args...), path, "6M")...)
		}
	}
	text := func(s string) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	// changed is a disk of qemu-img's with other bytes in its header.
	changed := func(format string, change func([]byte)) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			qemuImg(t, "create", "-q", "-f", format, path, "6M")
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			change(b)
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	const descriptor = "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\nRW 12288 FLAT \"/etc/passwd\" 0\n"
	for _, tt := range []struct {
		name string
		make func(t *testing.T, path string)
		says string
	}{
		{"qcow2 with a backing file", make("-f", "qcow2", "-F", "raw", "-b", secret), "backing file"},
		{"qcow2 with a data file", make("-f", "qcow2", "-o", "data_file="+secret+".data,data_file_raw=on"), "in another file"},
		{"qcow2 with json: as its backing file", make("-f", "qcow2", "-u", "-F", "raw", "-b", `json:{"driver":"raw","file":{"driver":"file","filename":"/etc/passwd"}}`), "backing file"},
		{"encrypted qcow2", changed("qcow2", func(b []byte) { b[35] = 2 }), "encrypted"},
		{"VMDK descriptor of a host's file", text(descriptor), "other files"},
		{"VMDK with a parent", make("-f", "vmdk", "-F", "vmdk", "-b", vmdk(t)), "parent"},
		{"VMDK whose descriptor gained a parent", changed("vmdk", func(b []byte) {
			copy(b[0x200:], "parentFileNameHint=\"/etc/passwd\"\n")
		}), "parent"},
		{"VMDK of no capacity, with a descriptor of a host's file", changed("vmdk", func(b []byte) {
			clear(b[12:20])
			copy(b[0x200:], descriptor+"\x00")
		}), "several files"},
		{"VMDK in several files", changed("vmdk", func(b []byte) {
			copy(b[0x200:], descriptor+"\x00")
		}), "several files"},
		{"qcow2 with parts of clusters", make("-f", "qcow2", "-o", "extended_l2=on"), "extended_l2"},
		{"VHDX", make("-f", "vhdx"), "none of raw, qcow2"},
		{"qcow version 1", make("-f", "qcow"), "none of raw, qcow2"},
		{"QED", make("-f", "qed"), "none of raw, qcow2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "disk")
			tt.make(t, path)
			_, err := open(t, path)
			var refused *disk.Error
			if !errors.As(err, &refused) || !strings.Contains(refused.Reason, tt.says) || refused.Hint() == "" {
				t.Errorf("Open: %v; want one that says %q and a way out", err, tt.says)
			}
		})
	}
}

func vmdk(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "parent.vmdk")
	qemuImg(t, "create", "-q", "-f", "vmdk", path, "6M")
	return path
}

func TestOSvLine(t *testing.T) {
	head := disktest.BIOS("/old.so --with args", false)[:disk.OSvHead]
	code := bytes.Clone(head[:512])
	if got := disk.OSvLine(head); got != "/old.so --with args" {
		t.Errorf("the line is %q", got)
	}
	for _, line := range []string{"", "/new.so", strings.Repeat("x", disk.MaxOSvLine)} {
		if err := disk.SetOSvLine(head, line); err != nil || disk.OSvLine(head) != line {
			t.Errorf("set to %.20q it is %.20q, %v", line, disk.OSvLine(head), err)
		}
		if !bytes.Equal(head[:512], code) || head[disk.OSvHead-1] != 0 {
			t.Error("more than the line was changed, or it has no end")
		}
	}
	if disk.SetOSvLine(head, strings.Repeat("x", disk.MaxOSvLine+1)) == nil || disk.SetOSvLine(head, "a\x00b") == nil {
		t.Error("a line that does not fit was taken")
	}
	if got, want := disk.OSvEnv("A", `b c\d`), `--env=A=b\ c\\d`; got != want {
		t.Errorf("OSvEnv: %s, want %s", got, want)
	}
}

// TestOSvWord: words are in quotes where OSv would take them for several, or
// for none.
func TestOSvWord(t *testing.T) {
	for word, want := range map[string]string{
		"/a.so": "/a.so", "--b=c$D": "--b=c$D", "": `""`, "a b": `"a b"`, "a;b": `"a;b"`, "a&b": `"a&b"`, "!": `"!"`,
		`a"b`: `"a\"b"`, `a\b`: `"a\\b"`, "a\nb": `"a\nb"`, "a\tb": "\"a\tb\"",
	} {
		if got := disk.OSvWord(word); got != want {
			t.Errorf("%q: %s, want %s", word, got, want)
		}
	}
	if got, want := disk.OSvOption("cwd", "/a b"), `--cwd=/a\ b`; got != want {
		t.Errorf("OSvOption: %s, want %s", got, want)
	}
}

// FuzzOpen: no file makes the readers fail otherwise than by an error, or
// take long.
func FuzzOpen(f *testing.F) {
	raw := disktest.BIOS("/hello.so", false)[:256<<10]
	f.Add(raw[:2048])
	for _, kind := range kinds[1:] {
		if kind.name == "qcow2 large clusters" || kind.name == "vdi static" {
			continue // too large to change at random
		}
		b, err := os.ReadFile(convert(f, raw, kind.args...))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := disk.Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		d.Check()
		d.ReadBoot()
		head := make([]byte, disk.HeadSize)
		d.ReadAt(head, 0)
		d.ReadAt(head, d.Size-100)
	})
}

// FuzzArchives: no file makes the search for a disk in an archive fail
// otherwise than by an error, or take long.
func FuzzArchives(f *testing.F) {
	f.Add([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"))
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range []string{"m.ovf", "m-disk1.vmdk", "m.mf"} {
		if err := errors.Join(w.WriteHeader(&tar.Header{Name: name, Size: 3}), second(w.Write([]byte("abc")))); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		inside, err := disk.InOVA(bytes.NewReader(b), int64(len(b)))
		if err == nil && inside != nil {
			disk.Open(inside, inside.Size())
		}
		disk.InTarGz(bytes.NewReader(b), int64(len(b)))
	})
}

func second[T any](_ T, err error) error { return err }
