package repo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Store is the local store under one root directory. It is a value: it holds
// no state but paths, may be used by many goroutines, and needs no closing.
type Store struct {
	root string
}

// retryLock is how often a lock that another process has is tried again.
const retryLock = 3 * time.Millisecond

// Open returns the store under root, $CAPSTAN_ROOT. It touches nothing: what
// the store needs is made, readable by its owner only, by the first write.
func Open(root string) (*Store, error) {
	if root == "" {
		return nil, errors.New("opening the store: no directory given")
	}
	abs, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("opening the store: %w", err)
	}
	return &Store{root: abs}, nil
}

// Place names the store, for messages.
func (s *Store) Place() string { return "the store " + s.layoutDir() }

func (s *Store) layoutDir() string { return filepath.Join(s.root, "store") }
func (s *Store) blobsDir() string  { return filepath.Join(s.layoutDir(), "blobs", "sha256") }
func (s *Store) tmpDir() string    { return filepath.Join(s.layoutDir(), "tmp") }
func (s *Store) indexPath() string { return filepath.Join(s.layoutDir(), "index.json") }
func (s *Store) rootsDir() string  { return filepath.Join(s.root, "roots") }
func (s *Store) buildsDir() string { return filepath.Join(s.root, "builds") }

func (s *Store) blobPath(h v1.Hash) string { return filepath.Join(s.blobsDir(), h.Hex) }

// hasBlob reports whether h is there with the right size. Names and sizes are
// what a killed process or a full disk could leave wrong; content is checked
// when it is read.
func (s *Store) hasBlob(h v1.Hash, size int64) bool {
	fi, err := os.Stat(s.blobPath(h))
	return err == nil && fi.Mode().IsRegular() && fi.Size() == size
}

// locked runs fn with the store's lock held: nobody else changes the index or
// collects garbage meanwhile. It waits for the lock until ctx ends.
func (s *Store) locked(ctx context.Context, fn func() error) error {
	if err := s.makeDirs(); err != nil {
		return err
	}
	lock, err := acquire(ctx, filepath.Join(s.layoutDir(), "lock"))
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	marker := filepath.Join(s.layoutDir(), "oci-layout")
	if fi, err := os.Stat(marker); err != nil || fi.Size() == 0 {
		if err := s.replaceFile(marker, []byte(layoutVersion), true); err != nil {
			return err
		}
	}
	return fn()
}

// acquire takes the lock at path, making the file where it is absent. Close
// gives the lock back.
func acquire(ctx context.Context, path string) (*flock.Flock, error) {
	lock := flock.New(path)
	if _, err := lock.TryLockContext(ctx, retryLock); err != nil {
		_ = lock.Close()
		return nil, wrapWrite("locking", path, err)
	}
	return lock, nil
}

// layoutVersion is the content of the oci-layout file.
const layoutVersion = `{"imageLayoutVersion":"1.0.0"}`

// makeDirs makes the store's directories. Processes may do so at once.
func (s *Store) makeDirs() error {
	for _, dir := range []string{s.blobsDir(), s.tmpDir(), s.rootsDir(), s.buildsDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return wrapWrite("making the store", dir, err)
		}
	}
	return nil
}

// replaceFile makes data the content of path at once and, if durable, so that
// a crash of the host does not lose it. The store's lock must be held.
func (s *Store) replaceFile(path string, data []byte, durable bool) (err error) {
	f, err := os.CreateTemp(s.tmpDir(), "file-")
	if err != nil {
		return wrapWrite("writing", path, err)
	}
	defer func() {
		_ = f.Close()
		if err != nil {
			_ = os.Remove(f.Name())
			err = wrapWrite("writing", path, err)
		}
	}()
	if _, err = f.Write(data); err != nil {
		return err
	}
	if durable {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = rename(f.Name(), path); err != nil || !durable {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// stage is a directory in which one process prepares blobs. As long as its
// lock is held it is left alone; afterwards it is garbage. It also pins the
// images whose digests it holds.
type stage struct {
	dir  string
	lock *flock.Flock
}

const (
	stageLock = "lock"
	pinPrefix = "pin-"
)

// newStage makes a stage that pins the given images. It does so under the
// store's lock, so that nobody takes a stage whose lock is not yet held for an
// orphan, nor collects an image while it is being pinned.
func (s *Store) newStage(ctx context.Context, pins ...v1.Hash) (st *stage, err error) {
	err = s.locked(ctx, func() error {
		st, err = s.newStageLocked(pins...)
		return err
	})
	return st, err
}

// newStageLocked is newStage for a caller that holds the store's lock.
func (s *Store) newStageLocked(pins ...v1.Hash) (*stage, error) {
	dir, err := os.MkdirTemp(s.tmpDir(), "stage-")
	if err != nil {
		return nil, wrapWrite("making a directory in", s.tmpDir(), err)
	}
	st := &stage{dir: dir, lock: flock.New(filepath.Join(dir, stageLock))}
	ok, err := st.lock.TryLock()
	if err == nil && !ok {
		err = errors.New("locked by another process")
	}
	for _, h := range pins {
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, pinPrefix+h.Hex), nil, 0o600)
		}
	}
	if err != nil {
		st.close()
		return nil, wrapWrite("staging in", dir, err)
	}
	return st, nil
}

// close removes the stage with all that was not moved out of it.
func (st *stage) close() {
	_ = st.lock.Close()
	_ = os.RemoveAll(st.dir)
}

// orphaned reports whether the process that made the stage in dir is gone. If
// it is only just going, nothing is lost by removing the stage for it.
func orphaned(dir string) bool {
	lock := flock.New(filepath.Join(dir, stageLock))
	ok, err := lock.TryLock()
	_ = lock.Close()
	return err == nil && ok
}
