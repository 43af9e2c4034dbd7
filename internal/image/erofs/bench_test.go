package erofs_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"capstan/internal/image/erofs"
)

// Variables that make the test binary write an image and end: what it takes
// is then measured as that of a process of its own.
const (
	envTar     = "EROFS_TEST_TAR"     // a file, or "-" for a generated tree
	envImage   = "EROFS_TEST_IMAGE"   // a file, or "-" for nothing
	envEntries = "EROFS_TEST_ENTRIES" // of the generated tree
)

func TestMain(m *testing.M) {
	if name := os.Getenv(envTar); name != "" {
		if err := child(name, os.Getenv(envImage)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

type discard struct{}

func (discard) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// child writes an image, and says how large its content was and, on Linux,
// how much memory it took.
func child(tarName, imageName string) error {
	var out io.WriterAt = discard{}
	if imageName != "-" {
		f, err := os.Create(imageName)
		if err != nil {
			return err
		}
		defer f.Close()
		out = f
	}
	w := erofs.Create(out, erofs.Options{})
	if err := fill(w, tarName); err != nil {
		return err
	}
	if _, err := w.Close(); err != nil {
		return err
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	_, err = os.Stdout.Write(status)
	return err
}

// fill puts a tar, or the generated tree, into an image.
func fill(w *erofs.Writer, tarName string) error {
	if tarName != "-" {
		f, err := os.Open(tarName)
		if err != nil {
			return err
		}
		defer f.Close()
		return w.AddTar(bufio.NewReaderSize(f, 1<<17))
	}
	var entries int
	if _, err := fmt.Sscan(os.Getenv(envEntries), &entries); err != nil {
		return err
	}
	var size int64
	err := typicalTree(entries, func(hdr *tar.Header, r io.Reader) error {
		size += hdr.Size
		return w.AddTarEntry(hdr, r)
	})
	fmt.Println("content:", size)
	return err
}

// typicalTree makes a tree like that of a large image: of its files, half are
// smaller than 4 KiB, 3 % larger than 100 KiB, and the mean is 36 KB.
func typicalTree(entries int, add func(*tar.Header, io.Reader) error) error {
	rng := rand.New(rand.NewPCG(1, 1))
	noise := make([]byte, 8<<20)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	const inDir = 20
	dir := ""
	for i := range entries {
		hdr := &tar.Header{
			Typeflag: tar.TypeReg,
			Mode:     0o644,
			ModTime:  time.Unix(1.7e9+int64(i), 0),
		}
		size := int64(0)
		switch k := rng.IntN(1000); {
		case i%inDir == 0:
			dir = fmt.Sprintf("usr/lib/python3/dist-packages/package%d/module%d/", i/inDir/40, i/inDir)
			hdr.Typeflag, hdr.Name = tar.TypeDir, dir
		case k < 80:
			hdr.Typeflag, hdr.Linkname = tar.TypeSymlink, "../../some/other/file"
		case k < 540:
			size = rng.Int64N(4096)
		case k < 970:
			size = 4096 + rng.Int64N(36<<10)
		case k < 999:
			size = 100<<10 + rng.Int64N(1200<<10)
		default:
			size = 4<<20 + rng.Int64N(8<<20)
		}
		if hdr.Name == "" {
			hdr.Name = fmt.Sprintf("%sfile_number_%d.py", dir, i)
		}
		hdr.Size = size
		if err := add(hdr, &loop{noise, rng.IntN(len(noise)), size}); err != nil {
			return err
		}
	}
	return nil
}

// loop reads left bytes from b, round and round.
type loop struct {
	b    []byte
	at   int
	left int64
}

func (l *loop) Read(p []byte) (int, error) {
	if l.left == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(int64(len(p)), l.left)], l.b[l.at:])
	l.at = (l.at + n) % len(l.b)
	l.left -= int64(n)
	return n, nil
}

// command runs a prepared process and gives its time and its peak of memory
// in bytes. What the system says of a child counts this process's memory at
// the start too, so what the child says of itself comes first.
func command(t testing.TB, cmd *exec.Cmd) (time.Duration, int64) {
	t.Helper()
	start := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(start)
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	if peak := field(out, "VmHWM: %d kB"); peak > 0 {
		return took, peak << 10
	}
	return took, maxRSS(cmd.ProcessState)
}

// field finds the number in the line that has the given form, else 0.
func field(lines []byte, form string) (n int64) {
	for line := range bytes.Lines(lines) {
		if _, err := fmt.Sscanf(string(line), form, &n); err == nil {
			return n
		}
	}
	return 0
}

// writer is the test binary as a process that writes an image.
func writer(t testing.TB, env ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), env...)
	return cmd
}

// BenchmarkWrite writes an image of 1.6 GB from a tar, mkfs.erofs one from the
// same tree unpacked, and dd a copy of the tar, by turns. All input is in the
// page cache. The copy shows what the place where the files lie can take: set
// TMPDIR to choose another. They need 5 GB.
func BenchmarkWrite(b *testing.B) {
	need(b, "erofs-utils", "mkfs.erofs")
	dir := b.TempDir()
	name := filepath.Join(dir, "tree.tar")
	size := writeTypical(b, name, 45000)
	unpacked := filepath.Join(dir, "tree")
	if err := os.Mkdir(unpacked, 0o755); err != nil {
		b.Fatal(err)
	}
	run(b, "tar", "tar", "-xf", name, "-C", unpacked)
	img := filepath.Join(dir, "image")

	type result struct {
		time   time.Duration
		memory int64
		image  int64
	}
	var ours, theirs, copied result
	measure := func(r *result, cmd *exec.Cmd) {
		took, memory := command(b, cmd)
		r.time, r.memory = r.time+took, max(r.memory, memory)
		info, err := os.Stat(img)
		if err != nil {
			b.Fatal(err)
		}
		r.image = info.Size()
		if err := os.Remove(img); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		measure(&ours, writer(b, envTar+"="+name, envImage+"="+img))
		measure(&theirs, exec.Command("mkfs.erofs", "--quiet", img, unpacked))
		measure(&copied, exec.Command("dd", "if="+name, "of="+img, "bs=1M", "status=none"))
	}
	report := func(who string, r result) {
		b.ReportMetric(float64(size)*float64(b.N)/1e6/r.time.Seconds(), who+"-MB/s")
		if who != "copy" {
			b.ReportMetric(float64(r.memory)/1e6, who+"-peak-MB")
			b.ReportMetric(float64(r.image)/1e6, who+"-image-MB")
		}
	}
	report("capstan", ours)
	report("mkfs", theirs)
	report("copy", copied)
}

// writeTypical writes typicalTree as a tar and gives the sum of its files.
func writeTypical(t testing.TB, name string, entries int) (size int64) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	buf := bufio.NewWriterSize(f, 1<<20)
	tw := tar.NewWriter(buf)
	err = typicalTree(entries, func(hdr *tar.Header, r io.Reader) error {
		size += hdr.Size
		if err := tw.WriteHeader(hdr); err != nil {
			return err
		}
		_, err := io.Copy(tw, r)
		return err
	})
	for _, err := range []error{err, tw.Close(), buf.Flush()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return size
}
