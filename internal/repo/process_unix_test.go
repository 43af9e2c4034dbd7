//go:build unix

package repo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// The tests of this file start the test binary again, as a worker that uses
// the store named in the environment.
const (
	envRoot  = "CAPSTAN_TEST_ROOT"
	envSeed  = "CAPSTAN_TEST_SEED"
	envSteps = "CAPSTAN_TEST_STEPS"
)

// TestWorker does nothing unless it was started by another test.
func TestWorker(t *testing.T) {
	if os.Getenv(envRoot) == "" {
		return
	}
	seed, err := strconv.ParseUint(os.Getenv(envSeed), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	steps, err := strconv.Atoi(os.Getenv(envSteps))
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(os.Getenv(envRoot))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("ready")
	w := worker{t: t, s: s, rnd: rand.New(rand.NewPCG(seed, 0)), dir: t.TempDir()}
	for range steps {
		if err := w.step(t.Context()); err != nil && !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
	}
}

// worker does random things to a store, with few names and layers, so that
// workers meet.
type worker struct {
	t   *testing.T
	s   *Store
	rnd *rand.Rand
	dir string
	n   int
}

func (w *worker) step(ctx context.Context) error {
	w.n++
	name := mustName(w.t, fmt.Sprint("image", w.rnd.IntN(6)))
	switch w.rnd.IntN(10) {
	case 0, 1:
		_, err := w.s.Put(ctx, name, testImage(w.t, w.rnd.IntN(4), w.rnd.IntN(4)))
		return err
	case 2, 3:
		return w.build(ctx, name)
	case 4:
		_, err := w.s.Remove(ctx, name.String(), RemoveOptions{})
		return err
	case 5:
		_, err := w.s.Prune(ctx, PruneOptions{Roots: w.rnd.IntN(4) == 0})
		return err
	case 6:
		return w.s.Tag(ctx, name.String(), mustName(w.t, fmt.Sprint("image", w.rnd.IntN(6))))
	case 7, 8:
		return w.root(ctx, name)
	}
	if p := w.s.Check(ctx, false); len(p) > 0 {
		return fmt.Errorf("Check: %+v", p)
	}
	_, err := w.s.List(ctx)
	return err
}

// build makes an image upon another one of the store, as a Capstanfile does.
func (w *worker) build(ctx context.Context, name Name) error {
	out, err := w.s.LayerWriter(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }()
	if _, err := out.Write(layerData(10 + w.rnd.IntN(4))); err != nil {
		return err
	}
	layer, err := out.Commit()
	if err != nil {
		return err
	}
	img, err := mutate.AppendLayers(testImage(w.t, w.rnd.IntN(4)), layer)
	if err != nil {
		return err
	}
	e, err := w.s.Put(ctx, name, img)
	if err != nil {
		return err
	}
	return w.s.PutBuildRecord(ctx, strconv.Itoa(w.rnd.IntN(8)), e.Digest)
}

func (w *worker) root(ctx context.Context, name Name) error {
	img, e, err := w.s.Image(ctx, name.String())
	if err != nil {
		return err
	}
	dst := filepath.Join(w.dir, strconv.Itoa(w.n))
	err = w.s.Root(ctx, e.Digest, dst, func(ctx context.Context, f *os.File) error {
		if err := readLayers(img); err != nil {
			return err
		}
		_, err := f.WriteString(e.Digest.String())
		return err
	})
	if err != nil {
		return err
	}
	got, err := os.ReadFile(dst)
	if err == nil && string(got) != e.Digest.String() {
		err = fmt.Errorf("root of %s has content %q", e.Digest, got)
	}
	return err
}

// start starts a worker and waits until it begins.
func start(t *testing.T, root string, seed, steps int) (cmd *exec.Cmd, output func() string) {
	t.Helper()
	cmd = exec.Command(os.Args[0], "-test.run=^TestWorker$")
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir(), envRoot+"="+root, fmt.Sprintf("%s=%d", envSeed, seed), fmt.Sprintf("%s=%d", envSteps, steps))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(out)
	if line, err := in.ReadString('\n'); line != "ready\n" {
		t.Fatalf("worker says %q, %v", line, err)
	}
	return cmd, func() string {
		rest, _ := io.ReadAll(in) // ends when the worker is killed
		return string(rest)
	}
}

func TestManyProcesses(t *testing.T) {
	s := testStore(t)
	var wg sync.WaitGroup
	for seed := range 16 {
		cmd, output := start(t, s.root, seed, 30)
		wg.Go(func() {
			text := output()
			if err := cmd.Wait(); err != nil {
				t.Errorf("worker %d: %v: %s", seed, err, text)
			}
		})
	}
	wg.Wait()
	healthy(t, s)
	clean(t, s)
	if rep, err := s.Prune(t.Context(), PruneOptions{}); err != nil || rep.Blobs+rep.Temp+rep.Roots > 0 {
		t.Errorf("a second Prune finds %+v, %v", rep, err)
	}
}

// TestKill kills workers at random moments and looks at the store after each.
func TestKill(t *testing.T) {
	s := testStore(t)
	rounds := 40
	if testing.Short() {
		rounds = 10
	}
	temp := 0
	for round := range rounds {
		killed := kill(t, s, round)
		for _, text := range killed {
			if strings.Contains(text, "FAIL") {
				t.Fatalf("round %d: a worker failed before it was killed: %s", round, text)
			}
		}
		healthy(t, s)
		if err := imagesReadable(t.Context(), s); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if round%10 == 9 {
			rep, err := s.Prune(t.Context(), PruneOptions{})
			if err != nil {
				t.Fatal(err)
			}
			temp += rep.Temp
			clean(t, s)
		}
		if _, err := s.Put(t.Context(), mustName(t, "after"), testImage(t, round)); err != nil {
			t.Fatalf("round %d: the next Put: %v", round, err)
		}
	}
	if temp == 0 {
		t.Error("no kill left anything behind: they hit nothing")
	}
}

// kill starts two workers and kills them, each a random time after it began.
// It returns what they printed.
func kill(t *testing.T, s *Store, round int) (texts []string) {
	t.Helper()
	var workers []*exec.Cmd
	var outputs []func() string
	for i := range 2 {
		cmd, output := start(t, s.root, 1000+2*round+i, 1<<30)
		workers, outputs = append(workers, cmd), append(outputs, output)
	}
	for i, cmd := range workers {
		time.Sleep(time.Duration(rand.Int64N(int64(60 * time.Millisecond))))
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		texts = append(texts, outputs[i]())
		var exit *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Errorf("worker ended with %v", err)
		}
	}
	return texts
}

func imagesReadable(ctx context.Context, s *Store) error {
	list, err := s.List(ctx)
	if err != nil {
		return err
	}
	for _, e := range list {
		var img v1.Image
		if img, _, err = s.Image(ctx, e.Name.String()); err == nil {
			err = readLayers(img)
		}
		if err != nil {
			return fmt.Errorf("image %s: %w", e.Name, err)
		}
	}
	return nil
}
