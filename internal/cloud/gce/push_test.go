package gce

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"capstan/internal/cloud/gce/gcetest"
	tarball "capstan/internal/image/disk/gce"
)

// content is what is on a test's disk, at these offsets: more than one piece
// of random bytes, which do not get smaller.
var content = func() map[int64][]byte {
	random := rand.NewChaCha8([32]byte{5})
	all := map[int64][]byte{0: make([]byte, 4096), 100 << 20: make([]byte, 9<<20), 1<<30 - 512: make([]byte, 512)}
	for _, at := range []int64{0, 100 << 20, 1<<30 - 512} {
		random.Read(all[at])
	}
	return all
}()

const diskSize = 1 << 30

func writeContent(w io.WriterAt) error {
	for _, at := range []int64{0, 100 << 20, 1<<30 - 512} {
		if _, err := w.WriteAt(content[at], at); err != nil {
			return err
		}
	}
	return nil
}

func testPush() *Push {
	sum := sha256.Sum256(content[0])
	return &Push{
		Name: "web", Image: "registry.example/Team/web:1.0", Digest: "sha256:" + strings.Repeat("ab", 32), Arch: "amd64", Disk: hex.EncodeToString(sum[:]),
		Archive: func(ctx context.Context, w io.Writer) error { return tarball.Write(w, diskSize, writeContent) },
	}
}

// open opens a client of a cloud that is this test's own.
func open(t *testing.T, cloud *gcetest.Cloud, opts Options) *Client {
	t.Helper()
	for _, kv := range cloud.Env(t) {
		k, v, _ := strings.Cut(kv, "=")
		t.Setenv(k, v)
	}
	opts.Version, opts.Progress = "v1.2-3_x", func(string, int64, int64) {}
	if opts.State == "" {
		opts.State = t.TempDir()
	}
	c, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// whole tells whether all that a push is to leave is there, and nothing else.
func whole(t *testing.T, cloud *gcetest.Cloud, c *Client, img Image) {
	t.Helper()
	images, buckets := cloud.Left(t)
	if !slices.Equal(images, []string{img.Name}) || len(buckets) > 0 {
		t.Errorf("images %q, buckets %q", images, buckets)
	}
	files, _ := filepath.Glob(filepath.Join(c.opts.State, "*", "*"))
	files = slices.DeleteFunc(files, func(f string) bool { return f == c.madePath(img.Name)+".made" }) // until the next push
	if len(files) > 0 {
		t.Errorf("left behind here: %q", files)
	}
	disk, err := os.Open(filepath.Join(cloud.Dir, img.Name+".raw"))
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	if info, err := disk.Stat(); err != nil || info.Size() != diskSize {
		t.Errorf("the disk: %v, %v", info, err)
	}
	for at, want := range content {
		got := make([]byte, len(want))
		if _, err := disk.ReadAt(got, at); err != nil || !bytes.Equal(got, want) {
			t.Errorf("the disk is another at %d: %v", at, err)
		}
	}
}

func TestPush(t *testing.T) {
	cloud := gcetest.Start(t)
	c := open(t, cloud, Options{})
	img, err := c.Push(t.Context(), testPush())
	if err != nil {
		t.Fatal(err)
	}
	if img.Found || img.Sent < 9<<20 || img.Sent > 10<<20 || img.Path != "projects/a-project/global/images/"+img.Name {
		t.Errorf("%+v", img)
	}
	whole(t, cloud, c, img)
	cloud.Trouble(nil)
	if img, err = c.Push(t.Context(), testPush()); err != nil || !img.Found || img.Sent != 0 {
		t.Errorf("again: %+v, %v", img, err)
	}
	for _, call := range cloud.Calls() {
		if !strings.HasPrefix(call, "GET ") {
			t.Errorf("again: %s", call)
		}
	}
	other := testPush()
	other.Disk = other.Disk[:20] + strings.Repeat("0", 44)
	var taken *TakenError
	if _, err := c.Push(t.Context(), other); !errors.As(err, &taken) {
		t.Errorf("another disk of the same name: %v", err)
	}
}

// A bucket that is given is used, and stays without the object.
func TestPushByBucket(t *testing.T) {
	cloud := gcetest.Start(t)
	c := open(t, cloud, Options{Bucket: "given"})
	if err := c.do(t.Context(), c.insertBucket("given"), nil); err != nil {
		t.Fatal(err)
	}
	img, err := c.Push(t.Context(), testPush())
	if err != nil {
		t.Fatal(err)
	}
	if images, buckets := cloud.Left(t); len(images) != 1 || !slices.Equal(buckets, []string{"given"}) {
		t.Errorf("images %q, buckets %q", images, buckets)
	}
	if err := c.do(t.Context(), c.removeObject("given", testPush().object()), nil); !is(err, http.StatusNotFound) {
		t.Errorf("the object of %s: %v", img.Name, err)
	}
}

// Calls that fail for a while do no harm.
func TestPushTrouble(t *testing.T) {
	for name, next := range map[string]func(r *http.Request, n int) gcetest.Trouble{
		"throttled a third of the time": func(_ *http.Request, n int) gcetest.Trouble {
			return gcetest.Trouble{Status: map[int]int{0: http.StatusTooManyRequests}[n%3]}
		},
		"more often than the rate allows": func(r *http.Request, n int) gcetest.Trouble {
			if n%3 != 0 {
				return gcetest.Trouble{}
			}
			return gcetest.Trouble{Status: http.StatusForbidden, Reason: "rateLimitExceeded"}
		},
		"bursts": func(_ *http.Request, n int) gcetest.Trouble {
			return gcetest.Trouble{Status: map[bool]int{true: http.StatusBadGateway}[n%9 > 4]}
		},
		"a burst": func(_ *http.Request, n int) gcetest.Trouble {
			return gcetest.Trouble{Status: map[bool]int{true: http.StatusServiceUnavailable}[n >= 4 && n < 8]}
		},
		"answers that are lost": func(_ *http.Request, n int) gcetest.Trouble { return gcetest.Trouble{After: n%2 == 0} },
		"a piece that is cut": func(r *http.Request, n int) gcetest.Trouble {
			return gcetest.Trouble{Cut: map[bool]int64{true: 3<<20 + 5}[r.ContentLength == pieceSize]}
		},
		"a piece that is changed": func() func(*http.Request, int) gcetest.Trouble {
			done := false
			return func(r *http.Request, _ int) gcetest.Trouble {
				flip := r.ContentLength > 1<<20 && !done
				done = done || flip
				return gcetest.Trouble{Flip: flip}
			}
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			cloud := gcetest.Start(t)
			c := open(t, cloud, Options{})
			cloud.Trouble(next)
			img, err := c.Push(t.Context(), testPush())
			cloud.Trouble(nil)
			if err != nil {
				t.Fatal(err)
			}
			whole(t, cloud, c, img)
		})
	}
}

