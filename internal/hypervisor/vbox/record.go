package vbox

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"capstan/internal/hypervisor"
)

// recordFile is in the instance's directory for as long as VirtualBox may know
// a machine of it.
const recordFile = "vbox.json"

// record is how a machine is found again.
type record struct {
	UUID string `json:"uuid"`
	Name string `json:"name"`
	// Sockets is a folder of the machine's sockets, where they are not in the
	// instance's.
	Sockets string `json:"sockets,omitempty"`
}

// newRecord makes a machine's names, which no other has.
func newRecord(spec *hypervisor.Spec) record {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80 // RFC 9562, section 5.4
	uuid := fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
	return record{UUID: uuid, Name: fmt.Sprintf("capstan-%.40s-%x", spec.Name, b[:4])}
}

func (r record) write(dir string) error {
	doc, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("writing a machine's record: %w", err)
	}
	path := filepath.Join(dir, recordFile)
	if err := os.WriteFile(path+".tmp", doc, 0o600); err != nil {
		return fmt.Errorf("writing a machine's record: %w", err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return fmt.Errorf("writing a machine's record: %w", err)
	}
	return nil
}

var validUUID = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// Clean ends and forgets the machine that a killed process has left behind. It
// costs nothing where there is none.
func (d *Driver) Clean(ctx context.Context, dir string) error {
	doc, err := os.ReadFile(filepath.Join(dir, recordFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading a machine's record: %w", err)
	}
	var r record
	if err := json.Unmarshal(doc, &r); err != nil || !validUUID.MatchString(r.UUID) {
		return fmt.Errorf("%s is damaged: VirtualBox may know a machine of this instance", filepath.Join(dir, recordFile))
	}
	vbox, err := d.find()
	if err != nil {
		return err
	}
	return r.discard(ctx, vbox, dir)
}

// discard ends the machine, has VirtualBox forget it and its disk, and deletes
// what else VirtualBox has made of it.
func (r record) discard(ctx context.Context, vbox manager, dir string) error {
	err := r.unregister(ctx, vbox)
	for range unreadyRetries {
		if !unready(err) {
			break
		}
		time.Sleep(unreadyPause) // nothing tells when it is
		err = r.unregister(ctx, vbox)
	}
	if err != nil && !notFound(err) {
		return fmt.Errorf("removing the machine %s from VirtualBox: %w", r.Name, err)
	}
	err = os.RemoveAll(folder(dir))
	if r.Sockets != "" {
		err = errors.Join(err, os.RemoveAll(r.Sockets))
	}
	if removed := os.Remove(filepath.Join(dir, recordFile)); !errors.Is(removed, os.ErrNotExist) { // by another process
		err = errors.Join(err, removed)
	}
	if err != nil {
		return fmt.Errorf("removing the machine %s: %w", r.Name, err)
	}
	return nil
}

// unregister ends the machine and has VirtualBox forget it.
func (r record) unregister(ctx context.Context, vbox manager) error {
	state, err := vbox.state(ctx, r.UUID)
	if err == nil && !ended(state) {
		_, err = vbox.run(ctx, "controlvm", r.UUID, "poweroff")
		if err == nil || refused(err) { // it may have ended by itself
			state, err = vbox.awaitEnd(ctx, r.UUID)
		}
	}
	if err == nil && (state == "saved" || state == "aborted-saved") {
		_, err = vbox.run(ctx, "discardstate", r.UUID)
	}
	if err == nil {
		_, err = vbox.run(ctx, "unregistervm", r.UUID)
	}
	return err
}

// VirtualBox says for a moment that a machine is not ready, or locked, where it
// is just being changed by another process.
const (
	unreadyRetries = 20
	unreadyPause   = 250 * time.Millisecond
)

func unready(err error) bool {
	var r *refusal
	return errors.As(err, &r) && slices.ContainsFunc([]string{
		"The object is not ready", "while it is locked", "already has a lock request pending",
	}, func(moment string) bool { return strings.Contains(r.text, moment) })
}

// endTimeout bounds the time between the end of a machine's connections, or the
// order to end, and what VirtualBox says of it.
const endTimeout = time.Minute

// awaitEnd waits until VirtualBox says that a machine has ended, and how.
func (m manager) awaitEnd(ctx context.Context, uuid string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		state, err := m.state(ctx, uuid)
		if err != nil || ended(state) {
			return state, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return state, fmt.Errorf("waiting for the machine's end: it is %s: %w", state, ctx.Err())
		}
	}
}
