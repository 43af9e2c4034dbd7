package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

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
