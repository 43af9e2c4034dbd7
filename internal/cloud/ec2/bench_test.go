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

// BenchmarkPush composes a disk of 20 GiB with 200 MB on it, and sends it to a
// stand-in that answers at once.
func BenchmarkPush(b *testing.B) {
	d, l := cloudtest.Disk(b, Unit, cloudtest.Random(b))
	server := cloudtest.Serve(b, nil, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"SnapshotId":"snap-0","BlockSize":524288,"Status":"completed"}`)
	})
	c := open(aws.Config{
		Region: "eu-central-1", BaseEndpoint: &server.URL, Credentials: credentials.NewStaticCredentialsProvider("id", "secret", ""),
	}, Options{State: b.TempDir(), Progress: func(string, int64, int64) {}})
	id := d.ID(l)
	p := &Push{Name: "app", Disk: hex.EncodeToString(id[:]), Size: l.Size, Write: func(ctx context.Context, w io.WriterAt) error {
		return server.Composing(func() error { return d.Write(ctx, w, l) })
	}}
	server.Measure(b, func() error {
		st, err := c.lockState(b.Context(), p.Disk)
		if err != nil {
			return err
		}
		defer st.close()
		if _, err := c.upload(b.Context(), p, st, "snap-0"); err != nil {
			return err
		}
		return st.forget()
	})
}
