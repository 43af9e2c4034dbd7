package main

import (
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"capstan/internal/repo/registrytest"
)

// TestInterruptedPull interrupts a pull, and kills one, while a layer arrives.
func TestInterruptedPull(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	w := newWorld(t)
	w.env = append(w.env, "CAPSTAN_OFFLINE=false")
	w.write("tree/motd", "hello")
	w.must("build", "--from", "tree", "app")
	w.must("push", "app", reg.Host+"/app")
	w.must("rmi", "app")
	var mu sync.Mutex
	var arrived func() // called once a layer was asked for
	asked := 0         // for blobs: the first is the config
	proxy := registrytest.Front(t, reg, func(_ http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		f := arrived
		if strings.Contains(r.URL.Path, "/blobs/") {
			asked++
		}
		layer := asked == 2
		mu.Unlock()
		if f != nil && layer {
			f()
			<-r.Context().Done()
		}
		return false
	}, nil)
	pull := func(signal syscall.Signal) result {
		cmd := w.command("pull", proxy.Host+"/app")
		mu.Lock()
		asked = 0
		arrived = func() { cmd.Process.Signal(signal) }
		mu.Unlock()
		return w.run(cmd)
	}
	left := func() int {
		list, err := filepath.Glob(filepath.Join(w.root, "store", "tmp", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	if r := pull(os.Interrupt.(syscall.Signal)); r.status != 130 || !strings.HasSuffix(r.stderr, "capstan: interrupted\n") || left() != 0 {
		t.Errorf("interrupted: status %d, %q, %d files left", r.status, r.stderr, left())
	}
	pull(syscall.SIGKILL)
	if left() == 0 {
		t.Error("nothing is left of a pull that was killed: this test tests nothing")
	}
	mu.Lock()
	arrived = nil
	mu.Unlock()
	w.must("pull", proxy.Host+"/app")
	if n := left(); n != 0 {
		t.Errorf("of a pull that was killed %d files are left", n)
	}
}

// TestInterruptedSave: of an archive nothing is left where it was interrupted.
func TestInterruptedSave(t *testing.T) {
	w := newWorld(t)
	w.write("tree/data", strings.Repeat("x", 64<<20))
	w.must("build", "--from", "tree", "app")
	begun := func() bool {
		list, err := filepath.Glob(filepath.Join(w.dir, ".app.tar*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(list) > 0
	}
	for range 50 { // until an interrupt comes before the end
		cmd := w.command("save", "-o", "app.tar", "app")
		var stderr strings.Builder
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		for !begun() && len(ended) == 0 {
			runtime.Gosched()
		}
		cmd.Process.Signal(os.Interrupt)
		if err := <-ended; err == nil {
			continue
		}
		if status := cmd.ProcessState.ExitCode(); status != exitInterrupted || stderr.String() != "capstan: interrupted\n" || begun() {
			t.Errorf("status %d, %q, and half a file: %t", status, stderr.String(), begun())
		}
		return
	}
	t.Error("no interrupt came in time")
}

// TestInterruptedPackage interrupts the pull of a package while it arrives.
func TestInterruptedPackage(t *testing.T) {
	w := newWorld(t)
	var cmd *exec.Cmd
	files := func() int {
		list, err := os.ReadDir(filepath.Join(w.root, "packages"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		return len(list)
	}
	server := httptest.NewServer(http.HandlerFunc(func(resp http.ResponseWriter, r *http.Request) {
		resp.Header().Set("Content-Length", "1000000")
		resp.Write(make([]byte, 1000))
		resp.(http.Flusher).Flush()
		for files() == 0 && r.Context().Err() == nil { // it has no event for that
			time.Sleep(time.Millisecond)
		}
		cmd.Process.Signal(os.Interrupt)
		<-r.Context().Done()
	}))
	defer server.Close()
	w.env = append(w.env, "CAPSTAN_OFFLINE=false")
	cmd = w.command("package", "pull", "-u", server.URL, "osv.cli")
	if r := w.run(cmd); r.status != 130 || !strings.HasSuffix(r.stderr, "capstan: interrupted\n") {
		t.Errorf("interrupted: %+v", r)
	}
	if n := files(); n != 0 {
		t.Errorf("%d files are left", n)
	}
}