// A push whose connection is cut at any point goes on when it is repeated,
// sends only what is missing, and leaves nothing.
func TestPushCut(t *testing.T) {
	const cuts = 100
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 5))
	cloud := gcetest.Start(t)
	c := open(t, cloud, Options{Tries: 1})
	var archive bytes.Buffer
	if err := testPush().Archive(t.Context(), &archive); err != nil {
		t.Fatal(err)
	}
	for range cuts {
		before := cloud.Sent()
		at, within := 1+random.IntN(11), int64(1+random.IntN(9<<20))
		cloud.Trouble(func(r *http.Request, n int) gcetest.Trouble {
			switch {
			case n < at:
				return gcetest.Trouble{}
			case n == at && r.ContentLength > within:
				return gcetest.Trouble{Cut: within}
			case n == at:
				return gcetest.Trouble{Lost: within%2 == 0, After: within%2 == 1}
			}
			return gcetest.Trouble{Lost: true}
		})
		_, err := c.Push(t.Context(), testPush())
		var cut *CutError
		var left *LeftError
		var lost *lostError
		if err != nil && !errors.As(err, &cut) && !errors.As(err, &left) && !errors.As(err, &lost) {
			t.Fatalf("cut at call %d: %v", at, err)
		}
		cloud.Trouble(nil)
		second, err := c.Push(t.Context(), testPush())
		if err != nil {
			t.Fatalf("after the cut at call %d: %v", at, err)
		}
		// Of a piece that was cut the last 256 KiB may not count.
		if sent := cloud.Sent() - before; sent > int64(archive.Len())+512<<10 {
			t.Errorf("cut at call %d, %d: sent %d bytes of %d", at, within, sent, archive.Len())
		}
		whole(t, cloud, c, second)
		if err := c.drop(t.Context(), testPush()); err != nil {
			t.Fatal(err)
		}
	}
}

