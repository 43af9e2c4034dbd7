//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestCrowd has many processes build, run and remove at the same time, in one
// store: images of all kinds, some of them the same, and all machines at once.
func TestCrowd(t *testing.T) {
	c := newProbe(t)
	c.tmp = t.TempDir()
	crowd := soakNumber(t, "SOAK_CROWD", 50)
	until := time.Now().Add(soakTime(t))
	for round := 0; round == 0 || time.Now().Before(until); round++ {
		began := time.Now()
		c.crowd(t, crowd)
		if t.Failed() {
			return
		}
		t.Logf("round %d: %d at once in %.1f s", round, crowd, time.Since(began).Seconds())
	}
	c.must(t, "rmi", probe)
	c.checkStoreEmpty(t)
}

// crowd is one round.
func (c *capstan) crowd(t *testing.T, count int) {
	dir := t.TempDir()
	release := make(chan struct{})
	var wg sync.WaitGroup
	for n := range count {
		p := &person{t: t, c: c, n: n, name: fmt.Sprint("crowd-", n), image: fmt.Sprint("image-", n), dir: filepath.Join(dir, itoa(n))}
		wg.Go(func() { p.live(release) })
	}
	ports := c.awaitRunning(t, count)
	close(release)
	wg.Wait()
	c.checkNothingLeft(t)
	for _, port := range ports {
		l, err := net.Listen("tcp", port)
		if err != nil {
			t.Errorf("a port is still taken: %v", err)
			continue
		}
		l.Close()
	}
	c.must(t, "prune")
}

// awaitRunning waits until so many instances run, looking at them all the
// time, and returns their ports.
func (c *capstan) awaitRunning(t *testing.T, count int) (ports []string) {
	deadline := time.Now().Add(commandBound)
	for {
		running := c.list(t)
		ports = nil
		for _, s := range running {
			for _, p := range s.Ports {
				host, _, _ := strings.Cut(p, "->")
				ports = append(ports, host)
			}
		}
		switch {
		case len(running) == count && len(ports) == count:
			return ports
		case t.Failed():
			return nil
		case time.Now().After(deadline):
			t.Errorf("%d of %d machines run after %s", len(running), count, commandBound)
			return nil
		}
		c.do(t, "images", "-q")
		c.do(t, "prune")
		time.Sleep(200 * time.Millisecond) // there are others who want the CPU
	}
}

// person is one of the crowd.
type person struct {
	t                *testing.T
	c                *capstan
	n                int
	name, image, dir string
}

func (p *person) live(release <-chan struct{}) {
	p.build()
	flags := []string{"run", "-m", "64M", "-p", "127.0.0.1:0:8080", "--name", p.name}
	words := []string{p.image, "/probe", "stay"}
	if p.n%4 == fromProgram {
		words = []string{p.image, "stay"}
	}
	switch p.n % 3 {
	case 0: // in the background, with a disk of its own
		p.c.do(p.t, append(append(flags, "-d"), words...)...)
		<-release
		p.c.do(p.t, "stop", "-t", grace, p.name)
		p.c.do(p.t, "rm", p.name)
	case 1: // in the background, to be removed by force
		p.c.do(p.t, append(append(flags, "-d", "--rm"), words...)...)
		<-release
		p.c.do(p.t, "rm", "-f", p.name)
	case 2: // in the foreground, and stopped by somebody else
		ended := make(chan result, 1)
		go func() {
			r, err := p.c.try(append(append(flags, "--rm"), words...)...)
			if err != nil {
				p.t.Error(err)
			}
			ended <- r
		}()
		<-release
		p.c.do(p.t, "stop", "-t", grace, p.name)
		p.checkStopped(<-ended)
	}
	p.c.do(p.t, "rmi", p.image)
}

// checkStopped looks at the end of a run that was stopped: orderly, or before
// the probe had come as far as to wait for that.
func (p *person) checkStopped(r result) {
	orderly := r.status == 0 && r.stdout == "ready\nbye\n"
	early := r.status == 128+15 && (r.stdout == "" || r.stdout == "ready\n")
	if !orderly && !early {
		p.t.Errorf("%s ended with %d and printed %q, %q", p.name, r.status, r.stdout, r.stderr)
	}
}

// Kinds of images.
const (
	fromNothing = iota
	fromBase
	fromDirectory
	fromProgram
)

// build makes the person's image, of one of four kinds. Every second one has
// the same content as others.
func (p *person) build() {
	text := "the same\n"
	if p.n%2 == 0 {
		text = p.name + "\n"
	}
	binary, err := os.ReadFile(p.c.probe)
	if err != nil {
		p.t.Error(err)
		return
	}
	files := map[string]string{"probe": string(binary), "text": text}
	from := []string{"build", p.image, p.dir}
	switch p.n % 4 {
	case fromNothing:
		files["Capstanfile"] = "cmdline: /probe\nfiles:\n  /probe: probe\n  /text: text\n"
	case fromBase:
		files["Capstanfile"] = "base: " + probe + "\nfiles:\n  /text: text\n"
	case fromDirectory:
		from = []string{"build", "--from", p.dir, p.image}
	case fromProgram:
		from = []string{"build", "--from", filepath.Join(p.dir, "probe"), p.image}
	}
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		p.t.Error(err)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(p.dir, name), []byte(content), 0o755); err != nil {
			p.t.Error(err)
		}
	}
	p.c.do(p.t, from...)
}
