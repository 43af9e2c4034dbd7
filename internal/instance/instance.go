// Package instance keeps instances: each is a directory with its config, its
// state, its disks, its log and, while it runs, the socket of its supervisor.
// There is no daemon: a command reads the directory, or talks to the
// supervisor, a small process of the same binary that owns the one machine.
// Whatever is killed at any moment, the directory reads correctly afterwards:
// files are replaced by rename, and "running" is believed only while the
// supervisor holds its lock.
package instance

import (
	"context"
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
	// Replicas is of how many machines the instance was made, if it is a group
	// of them; else 0.
	Replicas int `json:"replicas,omitempty"`
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

	// Of instances on remote platforms:
	Making  Status = "making"  // its machine is being made
	Unknown Status = "unknown" // the platform does not say; see Reason
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

	// Of instances on remote platforms: the machine's address, whether its
	// power was cut, and since when it is off though its last words are awaited.
	Address string    `json:"address,omitempty"`
	Killed  bool      `json:"killed,omitempty"`
	Off     time.Time `json:"off,omitzero"`

	// Of groups: how many machines are wanted, or would be after a start, and
	// those that there are.
	Replicas int                 `json:"replicas,omitempty"`
	Members  []hypervisor.Member `json:"members,omitempty"`
}

// Live reports whether a supervisor owns the instance, or its machine on a
// remote platform is on.
func (s State) Live() bool { return s.Status == Running || s.Status == Restarting }

// Instance is one instance as its directory showed it.
type Instance struct {
	Dir    string
	Config Config
	State  State
	// Damaged says that the config cannot be read: such an instance is dead,
	// and can be looked at and removed, not started.
	Damaged error

	maker  *flock.Flock // held from Create to Start, else nil
	remote *remote      // nil where a supervisor runs the machine
	heard  *api.Exit    // the report that was read while its machine was on
	clean  Clean
	// abandoned says that its supervisor was killed, and that nobody has looked
	// yet for what that has left behind.
	abandoned bool
}

// Clean ends what the platform still runs of an instance whose supervisor was
// killed. Where there is nothing, it does nothing.
type Clean func(ctx context.Context, i *Instance) error

// Instances is the folder of all instances.
type Instances struct {
	dir     string
	clean   Clean
	remotes Remotes
}

// Under returns the instances of a capstan root. clean may be nil.
func Under(root string, clean Clean) *Instances {
	return &Instances{dir: filepath.Join(root, "instances"), clean: clean}
}

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
	configFile = "config.json"
	stateFile  = "state.json"
	lockFile   = "lock"  // held by who runs or removes the instance
	makerFile  = "maker" // held by who made it, until it was started
	socketFile = "sock"
	kernelFile = "kernel.log"

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

// Get finds an instance by its name or by an unambiguous beginning of its ID.
func (s *Instances) Get(name string) (*Instance, error) {
	if validName.MatchString(name) {
		if i, err := s.read(filepath.Join(s.dir, name)); !errors.Is(err, fs.ErrNotExist) {
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
			s.sweep(dir)
			continue
		}
		i, err := s.read(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile, or not ours
		}
		if err != nil {
			return nil, err
		}
		if i.abandoned {
			i.bury()
		}
		if i.left() && i.remove(noPatience) == nil {
			continue
		}
		all = append(all, i)
	}
	sort.SliceStable(all, func(a, b int) bool { return all[a].Config.Created.After(all[b].Config.Created) })
	return all, nil
}

func (s *Instances) read(dir string) (*Instance, error) {
	i, err := s.remotes.read(dir)
	if err == nil {
		i.clean = s.clean
	}
	return i, err
}

// path is a path of the instance's config as this host has it.
func (i *Instance) path(p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(i.Dir, p)
}

// read reads the instance in dir. One whose files are damaged, by a crash of
// the host, is dead and can be removed; it must not hide the others.
func (r Remotes) read(dir string) (*Instance, error) {
	i := &Instance{Dir: dir}
	file := filepath.Join(dir, configFile)
	err := readJSON(file, &i.Config)
	if err == nil && (i.Config.Name == "" || i.Config.ID == "") {
		err = &damagedError{file}
	}
	var damaged *damagedError
	if errors.As(err, &damaged) {
		i.Damaged = damaged
	}
	if err == nil {
		i.remote = r.find(i.Config.Platform)
		err = i.Refresh()
	}
	if errors.As(err, &damaged) {
		i.Config.Name = filepath.Base(dir)
		i.State = State{Status: Dead, Reason: damaged.Error(), Exit: api.Exit{Status: ExitLost}}
		return i, nil
	}
	if err != nil {
		return nil, err
	}
	return i, nil
}

// Refresh reads the state again.
func (i *Instance) Refresh() error {
	for again := false; ; again = true {
		held := supervised(i.Dir)
		var state State
		if err := readJSON(filepath.Join(i.Dir, stateFile), &state); err != nil {
			return err
		}
		if state.Status == "" {
			return &damagedError{filepath.Join(i.Dir, stateFile)}
		}
		switch {
		case i.remote != nil && state.Status == Making && !held:
			i.State = State{Status: Dead, Reason: "the command that made it was killed", Exit: api.Exit{Status: ExitLost}}
			return nil
		case held || !state.Live() || i.remote != nil:
			i.State = state
			return nil
		case again: // else the state may have been written after the first look
			i.State, i.abandoned = state.lost(), true
			return nil
		}
	}
}

// lost is the state of an instance that was to run and that nobody runs.
func (s State) lost() State {
	s.Status, s.Reason = Dead, "its supervisor was killed, or the host went down"
	s.Exit = api.Exit{Status: ExitLost}
	s.PID, s.Ports = 0, nil
	return s
}

func readJSON(path string, v any) error {
	doc, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading instance: %w", err)
	}
	if err := json.Unmarshal(doc, v); err != nil {
		return &damagedError{path}
	}
	return nil
}

// damagedError is a file of an instance's that does not hold what it should.
type damagedError struct{ path string }

func (e *damagedError) Error() string { return e.path + " is damaged: it is not what Capstan wrote" }

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
