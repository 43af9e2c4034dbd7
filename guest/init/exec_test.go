//go:build linux

package main

import (
	"bytes"
	"os"
	"testing"

	"capstan/guest/api"
)

// Whatever the host sends to an exec, no more reaches the program than was
// sent, and it ends.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{api.StreamStdin, 0, 0, 0, 1, 'x', api.StreamStdin, 0, 0, 0, 0})
	f.Add(append([]byte{api.StreamResize, 0, 0, 0, 20}, `{"rows":1,"cols":-1}`...))
	f.Add([]byte{9, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, sent []byte) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		got := make(chan int64)
		go func() {
			var b bytes.Buffer
			n, _ := b.ReadFrom(r) // to the pipe's end
			got <- n
		}()
		takeFrames(bytes.NewReader(sent), &streams{stdin: w})
		w.Close()
		if n := <-got; n > int64(len(sent)) {
			t.Errorf("%d bytes from %d", n, len(sent))
		}
	})
}
