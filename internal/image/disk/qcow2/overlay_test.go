package qcow2

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// qemuImg runs the judge of the format.
func qemuImg(t *testing.T, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath("qemu-img"); err != nil {
		t.Fatal("qemu-img is missing: apt-get install qemu-utils")
	}
	out, err := exec.Command("qemu-img", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("qemu-img %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func TestOverlay(t *testing.T) {
	base := bytes.Repeat([]byte("0123456789abcdef"), 3<<20/16)
	head := bytes.Repeat([]byte{'h'}, 1000)
	for name, tt := range map[string]struct {
		format string
		size   int64
		head   []byte
	}{
		"empty":        {"raw", int64(len(base)), nil},
		"with a head":  {"raw", int64(len(base)), head},
		"larger":       {"raw", 10 << 30, head},
		"very large":   {"raw", 40 << 40, head},
		"on qcow2":     {"qcow2", int64(len(base)), head},
		"on vdi":       {"vdi", int64(len(base)), nil},
		"on VHD":       {"vpc", int64(len(base)), nil},
		"with a whole": {"raw", int64(len(base)), base[:HeadSize]},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			raw, backing, overlay := filepath.Join(dir, "raw"), filepath.Join(dir, "base.disk"), filepath.Join(dir, "disk.qcow2")
			if err := os.WriteFile(raw, base, 0o600); err != nil {
				t.Fatal(err)
			}
			qemuImg(t, "convert", "-f", "raw", "-O", tt.format, raw, backing)
			var b bytes.Buffer
			if err := (Overlay{Size: tt.size, Backing: "base.disk", Format: tt.format, Head: tt.head}).Write(&b); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(overlay, b.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			qemuImg(t, "check", overlay)
			var info struct {
				Size    int64  `json:"virtual-size"`
				Backing string `json:"full-backing-filename"`
				Format  string `json:"backing-filename-format"`
			}
			if err := json.Unmarshal(qemuImg(t, "info", "--output=json", overlay), &info); err != nil {
				t.Fatal(err)
			}
			if info.Size != tt.size || info.Backing != backing || info.Format != tt.format {
				t.Errorf("qemu-img info: %+v", info)
			}
			if tt.size > 1<<30 {
				return // what follows would write all of it
			}
			qemuImg(t, "convert", "-O", "raw", overlay, raw)
			got, err := os.ReadFile(raw)
			if err != nil {
				t.Fatal(err)
			}
			want := bytes.Clone(base)
			if tt.head != nil {
				clear(want[:HeadSize])
				copy(want, tt.head)
			}
			if !bytes.Equal(got, want) {
				t.Error("the overlay does not read as its backing file with the head in front")
			}
		})
	}
}

func TestOverlayBounds(t *testing.T) {
	for name, o := range map[string]Overlay{
		"no size":   {Backing: "b", Format: "raw"},
		"too large": {Backing: "b", Format: "raw", Size: 1 << 62},
		"long head": {Backing: "b", Format: "raw", Size: 1 << 20, Head: make([]byte, HeadSize+1)},
		"long name": {Backing: strings.Repeat("b", 1024), Format: "raw", Size: 1 << 20},
	} {
		if err := o.Write(&bytes.Buffer{}); err == nil {
			t.Errorf("%s: written", name)
		}
	}
}
