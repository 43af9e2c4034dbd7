// Package instance keeps instances: each is a directory with its config, its
// state, its disks, its log and, while it runs, the socket of its supervisor.
// There is no daemon: a command reads the directory, or talks to the
// supervisor, a small process of the same binary that owns the one machine.
// Whatever is killed at any moment, the directory reads correctly afterwards:
// files are replaced by rename, and "running" is believed only while the
// supervisor holds its lock.
package instance

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"capstan/guest/api"
	"capstan/internal/hypervisor"
)

// Config is what an instance was made from; it never changes.
type Config struct {
	ID       string            `json:"id"` // 12 hexadecimal digits
	Name     string            `json:"name"`
	Image    string            `json:"image"`  // as it was asked for
	Digest   string            `json:"digest"` // of the image's manifest
	Created  time.Time         `json:"created"`
	Platform string            `json:"platform"` // the driver's name
	Labels   map[string]string `json:"labels,omitempty"`
	// Remove deletes the instance when it ends.
	Remove  bool    `json:"remove,omitempty"`
	Restart Restart `json:"restart,omitzero"`
	// Machine is what the driver boots; Dir and the kernel's paths are
	// filled in at each start.
	Machine hypervisor.Spec `json:"machine"`
}

// Restart is a restart policy. The zero value never restarts.
type Restart struct {
	Policy string `json:"policy,omitempty"` // "on-failure" or "always"
	// Max bounds the restarts on failure; 0 is no bound.
	Max int `json:"max,omitempty"`
}

// Status is one word for what an instance is doing.
type Status string

const (
	Created    Status = "created"
	Running    Status = "running"
	Restarting Status = "restarting"
	Exited     Status = "exited" // the application ended and said how
	Dead       Status = "dead"   // the machine ended without a word; see Reason
)

// State is how an instance fares.
type State struct {
	Status   Status            `json:"status"`
	Started  time.Time         `json:"started,omitzero"`
	Finished time.Time         `json:"finished,omitzero"`
	Exit     api.Exit          `json:"exit"`
	Reason   string            `json:"reason,omitempty"`
	Ports    []hypervisor.Port `json:"ports,omitempty"`
	Accel    string            `json:"accel,omitempty"`
	AccelWhy string            `json:"accel_why,omitempty"`
	PID      int               `json:"pid,omitempty"`
	Restarts int               `json:"restarts,omitempty"`
}

// Live reports whether a supervisor owns the instance.
func (s State) Live() bool { return s.Status == Running || s.Status == Restarting }

// Instance is one instance as its directory showed it.
type Instance struct {
	Dir    string
	Config Config
	State  State
}

// Instances is the folder of all instances.
type Instances struct{ dir string }

// Under returns the instances of a capstan root.
func Under(root string) *Instances { return &Instances{filepath.Join(root, "instances")} }

var (
	// ErrNotFound is wrapped where no instance has the name.
	ErrNotFound = errors.New("no such instance")
	// ErrExists is wrapped where the name is taken.
	ErrExists = errors.New("the name is taken")
	// ErrRunning is wrapped where an instance must not be running.
	ErrRunning = errors.New("the instance is running")
	// ErrNotRunning is wrapped where an instance must be running.
	ErrNotRunning = errors.New("the instance is not running")
)

const (
	configFile  = "config.json"
	stateFile   = "state.json"
	lockFile    = "lock"
	socketFile  = "sock"
	consoleFile = "console.log"
	indexFile   = "console.idx"
	kernelFile  = "kernel.log"

	// unfinished begins the names of directories that are being made or
	// removed: no instance's name may begin so.
	unfinished = ".tmp-"
)

