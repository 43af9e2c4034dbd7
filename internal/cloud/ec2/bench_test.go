package ec2

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"capstan/internal/cloud/cloudtest"
)

// TestPushSends holds how much a push sends of a disk of 20 GiB with 200 MB on
// it, and when.
func TestPushSends(t *testing.T) {
	server, push := pushing(t)
	server.Check(t, push)
}

// BenchmarkPush measures the same push.
func BenchmarkPush(b *testing.B) {
	server, push := pushing(b)
	server.Measure(b, push)
}

// pushing composes a disk and sends it to a stand-in that answers at once.
func pushing(t testing.TB) (*cloudtest.Server, func() error) {
	t.Helper()
	d, l := cloudtest.Disk(t, Unit, cloudtest.Random(t))
	server := cloudtest.Serve(t, nil, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"SnapshotId":"snap-0","BlockSize":524288,"Status":"completed"}`)
	})
	c := open(aws.Config{
		Region: "eu-central-1", BaseEndpoint: &server.URL, Credentials: credentials.NewStaticCredentialsProvider("id", "secret", ""),
	}, Options{State: t.TempDir(), Progress: func(string, int64, int64) {}})
	id := d.ID(l)
	p := &Push{Name: "app", Disk: hex.EncodeToString(id[:]), Size: l.Size, Write: func(ctx context.Context, w io.WriterAt) error {
		return server.Composing(func() error { return d.Write(ctx, w, l) })
	}}
	return server, func() error {
		st, err := c.lockState(t.Context(), p.Disk)
		if err != nil {
			return err
		}
		defer st.close()
		if _, err := c.upload(t.Context(), p, st, "snap-0"); err != nil {
			return err
		}
		return st.forget()
	}
}
