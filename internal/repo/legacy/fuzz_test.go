package legacy

import (
	"strings"
	"testing"
)

func FuzzListing(f *testing.F) {
	f.Add(`<ListBucketResult><IsTruncated>true</IsTruncated><Contents><Key>a/b/index.yaml</Key></Contents></ListBucketResult>`)
	f.Add(`<ListBucketResult><NextMarker>x</NextMarker>`)
	f.Fuzz(func(t *testing.T, s string) {
		page, err := parseListing(strings.NewReader(s))
		if err != nil {
			return
		}
		for _, c := range page.Contents {
			if name, ok := imageOf(c.Key); ok && (!validName(name) || !strings.HasPrefix(c.Key, name+"/")) {
				t.Errorf("%q is an image %q", c.Key, name)
			}
		}
		if _, last, more, err := page.next("m"); err == nil && more && page.NextContinuationToken == "" && last <= "m" {
			t.Errorf("it goes on at %q", last)
		}
	})
}

func FuzzIndex(f *testing.F) {
	f.Add("version: 1\ncreated: 2015-04-01 12:00\ndescription: |\n  x\n")
	f.Add("&a [*a]")
	f.Fuzz(func(t *testing.T, s string) { readIndex(strings.NewReader(s)) })
}
