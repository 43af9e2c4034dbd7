//go:build linux

package bench

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

const (
	baseFiles    = 1024
	baseFileSize = 1 << 20
)

// BenchmarkRebuild builds an image on a base of 1 GB, again after one file has
// changed. It reports the median in milliseconds.
func BenchmarkRebuild(b *testing.B) {
	capstan := capstanBinary(b)
	dir := b.TempDir()
	root, base, app := filepath.Join(dir, "root"), filepath.Join(dir, "base"), filepath.Join(dir, "app")
	for _, d := range []string{base, app} {
		if err := os.Mkdir(d, 0o755); err != nil {
			b.Fatal(err)
		}
	}
	rng, data := rand.New(rand.NewPCG(1, 0)), make([]byte, baseFileSize)
	for i := range baseFiles {
		halved(rng, data)
		write(b, filepath.Join(base, fmt.Sprintf("file%d", i)), data, 0o644)
	}
	timed(b, exec.Command(capstan, "--root", root, "build", "--from", base, "base"))
	if err := os.RemoveAll(base); err != nil {
		b.Fatal(err)
	}
	write(b, filepath.Join(app, "Capstanfile"), []byte("base: base\ncmdline: /app\nfiles:\n  /app: app\n"), 0o644)
	var rebuilds []float64
	for n := range b.N + 1 {
		write(b, filepath.Join(app, "app"), fmt.Appendf(nil, "program %d", n), 0o755)
		took := timed(b, exec.Command(capstan, "--root", root, "build", "app", app))
		if n > 0 { // the first is no rebuild
			rebuilds = append(rebuilds, took)
		}
	}
	b.ReportMetric(0, "ns/op") // which would hold the base's making
	slices.Sort(rebuilds)
	b.ReportMetric(rebuilds[len(rebuilds)/2], "ms-rebuild(limit:1000)")
}
