package ec2

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"capstan/internal/cloud/pushlock"
)

// state is what this host knows of a push that is not complete: a document,
// and a record for each block that the cloud has confirmed. It is written in
// such an order that a process may be killed at any moment.
type state struct {
	path string // without a suffix
	lock *pushlock.Lock
	dry  bool // nothing is written

	doc   stateDoc
	known map[int32]sum // sent before

	mu      sync.Mutex
	records *os.File
}

type stateDoc struct {
	// Token makes starting a snapshot again start no other.
	Token    string
	Snapshot string    `json:",omitempty"`
	Started  time.Time // when the token was made
}

// lockState opens the state of a push, once no other process has it. A dry one
// is only read.
func (c *Client) lockState(ctx context.Context, disk string) (*state, error) {
	s, err := newState(c.opts.State, c.stateKey(disk), c.opts.Would != nil)
	if err != nil {
		return nil, err
	}
	if s.lock, err = pushlock.Wait(ctx, s.path+".lock", c.opts.Progress); err != nil {
		return nil, err
	}
	return s, s.load()
}

// tryState is lockState, but that it returns nil where another process has it.
func tryState(dir, key string, dry bool) (*state, error) {
	s, err := newState(dir, key, dry)
	if err != nil {
		return nil, err
	}
	if s.lock, err = pushlock.Try(s.path + ".lock"); err != nil || s.lock == nil {
		return nil, err
	}
	return s, s.load()
}

func newState(dir, key string, dry bool) (*state, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return &state{path: filepath.Join(dir, key), dry: dry, known: map[int32]sum{}}, nil
}

// load reads what an earlier process has written. Half a record at the end is
// of one that was killed.
func (s *state) load() error {
	doc, err := os.ReadFile(s.path + ".json")
	if err == nil && json.Unmarshal(doc, &s.doc) == nil {
		err = s.loadBlocks()
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	s.close()
	return fmt.Errorf("reading the state of a push: %w", err)
}

func (s *state) loadBlocks() error {
	records, err := os.ReadFile(s.path + ".blocks")
	for ; len(records) >= recordSize; records = records[recordSize:] {
		s.known[int32(binary.LittleEndian.Uint32(records))] = sum(records[4:recordSize])
	}
	return err
}

// begin makes the state that of a new snapshot.
func (s *state) begin(token string) error {
	s.known, s.doc = map[int32]sum{}, stateDoc{Token: token, Started: time.Now().UTC()}
	if s.dry {
		return nil
	}
	if err := os.Remove(s.path + ".blocks"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return s.save()
}

// noteMade notes that this host makes an image of the disk.
func (s *state) noteMade() error {
	if s.dry {
		return nil
	}
	return pushlock.NoteMade(s.path)
}

func (s *state) save() error {
	if s.dry {
		return nil
	}
	doc, err := json.Marshal(s.doc)
	if err != nil {
		return err
	}
	tmp := s.path + ".tmp"
	if err := os.WriteFile(tmp, doc, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, s.path+".json")
}

// note records a block that the cloud has confirmed.
func (s *state) note(b blockSum) error {
	if s.dry {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.records == nil {
		f, err := os.OpenFile(s.path+".blocks", os.O_WRONLY|os.O_CREATE, 0o600)
		if err != nil {
			return err
		}
		s.records = f
		end, err := f.Seek(0, io.SeekEnd)
		if err != nil {
			return err
		}
		if _, err := f.Seek(end-end%recordSize, io.SeekStart); err != nil {
			return err
		}
	}
	_, err := s.records.Write(b.record())
	return err
}

// forget removes the state: the push is complete, or nothing is left of it.
func (s *state) forget() error {
	if s.dry {
		return nil
	}
	s.closeRecords()
	for _, suffix := range []string{".json", ".blocks", ".tmp"} {
		if err := os.Remove(s.path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// close lets other processes at it.
func (s *state) close() {
	s.closeRecords()
	s.lock.Close()
}

func (s *state) closeRecords() {
	if s.records != nil {
		_ = s.records.Close() // each record is written by now
	}
	s.records = nil
}
