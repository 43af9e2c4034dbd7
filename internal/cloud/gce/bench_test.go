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

// TestPushSends holds how much a push sends of a disk of 20 GiB with 200 MB on
// it, and when.
func TestPushSends(t *testing.T) {
	server, push := pushing(t, cloudtest.Random(t))
	server.Check(t, push)
}

// BenchmarkPush measures the same push: with content that gets smaller, and with
// such that does not.
func BenchmarkPush(b *testing.B) {
	for name, content := range map[string]io.Reader{"random": cloudtest.Random(b), "programs": cloudtest.Programs(b)} {
		b.Run(name, func(b *testing.B) {
			server, push := pushing(b, content)
			server.Measure(b, push)
		})
	}
}

// pushing composes a disk, packs it, and sends it to a stand-in for Cloud Storage
// that answers at once.
func pushing(t testing.TB, content io.Reader) (*cloudtest.Server, func() error) {
	t.Helper()
	d, l := cloudtest.Disk(t, tarball.Unit, content)
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	server := cloudtest.Serve(t, sum, func(w http.ResponseWriter, r *http.Request) {
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
	return server, func() error {
		_, err := c.upload(t.Context(), p, server.URL+"/session")
		return err
	}
}
