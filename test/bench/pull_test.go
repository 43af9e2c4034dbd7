//go:build linux

package bench

import (
	"archive/tar"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/klauspost/compress/gzip"

	"capstan/internal/repo/registrytest"
)

const (
	pullLayers = 8
	pullSize   = 500 << 20 // bytes of all layers, as the registry has them
	pullMemory = 150       // MB that a pull may take
)

// BenchmarkPull pulls an image of 500 MB in 8 layers from a registry on this
// machine, ready to boot, and in turn has crane pull it and mkfs.erofs make a
// file system of what it holds. Unpacking, which is part of the first, is not
// counted in the second. It reports medians, in milliseconds, and the most
// memory that a pull took.
//
// The layers are of 500 MB as the registry has them, compressed by gzip: of
// bytes that cannot be compressed, and of such that it makes half of, so that
// there is a gigabyte to unpack.
func BenchmarkPull(b *testing.B) {
	capstan := capstanBinary(b)
	crane := registrytest.Crane(b)
	for name, fill := range map[string]func(*rand.Rand, []byte){"dense": dense, "halved": halved} {
		b.Run(name, func(b *testing.B) { pull(b, capstan, crane, fill) })
	}
}

func pull(b *testing.B, capstan, crane string, fill func(*rand.Rand, []byte)) {
	reg := registrytest.Start(b, registrytest.Options{})
	dir := b.TempDir()
	ref := reg.Host + "/bench/app:1"
	pushBig(b, dir, ref, fill)
	var ours, cranes, mkfs, ratio, memory []float64
	for range b.N {
		root := filepath.Join(dir, "root")
		cmd := exec.Command(capstan, "--root", root, "pull", "--quiet", ref)
		o := timed(b, cmd)
		memory = append(memory, float64(cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss)/1024)
		if mb := memory[len(memory)-1]; mb > pullMemory {
			b.Errorf("a pull took %.0f MB of memory, more than %d", mb, pullMemory)
		}
		archive, image, tree := filepath.Join(dir, "crane.tar"), filepath.Join(dir, "mkfs.erofs"), filepath.Join(dir, "tree")
		c := timed(b, exec.Command(crane, "pull", ref, archive))
		timed(b, exec.Command("sh", "-c", `mkdir "$3" && "$1" export "$2" - | tar -x -C "$3"`, "sh", crane, ref, tree))
		m := timed(b, exec.Command("mkfs.erofs", "--quiet", image, tree))
		ours, cranes, mkfs, ratio = append(ours, o), append(cranes, c), append(mkfs, m), append(ratio, o/(c+m))
		for _, path := range []string{root, archive, image, tree} {
			if err := os.RemoveAll(path); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(0, "ns/op") // which would be the sum of all of these
	reportMedians(b, []metric{
		{"ms-capstan-pull", ours},
		{"ms-crane-pull", cranes},
		{"ms-mkfs.erofs", mkfs},
		{"capstan/(crane+mkfs.erofs)(limit:1.2)", ratio},
		{"MB-memory(limit:150)", memory},
	})
}

// timed runs a command with the disk at rest, and returns the milliseconds it
// took.
func timed(b *testing.B, cmd *exec.Cmd) float64 {
	b.Helper()
	syscall.Sync()
	start := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%s: %v: %s", strings.Join(cmd.Args, " "), err, out)
	}
	return float64(time.Since(start).Microseconds()) / 1000
}

// pushBig makes the image.
func pushBig(b *testing.B, dir, ref string, fill func(*rand.Rand, []byte)) {
	b.Helper()
	var layers []v1.Layer
	for i := range pullLayers {
		path := filepath.Join(dir, fmt.Sprintf("layer%d.tar.gz", i))
		if err := writeLayer(path, i, pullSize/pullLayers, fill); err != nil {
			b.Fatal(err)
		}
		layer, err := tarball.LayerFromFile(path)
		if err != nil {
			b.Fatal(err)
		}
		layers = append(layers, layer)
	}
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		b.Fatal(err)
	}
	n, err := name.ParseReference(ref)
	if err == nil {
		err = remote.Write(n, img)
	}
	if err != nil {
		b.Fatal(err)
	}
}

// writeLayer writes a layer of about size compressed bytes: files of up to
// 2 MB.
func writeLayer(path string, seed int, size int64, fill func(*rand.Rand, []byte)) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	zw, err := gzip.NewWriterLevel(f, gzip.BestSpeed)
	if err != nil {
		return err
	}
	tw := tar.NewWriter(zw)
	rng := rand.New(rand.NewPCG(uint64(seed), 0))
	for i := 0; ; i++ {
		if at, err := f.Seek(0, io.SeekCurrent); err != nil || at >= size {
			return errors.Join(err, tw.Close(), zw.Close())
		}
		data := make([]byte, 1<<(8+rng.IntN(13))+rng.IntN(4000))
		fill(rng, data)
		h := &tar.Header{Name: fmt.Sprintf("usr/lib/layer%d/%d/file%d", seed, i/100, i), Mode: 0o644, Size: int64(len(data))}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		if _, err := tw.Write(data); err != nil {
			return err
		}
	}
}

// dense fills data with bytes that cannot be compressed.
func dense(rng *rand.Rand, data []byte) {
	for at := 0; at < len(data); at += 8 {
		var word [8]byte
		binary.LittleEndian.PutUint64(word[:], rng.Uint64())
		copy(data[at:], word[:])
	}
}

// halved fills data with new bytes and with some that came before.
func halved(rng *rand.Rand, data []byte) {
	for at := 0; at < len(data); {
		n := min(16+rng.IntN(32), len(data)-at)
		if from := at - 1 - rng.IntN(1<<12); from >= 0 && rng.IntN(2) == 0 {
			n = copy(data[at:at+n], data[from:at])
		} else {
			dense(rng, data[at:at+n])
		}
		at += n
	}
}

// capstanBinary returns the path of the capstan to measure.
func capstanBinary(b *testing.B) string {
	b.Helper()
	path := os.Getenv("CAPSTAN_BIN")
	if path == "" {
		path = filepath.Join("..", "..", "bin", "capstan")
	}
	path, err := filepath.Abs(path)
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		b.Fatalf("there is no capstan binary: %v (make builds it, CAPSTAN_BIN names another)", err)
	}
	return path
}
