// Package cloudtest is what measuring pushes to any cloud takes: a disk, and a
// cloud that answers at once.
package cloudtest

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"capstan/internal/image/disk/compose"
)

// DiskSize and Content are how large a disk is, and how much is on it. No push
// of it is to send more than Most.
const (
	DiskSize = 20 << 30
	Content  = 200e6
	Most     = 220e6
)

// Random is content that does not get smaller.
func Random(testing.TB) io.Reader { return rand.NewChaCha8([32]byte{}) }

// Programs is content that gets smaller, as that of most images: Go's own tools.
func Programs(t testing.TB) io.Reader {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(runtime.GOROOT(), "pkg", "tool", "*", "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("finding Go's tools: %q, %v", files, err)
	}
	return &repeated{files: files}
}

// repeated is some files, again and again.
type repeated struct {
	files []string
	next  int
	open  *os.File
}

func (r *repeated) Read(p []byte) (int, error) {
	if r.open == nil {
		f, err := os.Open(r.files[r.next%len(r.files)])
		if err != nil {
			return 0, err
		}
		r.open, r.next = f, r.next+1
	}
	n, err := r.open.Read(p)
	if errors.Is(err, io.EOF) {
		err = r.open.Close()
		r.open = nil
	}
	return n, err
}

// Disk is a disk with that on it, in whole units.
func Disk(t testing.TB, unit int64, content io.Reader) (*compose.Disk, compose.Layout) {
	t.Helper()
	root, err := os.Create(filepath.Join(t.TempDir(), "root"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	if _, err := io.CopyN(root, content, Content); err != nil {
		t.Fatal(err)
	}
	d := &compose.Disk{Size: DiskSize, Unit: unit, Kernel: make([]byte, 6<<20), Config: []byte("{}"), Root: root, RootSize: Content}
	rand.NewChaCha8([32]byte{1}).Read(d.Kernel)
	l, err := d.Layout()
	if err != nil {
		t.Fatal(err)
	}
	return d, l
}

// Server answers at once, and counts what it is sent.
type Server struct {
	URL string

	received, meanwhile atomic.Int64
	composing           atomic.Bool
}

// Serve starts a server that ends with the test. Answer is called once the
// body has come, of which it can see each part by watch, unless that is nil.
func Serve(t testing.TB, watch io.Writer, answer http.HandlerFunc) *Server {
	s := &Server{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		composing := s.composing.Load()
		to := io.Discard
		if watch != nil {
			to = watch
		}
		n, _ := io.Copy(to, r.Body) // one that is cut is not answered
		s.received.Add(n)
		if composing {
			s.meanwhile.Add(n)
		}
		answer(w, r)
	}))
	t.Cleanup(server.Close)
	s.URL = server.URL
	return s
}

// Composing notes that a disk is being written as long as write runs.
func (s *Server) Composing(write func() error) error {
	s.composing.Store(true)
	defer s.composing.Store(false)
	return write()
}

// Check holds that a push of a disk sends no more than what is on it, and most
// of that while the disk is composed.
func (s *Server) Check(t testing.TB, push func() error) {
	t.Helper()
	s.received.Store(0)
	s.meanwhile.Store(0)
	if err := push(); err != nil {
		t.Fatal(err)
	}
	if sent, meanwhile := s.received.Load(), s.meanwhile.Load(); sent == 0 || sent > Most || meanwhile < sent/2 {
		t.Errorf("%d bytes are sent, %d of them while the disk is composed", sent, meanwhile)
	}
}

// Measure measures pushes of a disk with so much on it.
func (s *Server) Measure(b *testing.B, push func() error) {
	b.SetBytes(DiskSize)
	resetPeak()
	for b.Loop() {
		s.Check(b, push)
	}
	b.ReportMetric(float64(s.received.Load())/1e6, "MB-sent/op")
	b.ReportMetric(Content*float64(b.N)/1e6/b.Elapsed().Seconds(), "MB-content/s")
	if mib := peak(); mib > 0 {
		b.ReportMetric(mib, "MiB-peak")
	}
}

// resetPeak lets Linux measure this process's peak memory anew (proc(5),
// clear_refs).
func resetPeak() { _ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) } // elsewhere none is measured

// peak is the most memory that this process has had, the server's among it; 0
// where that is not known.
func peak() float64 {
	status, _ := os.ReadFile("/proc/self/status")
	_, said, _ := strings.Cut(string(status), "VmHWM:")
	var kib float64
	_, _ = fmt.Sscan(said, &kib)
	return kib / 1024
}
