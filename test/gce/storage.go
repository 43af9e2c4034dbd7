package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"

	api "google.golang.org/api/storage/v1"
)

// storage checks what buckets are made of, which fake-gcs-server does not look
// at.
type storage struct{ backend http.Handler }

func (s *storage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == "POST" && r.URL.Path == "/storage/v1/b" {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client has gone
		}
		d := json.NewDecoder(bytes.NewReader(body))
		d.DisallowUnknownFields()
		var b api.Bucket
		if err := d.Decode(&b); err != nil {
			refuse(w, http.StatusBadRequest, "a bucket: %v", err)
			return
		}
		if r.FormValue("project") == "" || b.SoftDeletePolicy == nil || b.IamConfiguration == nil || b.Lifecycle == nil || len(b.Lifecycle.Rule) == 0 {
			refuse(w, http.StatusBadRequest, "a bucket for a moment: %s", body)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	s.backend.ServeHTTP(w, r)
}

// uploads take objects in pieces as Cloud Storage does ("Resumable uploads"):
// they know how much has come, answer who asks for that, keep what came of a
// piece that was cut, and refuse a piece that is not the next one.
type uploads struct {
	backend http.Handler
	mu      sync.Mutex
	open    map[string]*upload // by their id
}

// upload is an object that is sent. The backend has the pieces up to size.
type upload struct {
	size  int64
	whole []byte // the answer to the last piece
}

// unit is what the pieces' sizes are multiples of, but for the last.
const unit = 256 << 10

var pieceRange = regexp.MustCompile(`^bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)$`)

func (u *uploads) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	defer u.mu.Unlock()
	id := r.FormValue("upload_id")
	one := u.open[id]
	switch {
	case r.Method == "POST" && r.URL.Query().Get("uploadType") == "resumable" && id == "":
		u.begin(w, r)
	case one == nil:
		refuse(w, http.StatusNotFound, "no such upload")
	case r.Method == "DELETE":
		delete(u.open, id)
		w.WriteHeader(499)
	case r.Method == "PUT":
		u.take(w, r, one)
	default:
		refuse(w, http.StatusMethodNotAllowed, "%s", r.Method)
	}
}

func (u *uploads) begin(w http.ResponseWriter, r *http.Request) {
	answer := httptest.NewRecorder()
	u.backend.ServeHTTP(answer, r)
	_, id, ok := strings.Cut(answer.Header().Get("Location"), "upload_id=")
	if ok {
		u.open[id] = &upload{}
	}
	pass(w, answer)
}

func (u *uploads) take(w http.ResponseWriter, r *http.Request, one *upload) {
	if one.whole != nil {
		w.Write(one.whole)
		return
	}
	said := pieceRange.FindStringSubmatch(r.Header.Get("Content-Range"))
	if said == nil {
		refuse(w, http.StatusBadRequest, "the range %q", r.Header.Get("Content-Range"))
		return
	}
	if said[1] == "" {
		one.more(w)
		return
	}
	from, _ := strconv.ParseInt(said[1], 10, 64) // digits
	end, _ := strconv.ParseInt(said[2], 10, 64)
	length, last := end+1-from, said[3] != "*"
	if from != one.size || length <= 0 || !last && length%unit != 0 || last && said[3] != fmt.Sprint(end+1) {
		refuse(w, http.StatusBadRequest, "%s, where %d have come", said[0], one.size)
		return
	}
	data, err := io.ReadAll(io.LimitReader(r.Body, length))
	if int64(len(data)) < length { // the connection was cut
		data, last = data[:len(data)/unit*unit], false
	}
	if len(data) > 0 {
		total := "*"
		if last {
			total = fmt.Sprint(one.size + int64(len(data)))
		}
		next := httptest.NewRequest("PUT", r.URL.String(), bytes.NewReader(data))
		next.Header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%s", one.size, one.size+int64(len(data))-1, total))
		answer := httptest.NewRecorder()
		u.backend.ServeHTTP(answer, next)
		one.size += int64(len(data))
		if last && answer.Code == http.StatusOK {
			one.whole = answer.Body.Bytes()
			pass(w, answer)
			return
		}
		if answer.Code != http.StatusPermanentRedirect {
			pass(w, answer)
			return
		}
	}
	if err == nil {
		one.more(w)
	}
}

// more asks for what has not come.
func (one *upload) more(w http.ResponseWriter) {
	if one.size > 0 {
		w.Header().Set("Range", fmt.Sprintf("bytes=0-%d", one.size-1))
	}
	w.WriteHeader(http.StatusPermanentRedirect)
}

func pass(w http.ResponseWriter, answer *httptest.ResponseRecorder) {
	for k, v := range answer.Header() {
		w.Header()[k] = v
	}
	w.WriteHeader(answer.Code)
	w.Write(answer.Body.Bytes())
}
