package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Names in roots/: <hex>.erofs, <hex>.lock, <hex>.tmp-<random>.
const (
	rootSuffix = ".erofs"
	lockSuffix = ".lock"
	rootTemp   = ".tmp-"
)

// Root puts the flattened root of the image with the given digest at dst,
// which must not exist: a hard link to the cached root, or a copy where the
// file system has no hard links. Whatever happens to the cache, dst stays; it
// is read-only, and must not be made writable.
//
// A root that is not cached is made by calling make with an empty file. That
// happens once, however many processes ask at the same time; the others wait.
// While make runs the image is not collected, even if its name is removed. If
// make returns an error nothing is cached, and the next caller tries again.
func (s *Store) Root(ctx context.Context, digest v1.Hash, dst string, make func(context.Context, *os.File) error) error {
	if err := checkDescriptor(v1.Descriptor{Digest: digest}); err != nil {
		return fmt.Errorf("root of image %s: it %w", digest, err)
	}
	cached := s.rootPath(digest)
	err := os.Link(cached, dst)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	return s.withRoot(ctx, digest, make, func() error { return linkOrCopy(ctx, cached, dst) })
}

// CacheRoot makes the flattened root of an image, as Root does, for later.
func (s *Store) CacheRoot(ctx context.Context, digest v1.Hash, make func(context.Context, *os.File) error) error {
	return s.withRoot(ctx, digest, make, func() error { return nil })
}

// OpenRoot opens the flattened root of an image for reading, making it as Root
// does. On Unix it can be read to the end even if the cache is emptied; nothing
// is left of it when the process is killed.
func (s *Store) OpenRoot(ctx context.Context, digest v1.Hash, make func(context.Context, *os.File) error) (f *os.File, err error) {
	err = s.withRoot(ctx, digest, make, func() error {
		f, err = os.Open(s.rootPath(digest))
		return err
	})
	return f, err
}

// withRoot makes a root unless it is cached, and calls use before anybody can
// remove it.
func (s *Store) withRoot(ctx context.Context, digest v1.Hash, make func(context.Context, *os.File) error, use func() error) error {
	return s.withRootBy(ctx, digest, func() error {
		if err := s.makeRoot(ctx, digest, make); err != nil {
			return fmt.Errorf("flattening image %s: %w", digest.Hex[:12], err)
		}
		return nil
	}, use)
}

// withRootBy is withRoot with another way to make the root's file.
func (s *Store) withRootBy(ctx context.Context, digest v1.Hash, make, use func() error) error {
	if err := s.makeDirs(); err != nil {
		return err
	}
	cached := s.rootPath(digest)
	lock, err := lockRoot(ctx, strings.TrimSuffix(cached, rootSuffix)+lockSuffix)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	if _, err := os.Stat(cached); err != nil {
		if err := make(); err != nil {
			return err
		}
	}
	return use()
}

func (s *Store) rootPath(h v1.Hash) string {
	return filepath.Join(s.rootsDir(), h.Hex+rootSuffix)
}

// makeRoot fills the cache. The root's lock must be held.
func (s *Store) makeRoot(ctx context.Context, digest v1.Hash, make func(context.Context, *os.File) error) (err error) {
	pin, err := s.newStage(ctx, digest)
	if err != nil {
		return err
	}
	defer pin.close()
	f, err := os.CreateTemp(s.rootsDir(), digest.Hex+rootTemp)
	if err != nil {
		return wrapWrite("writing in", s.rootsDir(), err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
			err = wrapWrite("writing", f.Name(), err)
		}
	}()
	if err := make(ctx, f); err != nil {
		return err
	}
	if err := f.Chmod(0o400); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	if err := finish(f); err != nil {
		return err
	}
	if err := rename(f.Name(), s.rootPath(digest)); err != nil {
		return err
	}
	return syncDir(s.rootsDir())
}

// lockRoot takes a root's lock. Prune removes lock files while it holds them,
// so one that is no longer at path when it is got is worth nothing.
func lockRoot(ctx context.Context, path string) (*flock.Flock, error) {
	for {
		lock, err := acquire(ctx, path)
		if err != nil {
			return nil, err
		}
		if current(lock) {
			return lock, nil
		}
		_ = lock.Close()
	}
}

// current reports whether lock's file is still the one at its path.
func current(lock *flock.Flock) bool {
	held, err := lock.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(lock.Path())
	return err == nil && os.SameFile(held, there)
}

// linkOrCopy makes dst the same file as src, or one of the same content.
func linkOrCopy(ctx context.Context, src, dst string) error {
	err := os.Link(src, dst)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	return copyFile(ctx, src, dst)
}

// copyFile copies src to dst, which must not exist, for its owner to read.
func copyFile(ctx context.Context, src, dst string) error {
	in, err := os.Open(src)
	if err != nil {
		return fmt.Errorf("copying a root: %w", err)
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o400)
	if err != nil {
		return wrapWrite("copying a root to", dst, err)
	}
	_, err = io.Copy(out, &ctxReader{ctx: ctx, r: in})
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = os.Remove(dst)
		return wrapWrite("copying a root to", dst, err)
	}
	return nil
}

// sweepRoots removes the roots of images that are not live, with their locks
// and what killed processes have left of them. Roots that are being made or
// linked are left alone.
func (s *Store) sweepRoots(rep *Report, live map[string]bool) error {
	entries, err := os.ReadDir(s.rootsDir())
	if err != nil {
		return fmt.Errorf("reading the roots: %w", err)
	}
	byImage := map[string][]string{}
	for _, e := range entries {
		if hex, _, ok := strings.Cut(e.Name(), "."); ok && len(hex) == 64 {
			byImage[hex] = append(byImage[hex], e.Name())
		}
	}
	for hex, files := range byImage {
		if live[hex] && len(files) == 1 && files[0] == hex+rootSuffix {
			continue
		}
		if err := s.sweepRoot(rep, hex, files, live[hex]); err != nil {
			return err
		}
	}
	return nil
}

// sweepRoot removes the files of one root, or all but the root if keep.
func (s *Store) sweepRoot(rep *Report, hex string, files []string, keep bool) error {
	lock := flock.New(filepath.Join(s.rootsDir(), hex+lockSuffix))
	ok, err := lock.TryLock()
	if err != nil || !ok {
		_ = lock.Close()
		return err
	}
	defer removeLock(lock)
	if !current(lock) {
		return nil
	}
	for _, name := range files {
		path := filepath.Join(s.rootsDir(), name)
		switch {
		case name == hex+rootSuffix && !keep:
			rep.count(&rep.Roots, path)
		case strings.HasPrefix(name, hex+rootTemp):
			rep.count(&rep.Temp, path)
		default:
			continue
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing a root: %w", err)
		}
	}
	return nil
}
