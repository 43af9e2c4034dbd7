package source

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"capstan/internal/capstanfile"
)

func TestFingerprint(t *testing.T) {
	const text = "base: x\nfiles: {/f: f, /g: 'g*'}\n"
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"ROOTFS/a": "1", "ROOTFS/d/b": "2", "ROOTFS/l": "->a", "f": "3", "g1": "4",
		capstanfile.IgnoreName: "/ROOTFS/ignored\n",
	})
	at := func(name string) string { return filepath.Join(dir, filepath.FromSlash(name)) }
	print := func() string {
		return plan(t, dir, text, Options{}).Fingerprint([]byte(text))
	}
	before := print()
	if again := print(); again != before {
		t.Error("nothing changed, but the fingerprint did")
	}
	check := func(what string, change bool, do func() error) {
		t.Helper()
		if err := do(); err != nil {
			t.Fatal(err)
		}
		after := print()
		if (after != before) != change {
			t.Errorf("%s: changed %v, want %v", what, after != before, change)
		}
		before = after
	}
	check("an ignored file", false, func() error { return os.WriteFile(at("ROOTFS/ignored"), nil, 0o644) })
	check("a file that is not named", false, func() error { return os.WriteFile(at("other"), nil, 0o644) })
	check("a file that came and went", false, func() error {
		return errors.Join(os.WriteFile(at("ROOTFS/d/x"), nil, 0o644), os.Remove(at("ROOTFS/d/x")))
	})
	check("content", true, func() error { return os.WriteFile(at("ROOTFS/d/b"), []byte("5"), 0o644) })
	check("content, with the time set back", true, func() error {
		return errors.Join(os.WriteFile(at("ROOTFS/d/b"), []byte("6"), 0o644), os.Chtimes(at("ROOTFS/d/b"), day, day))
	})
	check("a mode", true, func() error { return os.Chmod(at("f"), 0o755) })
	check("a directory's mode", true, func() error { return os.Chmod(at("ROOTFS/d"), 0o700) })
	check("a name", true, func() error { return os.Rename(at("ROOTFS/a"), at("ROOTFS/c")) })
	check("a link", true, func() error {
		return errors.Join(os.Remove(at("ROOTFS/l")), os.Symlink("c", at("ROOTFS/l")))
	})
	check("a new file", true, func() error { return os.WriteFile(at("ROOTFS/n"), nil, 0o644) })
	check("a new match", true, func() error { return os.WriteFile(at("g2"), nil, 0o644) })
	check("a file gone", true, func() error { return os.Remove(at("ROOTFS/n")) })

	l := plan(t, dir, text, Options{})
	if l.Fingerprint([]byte("a"), []byte("b")) == l.Fingerprint([]byte("ab")) {
		t.Error("extras run into each other")
	}
}

// TestChangeAfterReading makes sure that a change right after a file was read
// is seen, however coarse the clock of the file system.
func TestChangeAfterReading(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	for i := range 20 {
		if err := os.WriteFile(name, fmt.Appendf(nil, "%02d", i), 0o644); err != nil {
			t.Fatal(err)
		}
		l := plan(t, dir, "base: x\nfiles: {/f: f}\n", Options{})
		before := l.Fingerprint()
		tarOf(t, l)
		if err := os.WriteFile(name, fmt.Appendf(nil, "%02d", i+50), 0o644); err != nil {
			t.Fatal(err)
		}
		if plan(t, dir, "base: x\nfiles: {/f: f}\n", Options{}).Fingerprint() == before {
			t.Fatalf("round %d: the change is not seen", i)
		}
	}
}

// meddler is a writer that does something when the first bytes arrive.
type meddler struct {
	bytes.Buffer
	do func() error
}

func (m *meddler) Write(p []byte) (int, error) {
	if m.do != nil {
		do := m.do
		m.do = nil
		if err := do(); err != nil {
			return 0, err
		}
	}
	return m.Buffer.Write(p)
}

func TestChangeWhileReading(t *testing.T) {
	tests := []struct {
		name string
		do   func(name string) error
	}{
		{"grows", func(name string) error {
			f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteString("more")
			return errors.Join(err, f.Close())
		}},
		{"shrinks", func(name string) error { return os.Truncate(name, 1<<20) }},
		{"is written to", func(name string) error {
			f, err := os.OpenFile(name, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte("x"), 3<<20)
			return errors.Join(err, f.Close())
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, map[string]string{"f": strings.Repeat("x", 4<<20)})
			l := plan(t, dir, "base: x\nfiles: {/f: f}\n", Options{})
			out := &meddler{do: func() error { return tt.do(filepath.Join(dir, "f")) }}
			err := l.WriteTar(context.Background(), out)
			if !errors.Is(err, errChanged) || !strings.Contains(err.Error(), "reading f: ") {
				t.Errorf("got %v", err)
			}
			noEnd(t, out.Bytes())
		})
	}
}

