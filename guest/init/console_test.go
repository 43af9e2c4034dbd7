//go:build linux

package main

import (
	"errors"
	"io"
	"os"
	"testing"
	"time"
)

// TestAfterReport: the bound on a report is none on what comes after it.
func TestAfterReport(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	go io.Copy(io.Discard, r) // ends with the port
	p := &port{File: w}
	defer p.Close()
	const limit = 20 * time.Millisecond
	began := time.Now()
	if err := p.writeLast([]byte("report"), limit); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) { // a busy host may be too late
		t.Fatal(err)
	}
	for over := false; !over; {
		over = time.Since(began) > 2*limit
		if _, err := p.Write([]byte("output")); err != nil {
			t.Fatalf("after %v: %v", time.Since(began), err)
		}
	}
}
