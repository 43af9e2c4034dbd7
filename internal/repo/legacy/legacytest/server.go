// Package legacytest serves a directory as old Capstan's repositories were: an
// S3 bucket's files and its listing, in pages.
package legacytest

import (
	"encoding/xml"
	"io/fs"
	"net/http"
	"slices"
)

// Server serves the files of a file system, and at its root their listing.
type Server struct {
	Files fs.FS
	// Page is how many keys a page of the listing has. With Tokens pages go
	// on by tokens, as in version 2, else by markers.
	Page   int
	Tokens bool
}

type object struct {
	Key  string
	Size int64
}

type result struct {
	XMLName               xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListBucketResult"`
	Name                  string
	IsTruncated           bool
	NextContinuationToken string `xml:",omitempty"`
	Contents              []object
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/" {
		http.FileServerFS(s.Files).ServeHTTP(w, r)
		return
	}
	objects, err := s.objects()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	after := r.FormValue("marker")
	if s.Tokens {
		after = r.FormValue("continuation-token")
	}
	from, _ := slices.BinarySearchFunc(objects, after+"\x00", func(o object, key string) int {
		if o.Key < key {
			return -1
		}
		return 1
	})
	page := result{Name: "capstan", Contents: objects[from:min(len(objects), from+s.Page)]}
	if page.IsTruncated = from+s.Page < len(objects); page.IsTruncated && s.Tokens {
		page.NextContinuationToken = page.Contents[len(page.Contents)-1].Key
	}
	w.Header().Set("Content-Type", "application/xml")
	xml.NewEncoder(w).Encode(page)
}

func (s *Server) objects() ([]object, error) {
	var objects []object
	err := fs.WalkDir(s.Files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		objects = append(objects, object{Key: path, Size: info.Size()})
		return err
	})
	slices.SortFunc(objects, func(a, b object) int {
		if a.Key < b.Key {
			return -1
		}
		return 1
	})
	return objects, err
}
