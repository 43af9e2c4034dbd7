// Package dockerconfig reads and writes the credentials in Docker's
// config.json, which docker, crane, skopeo and capstan share: those in the file
// itself, and those that the file leaves to credential helpers.
//
// It changes one registry's entry and keeps everything else that is in the
// file. What credentials are for, and whether they are right, is left to others.
package dockerconfig

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// hubKey is the name of Docker Hub's entry, for historical reasons.
const hubKey = "https://index.docker.io/v1/"

// maxSize bounds the file, in bytes.
const maxSize = 8 << 20

// File is a config.json.
type File struct{ Path string }

// Default returns the file that Docker uses: in $DOCKER_CONFIG, else in
// ~/.docker.
func Default() (File, error) {
	dir := os.Getenv("DOCKER_CONFIG")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return File{}, fmt.Errorf("finding Docker's config.json: %w", err)
		}
		dir = filepath.Join(home, ".docker")
	}
	return File{Path: filepath.Join(dir, "config.json")}, nil
}

// document is the file's content. What is not named here is kept as it is.
type document struct {
	all     map[string]json.RawMessage
	auths   map[string]map[string]json.RawMessage
	store   string            // credsStore
	helpers map[string]string // credHelpers: by registry
}

// Error is a config.json that cannot be used as it is.
type Error struct {
	Path string
	Err  error
	hint string
}

func (e *Error) Error() string { return fmt.Sprintf("%s %v", e.Path, e.Err) }

// Unwrap returns what is wrong.
func (e *Error) Unwrap() error { return e.Err }

// Hint says how to mend it.
func (e *Error) Hint() string { return e.hint }

func (f File) read() (*document, error) {
	d := &document{all: map[string]json.RawMessage{}, auths: map[string]map[string]json.RawMessage{}}
	fi, err := os.Stat(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return d, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the credentials: %w", err)
	}
	if fi.Size() > maxSize {
		return nil, &Error{f.Path, fmt.Errorf("is larger than %d MiB", maxSize>>20), "look at what it holds"}
	}
	data, err := os.ReadFile(f.Path)
	if err != nil {
		return nil, fmt.Errorf("reading the credentials: %w", err)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return d, nil
	}
	err = json.Unmarshal(data, &d.all)
	for key, to := range map[string]any{"auths": &d.auths, "credsStore": &d.store, "credHelpers": &d.helpers} {
		if raw, ok := d.all[key]; ok && err == nil {
			err = json.Unmarshal(raw, to)
		}
	}
	if err != nil {
		return nil, &Error{f.Path, fmt.Errorf("is not what Docker writes: %w", err), "mend it, or move it away"}
	}
	if d.all == nil || d.auths == nil { // null
		return nil, &Error{f.Path, errors.New("is not what Docker writes: null"), "mend it, or move it away"}
	}
	return d, nil
}

// write replaces the file, readable by its owner only. A link stays a link.
func (f File) write(d *document) (err error) {
	if d.all["auths"], err = encode(d.auths); err != nil {
		return fmt.Errorf("writing the credentials: %w", err)
	}
	data, err := encode(d.all)
	if err != nil {
		return fmt.Errorf("writing the credentials: %w", err)
	}
	path := f.Path
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("writing the credentials: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "config.json.") // mode 0600
	if err != nil {
		return fmt.Errorf("writing the credentials: %w", err)
	}
	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return fmt.Errorf("writing the credentials: %w", err)
	}
	return nil
}

// encode writes JSON as Docker does.
func encode(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "\t")
	err := enc.Encode(v)
	return bytes.TrimRight(buf.Bytes(), "\n"), err
}

// helper returns the program that keeps the credentials of the entry key, or
// "" where the file itself does.
func (d *document) helper(key string) string {
	name := d.store
	if own, ok := d.helpers[hostOf(key)]; ok {
		name = own
	} else if own, ok := d.helpers[key]; ok {
		name = own
	}
	if name == "" {
		return ""
	}
	return "docker-credential-" + name
}

// Put keeps the credentials for the registry at host, as names have it, and
// returns where they are: a helper's name, or the file's.
func (f File) Put(ctx context.Context, host, user, secret string) (where string, err error) {
	d, err := f.read()
	if err != nil {
		return "", err
	}
	key := keyOf(host)
	d.remove(key)
	where = f.Path
	entry := map[string]json.RawMessage{}
	if helper := d.helper(key); helper != "" {
		where = helper
		if err := store(ctx, f.Path, helper, key, user, secret); err != nil {
			return "", err
		}
	} else {
		entry["auth"], err = encode(base64.StdEncoding.EncodeToString([]byte(user + ":" + secret)))
		if err != nil {
			return "", err
		}
	}
	d.auths[key] = entry
	return where, f.write(d)
}

// Remove forgets the credentials for the registry at host. It reports whether
// there were any.
func (f File) Remove(ctx context.Context, host string) (bool, error) {
	d, err := f.read()
	if err != nil {
		return false, err
	}
	key := keyOf(host)
	there := d.remove(key)
	if helper := d.helper(key); helper != "" {
		kept, err := erase(ctx, f.Path, helper, key)
		if err != nil {
			return false, err
		}
		there = there || kept
	}
	if !there {
		return false, nil
	}
	return true, f.write(d)
}

// remove takes the entries of a registry out, in whatever way they are
// written. It reports whether there were any.
func (d *document) remove(key string) (there bool) {
	for k := range d.auths {
		if k == key || hostOf(k) == hostOf(key) {
			delete(d.auths, k)
			there = true
		}
	}
	return there
}

// keyOf returns the name of a registry's entry.
func keyOf(host string) string {
	if host == "docker.io" {
		return hubKey
	}
	return host
}

// hostOf returns the host that the name of an entry means; of an entry for
// some of a registry's repositories, which podman and skopeo write, it returns
// the name itself.
func hostOf(key string) string {
	host := strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	for _, end := range []string{"/", "/v1", "/v2"} {
		host = strings.TrimSuffix(host, end)
	}
	if host == "index.docker.io" || host == "registry-1.docker.io" {
		return "docker.io"
	}
	return host
}