// A push that is interrupted at any call leaves nothing.
func TestPushInterrupted(t *testing.T) {
	cloud := gcetest.Start(t)
	c := open(t, cloud, Options{})
	for at := 1; ; at++ {
		ctx, cancel := context.WithCancel(t.Context())
		reached := false
		cloud.Trouble(func(_ *http.Request, n int) gcetest.Trouble {
			if n == at {
				reached = true
				cancel()
			}
			return gcetest.Trouble{}
		})
		img, err := c.Push(ctx, testPush())
		cancel()
		cloud.Trouble(nil)
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("interrupted at call %d: %v", at, err)
		}
		images, buckets := cloud.Left(t)
		if len(buckets) > 0 || len(images) > 0 && err != nil && images[0] != img.Name {
			t.Errorf("interrupted at call %d: images %q, buckets %q, %v", at, images, buckets, err)
		}
		if !reached { // there are no more
			break
		}
		if len(images) > 0 {
			if err := c.drop(t.Context(), testPush()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// An interrupt leaves the image that another host has made meanwhile.
func TestPushInterruptedBeside(t *testing.T) {
	cloud := gcetest.Start(t)
	other, p := open(t, cloud, Options{}), testPush()
	killed(t, other, p)
	c := open(t, cloud, Options{})
	ctx, interrupt := context.WithCancel(t.Context())
	looks := 0
	cloud.Trouble(func(r *http.Request, _ int) gcetest.Trouble {
		if r.Method != "GET" || !strings.HasSuffix(r.URL.Path, "/images/"+p.imageName()) {
			return gcetest.Trouble{}
		}
		if looks++; looks == 1 { // it was not there yet
			return gcetest.Trouble{Status: http.StatusNotFound}
		}
		interrupt()
		return gcetest.Trouble{}
	})
	_, err := c.Push(ctx, p)
	cloud.Trouble(nil)
	if images, _ := cloud.Left(t); !errors.Is(err, context.Canceled) || !slices.Equal(images, []string{p.imageName()}) {
		t.Errorf("%v; the images are %q", err, images)
	}
}

// killed makes a push's image, and leaves what is removed then.
func killed(t *testing.T, c *Client, p *Push) *stage {
	t.Helper()
	lock, err := c.lock(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.stage(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.upload(t.Context(), p, s.Session); err != nil {
		t.Fatal(err)
	}
	var op operation
	if err := c.do(t.Context(), c.insertImage(p, s, requestID()), &op); err != nil {
		t.Fatal(err)
	}
	if err := c.await(t.Context(), "making the image", op); err != nil {
		t.Fatal(err)
	}
	lock.Close()
	return s
}

// What a killed push has left is removed by the next of the same disk. What
// this host knows nothing of may be another's, and is left for prune.
func TestPushKilled(t *testing.T) {
	for name, state := range map[string]bool{"with its notes": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			cloud := gcetest.Start(t)
			c, p := open(t, cloud, Options{}), testPush()
			s := killed(t, c, p)
			if !state {
				if err := s.forget(); err != nil {
					t.Fatal(err)
				}
			}
			img, err := c.Push(t.Context(), p)
			if err != nil || !img.Found {
				t.Errorf("%+v, %v", img, err)
			}
			if !state {
				if _, err := c.prune(t.Context(), false, time.Now().Add(time.Hour)); err != nil {
					t.Fatal(err)
				}
			}
			whole(t, cloud, c, img)
		})
	}
}

// Of two pushes of one disk neither takes away what the other has sent: not
// another host's, and not one under another name, which waits on this host.
func TestPushBeside(t *testing.T) {
	for name, as := range map[string]string{"by another host": "web", "under another name": "other"} {
		t.Run(name, func(t *testing.T) {
			cloud := gcetest.Start(t)
			c, p := open(t, cloud, Options{}), testPush()
			err := os.MkdirAll(c.stages(), 0o700)
			var s *stage
			if err == nil {
				s, err = c.stage(t.Context(), p)
			}
			if err == nil {
				_, err = c.upload(t.Context(), p, s.Session)
			}
			if err != nil {
				t.Fatal(err)
			}
			o, second := open(t, cloud, Options{}), testPush()
			if second.Name = as; as != p.Name {
				o.opts.State = c.opts.State
			}
			for range 2 { // the second time it is found
				if _, err := o.Push(t.Context(), second); err != nil {
					t.Fatal(err)
				}
			}
			if _, buckets := cloud.Left(t); !slices.Equal(buckets, []string{s.Bucket}) {
				t.Fatalf("the buckets are %q, without %s", buckets, s.Bucket)
			}
			img, err := c.Push(t.Context(), p)
			if err != nil || img.Sent > 0 {
				t.Errorf("going on: %+v, %v", img, err)
			}
			if _, buckets := cloud.Left(t); len(buckets) > 0 {
				t.Errorf("left: %q", buckets)
			}
		})
	}
	c := open(t, gcetest.Start(t), Options{})
	lock, err := c.lock(t.Context(), testPush())
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	second := testPush()
	second.Name = "other"
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := c.lock(ended, second); !errors.Is(err, context.Canceled) {
		t.Errorf("a push under another name does not wait: %v", err)
	}
}

// Of two pushes of the same disk at once, the second finds what the first has
// made.
func TestPushTwice(t *testing.T) {
	cloud := gcetest.Start(t)
	c := open(t, cloud, Options{})
	var images [2]Image
	group, ctx := errgroup.WithContext(t.Context())
	for i := range images {
		group.Go(func() (err error) {
			images[i], err = c.Push(ctx, testPush())
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if images[0].Found == images[1].Found || cloud.Sent() != images[0].Sent+images[1].Sent {
		t.Errorf("%+v, with %d bytes sent", images, cloud.Sent())
	}
	whole(t, cloud, c, images[0])
}

// An archive that cannot be written leaves nothing, and is told as it is.
func TestPushNoArchive(t *testing.T) {
	cloud := gcetest.Start(t)
	c, p := open(t, cloud, Options{}), testPush()
	broken := errors.New("the root cannot be read")
	p.Archive = func(_ context.Context, w io.Writer) error { return broken }
	if _, err := c.Push(t.Context(), p); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	if images, buckets := cloud.Left(t); len(images)+len(buckets) > 0 {
		t.Errorf("images %q, buckets %q", images, buckets)
	}
}
