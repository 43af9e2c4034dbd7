//go:build linux

// Package ec2test is a cloud for tests: moto's server, and in front of it a
// proxy that is as strict as AWS is where moto is not, that makes good what
// moto forgets, and that fails as networks and clouds do.
package ec2test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

// answeredLine is of a request that was answered.
var answeredLine = regexp.MustCompile(`(?m)^.*" [1-4]\d\d -\n`)

const startBound = 3 * time.Minute

// startMoto starts moto, which ends with the test, and returns where it is.
func startMoto(t testing.TB) *url.URL {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	fetch := exec.Command(filepath.Join(filepath.Dir(here), "moto.sh"))
	fetch.Stderr = os.Stderr
	folder, err := fetch.Output()
	if err != nil {
		t.Fatalf("moto.sh: %v: apt-get install python3-pip", err)
	}
	port := freePort(t)
	cmd := exec.Command("python3", "-m", "moto.server", "-H", "127.0.0.1", "-p", port)
	cmd.Env = append(os.Environ(), "PYTHONPATH="+strings.TrimSpace(string(folder)))
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it never ends by itself
		<-ended
		if t.Failed() {
			words := answeredLine.ReplaceAll(said.Bytes(), nil)
			t.Logf("moto's last words:\n%s", words[max(0, len(words)-4000):])
		}
	})
	at := &url.URL{Scheme: "http", Host: "127.0.0.1:" + port}
	ctx, cancel := context.WithTimeout(t.Context(), startBound)
	defer cancel()
	for {
		answer, err := http.Get(at.JoinPath("moto-api/").String())
		if err == nil {
			answer.Body.Close()
			return at
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("moto ended: %v\n%s", err, &said)
		case <-ctx.Done():
			t.Fatalf("moto does not answer: %v", errors.Join(err, ctx.Err()))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// freePort is one that nobody listens at.
func freePort(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