func TestChangeBeforeReading(t *testing.T) {
	for name, do := range map[string]func(string) error{
		"is removed":                    os.Remove,
		"is touched":                    func(name string) error { return os.Chtimes(name, time.Now(), time.Now()) },
		"becomes a link":                func(name string) error { return errors.Join(os.Remove(name), os.Symlink("other", name)) },
		"becomes a link that leads out": func(name string) error { return errors.Join(os.Remove(name), os.Symlink("/etc/passwd", name)) },
		"becomes a directory":           func(name string) error { return errors.Join(os.Remove(name), os.Mkdir(name, 0o755)) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, map[string]string{"ROOTFS/a": "a", "ROOTFS/f": "text", "ROOTFS/other": "text"})
			l := plan(t, dir, "base: x\n", Options{})
			if err := do(filepath.Join(dir, "ROOTFS", "f")); err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			err := l.WriteTar(context.Background(), &out)
			if err == nil || !strings.Contains(err.Error(), "ROOTFS/f") {
				t.Errorf("got %v", err)
			}
			noEnd(t, out.Bytes())
		})
	}
}

// noEnd makes sure that an archive does not look complete.
func noEnd(t *testing.T, data []byte) {
	t.Helper()
	if len(data) >= 1024 && len(bytes.Trim(data[len(data)-1024:], "\x00")) == 0 {
		t.Error("what was written before the error ends like a whole archive")
	}
}

func TestCancel(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"f": strings.Repeat("x", 1<<20)})
	l := plan(t, dir, "base: x\nfiles: {/f: f}\n", Options{})
	ctx, cancel := context.WithCancel(context.Background())
	out := &meddler{do: func() error { cancel(); return nil }}
	if err := l.WriteTar(ctx, out); !errors.Is(err, context.Canceled) {
		t.Errorf("writing: %v", err)
	}
	if _, err := FromCapstanfile(ctx, dir, parse(t, "base: x\nrootfs: .\n"), Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("planning: %v", err)
	}
}

func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"f": strings.Repeat("x", 1<<20)})
	full := errors.New("no space left on device")
	l := plan(t, dir, "base: x\nfiles: {/f: f}\n", Options{})
	if err := l.WriteTar(context.Background(), &meddler{do: func() error { return full }}); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
}

// manyFiles makes a tree of n small files.
func manyFiles(tb testing.TB, n int) string {
	tb.Helper()
	dir := tb.TempDir()
	for i := range n {
		sub := filepath.Join(dir, "ROOTFS", fmt.Sprintf("d%03d", i/100), fmt.Sprintf("e%d", i/20%5))
		if i%20 == 0 {
			if err := os.MkdirAll(sub, 0o755); err != nil {
				tb.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("f%d", i)), []byte("x"), 0o644); err != nil {
			tb.Fatal(err)
		}
	}
	return dir
}

func BenchmarkFingerprint20000(b *testing.B) {
	dir := manyFiles(b, 20000)
	for b.Loop() {
		plan(b, dir, "base: x\n", Options{}).Fingerprint()
	}
}

func BenchmarkWriteTar(b *testing.B) {
	dir := b.TempDir()
	const size = 256 << 20
	if err := os.WriteFile(filepath.Join(dir, "f"), make([]byte, size), 0o644); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(size)
	for b.Loop() {
		if err := plan(b, dir, "base: x\nfiles: {/f: f}\n", Options{}).WriteTar(context.Background(), io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}

// TestManyFiles makes sure that nothing is lost, and of the order, where
// directories are read at the same time.
func TestManyFiles(t *testing.T) {
	dir := manyFiles(t, 3000)
	r := tar.NewReader(bytes.NewReader(tarOf(t, plan(t, dir, "base: x\n", Options{}))))
	files := 0
	last := ""
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			files++
		}
		if name := strings.TrimSuffix(h.Name, "/"); strings.ReplaceAll(name, "/", "\x00") <= strings.ReplaceAll(last, "/", "\x00") {
			t.Fatalf("%s after %s", name, last)
		} else {
			last = name
		}
	}
	if files != 3000 {
		t.Errorf("%d files", files)
	}
}
