package legacy

import (
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
)

// Bounds of a listing: S3 sends 1000 keys in a page, of up to 1024 bytes each.
const (
	maxPage  = 8 << 20
	maxPages = 1000
)

// listing is a page of a bucket's: "ListObjects" and "ListObjectsV2" of the
// Amazon S3 API reference.
type listing struct {
	XMLName     xml.Name `xml:"ListBucketResult"`
	IsTruncated bool
	NextMarker  string
	// NextContinuationToken is that of version 2.
	NextContinuationToken string
	Contents              []struct{ Key string }
}

// parseListing reads one page.
func parseListing(r io.Reader) (listing, error) {
	var page listing
	in := &io.LimitedReader{R: r, N: maxPage + 1}
	err := xml.NewDecoder(in).Decode(&page)
	if in.N <= 0 {
		return page, fmt.Errorf("a page of it has more than %d MiB", maxPage>>20)
	}
	return page, err
}

// next is the query for the page that follows, given the marker of this one;
// more is false where there is none.
func (l *listing) next(marker string) (query url.Values, last string, more bool, err error) {
	if !l.IsTruncated {
		return nil, "", false, nil
	}
	if token := l.NextContinuationToken; token != "" {
		return url.Values{"list-type": {"2"}, "continuation-token": {token}}, marker, true, nil
	}
	last = l.NextMarker
	if last == "" && len(l.Contents) > 0 { // which S3 leaves out where it is the last key
		last = l.Contents[len(l.Contents)-1].Key
	}
	if last <= marker { // keys come in order
		return nil, "", false, fmt.Errorf("it does not go on")
	}
	return url.Values{"marker": {last}}, last, true, nil
}

// List returns the names of all images in the repository, sorted.
func (r *Remote) List(ctx context.Context) ([]string, error) {
	names := map[string]bool{}
	err := r.keys(ctx, func(key string) {
		if name, ok := imageOf(key); ok {
			names[name] = true
		}
	})
	if err != nil {
		return nil, err
	}
	sorted := make([]string, 0, len(names))
	for name := range names {
		sorted = append(sorted, name)
	}
	slices.Sort(sorted)
	return sorted, nil
}

func (r *Remote) page(ctx context.Context, query url.Values) (listing, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	resp, err := r.get(ctx, "", query)
	if err != nil {
		return listing{}, err
	}
	defer resp.Body.Close()
	page, err := parseListing(resp.Body)
	if err != nil {
		return page, &Error{Where: r.String(), Reason: fmt.Sprintf("has no listing, or one that cannot be read: %v", err), Err: err, hint: "the URL of a bucket, or of a web directory with an S3 listing; capstan pull -u works without one"}
	}
	return page, nil
}

// imageOf is the image that a key belongs to.
func imageOf(key string) (string, bool) {
	parts := strings.Split(key, "/")
	if len(parts) != 3 {
		return "", false
	}
	name := parts[0] + "/" + parts[1]
	if !validName(name) {
		return "", false
	}
	if parts[2] == IndexFile {
		return name, true
	}
	return name, slices.ContainsFunc(endings, func(ending string) bool { return parts[2] == parts[1]+ending+".gz" })
}
