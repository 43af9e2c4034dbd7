package gce

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"strings"
	"testing"

	"capstan/internal/cloud/cloudtest"
	tarball "capstan/internal/image/disk/gce"
)

// BenchmarkPush composes a disk of 20 GiB with 200 MB on it, packs it, and
// sends it to a stand-in for Cloud Storage that answers at once: with content
// that gets smaller, and with such that does not.
func BenchmarkPush(b *testing.B) {
	b.Run("random", func(b *testing.B) { benchmarkPush(b, cloudtest.Random(b)) })
	b.Run("programs", func(b *testing.B) { benchmarkPush(b, cloudtest.Programs(b)) })
}

func benchmarkPush(b *testing.B, content io.Reader) {
	d, l := cloudtest.Disk(b, tarball.Unit, content)
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	server := cloudtest.Serve(b, sum, func(w http.ResponseWriter, r *http.Request) {
		sent, total, _ := strings.Cut(strings.TrimPrefix(r.Header.Get("Content-Range"), "bytes "), "/")
		if sent == "*" && total == "*" {
			sum.Reset()
			w.WriteHeader(http.StatusPermanentRedirect)
			return
		}
		if total == "*" {
			_, end, _ := strings.Cut(sent, "-")
			w.Header().Set("Range", "bytes=0-"+end)
			w.WriteHeader(http.StatusPermanentRedirect)
			return
		}
		fmt.Fprintf(w, `{"size":%q,"crc32c":%q}`, total, base64.StdEncoding.EncodeToString(sum.Sum(nil)))
	})
	c := &Client{opts: Options{Tries: 1}, http: http.DefaultClient, compute: server.URL + "/compute/v1/", storage: server.URL + "/"}
	id := d.ID(l)
	p := &Push{Name: "app", Disk: hex.EncodeToString(id[:]), Archive: func(ctx context.Context, w io.Writer) error {
		return server.Composing(func() error {
			return tarball.Write(w, l.Size, func(w io.WriterAt) error { return d.Write(ctx, w, l) })
		})
	}}
	server.Measure(b, func() error {
		_, err := c.upload(b.Context(), p, server.URL+"/session")
		return err
	})
}
