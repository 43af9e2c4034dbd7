//go:build linux

package bench

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

const (
	exportSize   = 1 << 30 // bytes of the image's files
	exportMemory = 100     // MB that an export may take
)

// BenchmarkExport exports an image of 1 GiB, which compresses to about half, as
// a disk, and in turn has qemu-img convert the same disk from raw to the same
// format. It reports medians, in milliseconds, and the memory that an export
// takes. The root is there already, as after the first export or run;
// how long it takes with the root made anew is told apart.
//
// qemu-img does not wait until what it wrote is on the disk, nor does capstan.
func BenchmarkExport(b *testing.B) {
	capstan := capstanBinary(b)
	dir := b.TempDir()
	root, raw := filepath.Join(dir, "root"), filepath.Join(dir, "disk.raw")
	export := func(path, format string) *exec.Cmd {
		return exec.Command(capstan, "--root", root, "export", "big", "--force", "--format", format, "-o", path)
	}
	buildBig(b, capstan, root, filepath.Join(dir, "context"))
	timed(b, export(raw, "raw"))
	for _, f := range []struct {
		name, limit string
		qemu        []string
	}{
		{"qcow2", "1.2", []string{"-O", "qcow2"}},
		{"vmdk-stream", "1.0", []string{"-O", "vmdk", "-o", "subformat=streamOptimized"}},
	} {
		b.Run(f.name, func(b *testing.B) {
			var ours, whole, qemus, ratio, wholeRatio, memory []float64
			// watched exports, and sees how much memory that takes.
			watched := func(path string) float64 {
				cmd := export(path, f.name)
				ms := timed(b, cmd)
				mb := float64(cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss) / 1024
				if memory = append(memory, mb); mb > exportMemory {
					b.Errorf("an export took %.0f MB of memory, more than %d", mb, exportMemory)
				}
				return ms
			}
			path, theirs := filepath.Join(dir, "ours"), filepath.Join(dir, "theirs")
			for range b.N {
				o := watched(path)
				remove(b, path) // as what was written before the export is gone when it begins
				q := timed(b, exec.Command("qemu-img", slices.Concat([]string{"convert", "-f", "raw"}, f.qemu, []string{raw, theirs})...))
				ours, qemus, ratio = append(ours, o), append(qemus, q), append(ratio, o/q)
				remove(b, theirs, filepath.Join(root, "roots"))
				w := watched(path)
				whole, wholeRatio = append(whole, w), append(wholeRatio, w/q)
				remove(b, path)
			}
			b.ReportMetric(0, "ns/op") // which would be the sum of all of these
			reportMedians(b, []metric{
				{"ms-capstan-export", ours},
				{"ms-capstan-export-with-flattening", whole},
				{"ms-qemu-img-convert", qemus},
				{"capstan/qemu-img(limit:" + f.limit + ")", ratio},
				{"with-flattening/qemu-img", wholeRatio},
				{fmt.Sprintf("MB-memory(limit:%d)", exportMemory), memory},
			})
		})
	}
}

// metric is what is reported of some values.
type metric struct {
	unit   string
	values []float64
}

func reportMedians(b *testing.B, metrics []metric) {
	for _, m := range metrics {
		slices.Sort(m.values)
		b.ReportMetric(m.values[len(m.values)/2], m.unit)
	}
}

func remove(b *testing.B, paths ...string) {
	b.Helper()
	for _, path := range paths {
		if err := os.RemoveAll(path); err != nil {
			b.Fatal(err)
		}
	}
}

// buildBig builds the image: files of 16 MiB.
func buildBig(b *testing.B, capstan, root, context string) {
	b.Helper()
	const file = 16 << 20
	data := make([]byte, file)
	for i := range exportSize / file {
		halved(rand.New(rand.NewPCG(uint64(i), 1)), data)
		path := filepath.Join(context, "data", fmt.Sprint(i))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(context, "Capstanfile"), []byte("cmdline: /data/0\nfiles: {/data: data}\n"), 0o644); err != nil {
		b.Fatal(err)
	}
	timed(b, exec.Command(capstan, "--root", root, "build", "big", context))
	remove(b, context)
}