var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$`)

// CheckName says what is wrong with a name for an instance.
func CheckName(name string) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("%q is no name for an instance: it takes up to 63 letters, digits, dots, hyphens and underscores, a letter or digit first", name)
	}
	return nil
}

// NewID returns a random ID for an instance.
func NewID() string {
	var b [6]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// Create makes an instance in one step: prepare fills its directory (disks),
// and nothing of it is to be seen before all is there.
func (s *Instances) Create(cfg Config, prepare func(dir string) error) (*Instance, error) {
	if err := CheckName(cfg.Name); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of instances: %w", err)
	}
	tmp := filepath.Join(s.dir, unfinished+cfg.ID)
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return nil, fmt.Errorf("making instance %s: %w", cfg.Name, err)
	}
	defer os.RemoveAll(tmp)
	held, err := lock(tmp)
	if err != nil {
		return nil, err
	}
	defer held.Close()
	if err := prepare(tmp); err != nil {
		return nil, fmt.Errorf("making instance %s: %w", cfg.Name, err)
	}
	if err := writeJSON(filepath.Join(tmp, configFile), cfg); err != nil {
		return nil, err
	}
	if err := writeJSON(filepath.Join(tmp, stateFile), State{Status: Created}); err != nil {
		return nil, err
	}
	dir := filepath.Join(s.dir, cfg.Name)
	if err := os.Rename(tmp, dir); err != nil {
		if _, statErr := os.Stat(dir); statErr == nil {
			return nil, fmt.Errorf("instance %s: %w", cfg.Name, ErrExists)
		}
		return nil, fmt.Errorf("making instance %s: %w", cfg.Name, err)
	}
	return &Instance{Dir: dir, Config: cfg, State: State{Status: Created}}, nil
}

// Get finds an instance by its name or by an unambiguous beginning of its ID.
func (s *Instances) Get(name string) (*Instance, error) {
	if validName.MatchString(name) {
		if i, err := read(filepath.Join(s.dir, name)); !errors.Is(err, fs.ErrNotExist) {
			return i, err
		}
	}
	all, err := s.List()
	if err != nil {
		return nil, err
	}
	var found *Instance
	for _, i := range all {
		if name != "" && strings.HasPrefix(i.Config.ID, name) {
			if found != nil {
				return nil, fmt.Errorf("%q could be %s or %s", name, found.Config.Name, i.Config.Name)
			}
			found = i
		}
	}
	if found == nil {
		return nil, fmt.Errorf("%s: %w", name, ErrNotFound)
	}
	return found, nil
}

// List returns all instances, newest first, and clears away what processes
// that were killed left half-made.
func (s *Instances) List() ([]*Instance, error) {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing instances: %w", err)
	}
	var all []*Instance
	for _, e := range entries {
		dir := filepath.Join(s.dir, e.Name())
		if strings.HasPrefix(e.Name(), unfinished) {
			sweep(dir)
			continue
		}
		i, err := read(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile, or not ours
		}
		if err != nil {
			return nil, err
		}
		if i.Config.Remove && i.State.Status == Dead {
			// Its supervisor was killed before it could do this.
			if i.remove() == nil {
				continue
			}
		}
		all = append(all, i)
	}
	sort.SliceStable(all, func(a, b int) bool { return all[a].Config.Created.After(all[b].Config.Created) })
	return all, nil
}

// Remove deletes an instance that is not running.
func (i *Instance) Remove() error {
	if i.State.Live() {
		return fmt.Errorf("%s: %w", i.Config.Name, ErrRunning)
	}
	return i.remove()
}

func (i *Instance) remove() error {
	held, err := lock(i.Dir)
	if err != nil {
		return err
	}
	defer held.Close()
	return removeDir(i.Dir, i.Config.ID)
}

// removeDir takes the directory out of the list in one step, then deletes it.
func removeDir(dir, id string) error {
	trash := filepath.Join(filepath.Dir(dir), unfinished+id)
	if err := os.Rename(dir, trash); err != nil {
		return fmt.Errorf("removing instance: %w", err)
	}
	if err := os.RemoveAll(trash); err != nil {
		return fmt.Errorf("removing instance: %w", err)
	}
	return nil
}

// sweep deletes a half-made or half-removed directory nobody works on.
func sweep(dir string) {
	info, err := os.Stat(dir)
	if err != nil || time.Since(info.ModTime()) < time.Second {
		return // its maker may not have locked it yet
	}
	if held, err := lock(dir); err == nil {
		os.RemoveAll(dir)
		held.Close()
	}
}

func newLock(dir string, options ...flock.Option) *flock.Flock {
	return flock.New(filepath.Join(dir, lockFile), options...)
}

// readOnly does not make the file where there is none: who only looks leaves
// nothing behind.
var readOnly = flock.SetFlag(os.O_RDONLY)

// lock takes an instance's lock without waiting.
func lock(dir string) (*flock.Flock, error) {
	l := newLock(dir)
	ok, err := l.TryLock()
	if err != nil {
		return nil, fmt.Errorf("locking %s: %w", dir, err)
	}
	if !ok {
		return nil, fmt.Errorf("%s: %w", filepath.Base(dir), ErrRunning)
	}
	return l, nil
}

// supervised reports whether a process holds the instance's lock.
func supervised(dir string) bool {
	l := newLock(dir, readOnly)
	ok, err := l.TryRLock()
	if err != nil {
		return false
	}
	if ok {
		l.Close()
	}
	return !ok
}

// path is a path of the instance's config as this host has it.
func (i *Instance) path(p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(i.Dir, p)
}

func read(dir string) (*Instance, error) {
	i := &Instance{Dir: dir}
	if err := readJSON(filepath.Join(dir, configFile), &i.Config); err != nil {
		return nil, err
	}
	if err := i.Refresh(); err != nil {
		return nil, err
	}
	return i, nil
}

// Refresh reads the state again.
func (i *Instance) Refresh() error {
	held := supervised(i.Dir)
	var state State
	if err := readJSON(filepath.Join(i.Dir, stateFile), &state); err != nil {
		return err
	}
	if state.Live() && !held {
		// The state may have been written between the two looks.
		if err := readJSON(filepath.Join(i.Dir, stateFile), &state); err != nil {
			return err
		}
		if state.Live() && !supervised(i.Dir) {
			state.Status, state.Reason = Dead, "its supervisor was killed, or the host went down"
			state.Exit = api.Exit{Status: ExitLost}
			state.PID = 0
		}
	}
	i.State = state
	return nil
}

func readJSON(path string, v any) error {
	doc, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading instance: %w", err)
	}
	if err := json.Unmarshal(doc, v); err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	return nil
}

func writeJSON(path string, v any) error {
	doc, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, append(doc, '\n'), 0o600); err != nil {
		return fmt.Errorf("writing instance: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("writing instance: %w", err)
	}
	return nil
}
