package instance

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// The folder of instances changes by renames alone. A directory is filled
// under an unfinished name and gets its own in one step; to be removed it gets
// an unfinished name again. Its lock is held meanwhile, so that an unfinished
// directory whose lock is free is one whose maker or remover was killed.

// Create makes an instance in one step: prepare fills its directory (disks),
// and nothing of it is to be seen before all is there. One that is to be
// removed when it ends goes with this process, until it is started.
func (s *Instances) Create(cfg Config, prepare func(dir string) error) (*Instance, error) {
	if err := CheckName(cfg.Name); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of instances: %w", err)
	}
	tmp := filepath.Join(s.dir, unfinished+cfg.ID)
	held, maker, err := s.begin(tmp)
	if err != nil {
		return nil, fmt.Errorf("making instance %s: %w", cfg.Name, err)
	}
	defer held.Close()
	dir := filepath.Join(s.dir, cfg.Name)
	err = fill(tmp, cfg, prepare)
	if err == nil {
		err = os.Rename(tmp, dir)
	}
	if err != nil {
		maker.Close()
		os.RemoveAll(tmp)
		if _, statErr := os.Stat(dir); statErr == nil || errors.Is(err, fs.ErrExist) {
			err = ErrExists
		}
		return nil, fmt.Errorf("making instance %s: %w", cfg.Name, err)
	}
	return &Instance{Dir: dir, Config: cfg, State: State{Status: Created}, maker: maker, remote: s.remotes.find(cfg.Platform)}, nil
}

// begin makes an unfinished directory with its locks held, which nobody sweeps
// before they are.
func (s *Instances) begin(tmp string) (held, maker *flock.Flock, err error) {
	folder := s.folderLock()
	if err := folder.Lock(); err != nil {
		return nil, nil, err
	}
	defer folder.Close()
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return nil, nil, err
	}
	held, maker = newLock(tmp), flock.New(filepath.Join(tmp, makerFile))
	if err := errors.Join(held.Lock(), maker.Lock()); err != nil {
		held.Close()
		maker.Close()
		os.RemoveAll(tmp)
		return nil, nil, err
	}
	return held, maker, nil
}

func fill(tmp string, cfg Config, prepare func(dir string) error) error {
	if err := prepare(tmp); err != nil {
		return err
	}
	if err := writeJSON(filepath.Join(tmp, configFile), cfg); err != nil {
		return err
	}
	return writeJSON(filepath.Join(tmp, stateFile), State{Status: Created})
}

// folderLock is held by who makes an unfinished directory, until that is
// locked itself, and by who sweeps them.
func (s *Instances) folderLock() *flock.Flock { return flock.New(s.dir + ".lock") }

// sweep deletes an unfinished directory that nobody works on.
func (s *Instances) sweep(dir string) {
	folder := s.folderLock()
	defer folder.Close()
	if ok, err := folder.TryLock(); err != nil || !ok {
		return // somebody else sweeps, or the next command will
	}
	l := newLock(dir, flock.SetFlag(os.O_RDWR)) // not made: it may be half removed
	defer l.Close()
	if ok, err := l.TryLock(); ok || os.IsNotExist(err) {
		os.RemoveAll(dir)
	}
}

// left reports whether the instance should be gone: it was to be removed when
// it ended, and who should have done so was killed.
func (i *Instance) left() bool {
	return i.remote == nil && i.Config.Remove && !i.State.Live() && !supervised(i.Dir) && !isHeld(filepath.Join(i.Dir, makerFile))
}

// Remove deletes an instance that is not running, its machine on a remote
// platform included.
func (i *Instance) Remove(ctx context.Context) error {
	if i.State.Live() {
		return fmt.Errorf("%s: %w", i.Config.Name, ErrRunning)
	}
	if i.remote != nil {
		return i.removeRemote(ctx)
	}
	return i.remove(patience)
}

func (i *Instance) remove(within time.Duration) error {
	held, err := i.lock(context.Background(), within)
	if err != nil {
		return err
	}
	defer held.Close()
	if err := i.cleaned(); err != nil {
		return err
	}
	return removeDir(i.Dir)
}

// cleaned ends what may be left of the instance on its platform. Its lock must
// be held.
func (i *Instance) cleaned() error {
	if i.clean == nil {
		return nil
	}
	return i.clean(context.Background(), i)
}

// bury cleans up behind a supervisor that was killed, and writes down that it
// was. Where that fails, or somebody else is at it, the next command tries.
func (i *Instance) bury() {
	held, err := i.lock(context.Background(), noPatience)
	if err != nil {
		return
	}
	defer held.Close()
	if i.cleaned() == nil && writeJSON(filepath.Join(i.Dir, stateFile), i.State) == nil {
		i.abandoned = false
	}
}

// removeDir takes the directory out of the list in one step, then deletes it.
// Its lock must be held.
func removeDir(dir string) error {
	trash := filepath.Join(filepath.Dir(dir), unfinished+NewID())
	if err := os.Rename(dir, trash); err != nil {
		return fmt.Errorf("removing instance: %w", err)
	}
	if err := os.RemoveAll(trash); err != nil {
		return fmt.Errorf("removing instance: %w", err)
	}
	return nil
}

const (
	// patience is how long a lock is tried for. Readers hold it for an instant
	// to see whether it is taken, so one refusal proves nothing.
	patience   = time.Second
	noPatience = 0

	retryLock = 2 * time.Millisecond
)

func newLock(dir string, options ...flock.Option) *flock.Flock {
	return flock.New(filepath.Join(dir, lockFile), options...)
}

// readOnly does not make the file where there is none: who only looks leaves
// nothing behind.
var readOnly = flock.SetFlag(os.O_RDONLY)

// lock takes the instance's lock.
func (i *Instance) lock(ctx context.Context, within time.Duration) (*flock.Flock, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	l := newLock(i.Dir, flock.SetFlag(os.O_RDWR))
	ok, err := l.TryLock()
	if !ok && err == nil {
		ok, err = l.TryLockContext(ctx, retryLock)
	}
	switch {
	case os.IsNotExist(err):
		return nil, fmt.Errorf("%s: %w", i.Config.Name, ErrNotFound)
	case errors.Is(err, context.DeadlineExceeded), err == nil && !ok:
		return nil, fmt.Errorf("%s: %w", i.Config.Name, ErrRunning)
	case err != nil:
		return nil, fmt.Errorf("locking %s: %w", i.Dir, err)
	}
	// The lock may be that of a removed instance, and its name another's.
	now, err := Remotes{}.read(i.Dir)
	if err != nil || now.Config.ID != i.Config.ID {
		l.Close()
		return nil, fmt.Errorf("%s: %w", i.Config.Name, ErrNotFound)
	}
	return l, nil
}

// supervised reports whether a process holds the instance's lock.
func supervised(dir string) bool { return isHeld(filepath.Join(dir, lockFile)) }

func isHeld(path string) bool {
	l := flock.New(path, readOnly)
	ok, err := l.TryRLock()
	if err != nil {
		return false
	}
	if ok {
		l.Close()
	}
	return !ok
}
