//go:build linux && e2e

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"capstan/guest/api"
	"capstan/internal/image/ext4"
)

// A disk that is attached while the guest waits for it is mounted, grown, and
// left clean; one that never comes is told.
func TestLateVolume(t *testing.T) {
	const size = 64 << 20
	dir := t.TempDir()
	volume, qmp := filepath.Join(dir, "volume"), filepath.Join(dir, "qmp")
	f, err := os.Create(volume)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := errors.Join(ext4.Format(f, ext4.Options{Size: size / 2}), f.Truncate(size)); err != nil {
		t.Fatal(err)
	}
	cfg := api.Config{Args: []string{"app", "put", "/data/kept", "late"}, Network: noNetwork, Mounts: []api.Mount{{Type: "ext4", Source: "serial:vol1", Target: "/data", Wait: 300}}}
	m := boot(t, cfg, setup{machine: "pc", noPort: true, args: []string{"-qmp", "unix:" + qmp + ",server=on,wait=off", "-drive", "if=none,id=late,format=raw,file=" + volume}})
	m.expect("waiting for the disk")
	conn, err := net.Dial("unix", qmp)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprintln(conn, `{"execute":"qmp_capabilities"}{"execute":"device_add","id":"add","arguments":{"driver":"nvme","drive":"late","serial":"vol1","bus":"pci.0"}}`); err != nil {
		t.Fatal(err)
	}
	for d := json.NewDecoder(conn); ; {
		var answer struct {
			ID    string
			Error *struct{ Desc string }
		}
		if err := d.Decode(&answer); err != nil || answer.Error != nil {
			t.Fatalf("attaching it: %v, %+v", err, answer.Error)
		}
		if answer.ID == "add" {
			break
		}
	}
	if out, exit := m.end(); exit != (api.Exit{}) {
		t.Fatalf("%+v, %s", exit, out)
	}
	super := make([]byte, 1024)
	if _, err := f.ReadAt(super, 1024); err != nil {
		t.Fatal(err)
	}
	const needsRecovery = 4 // s_feature_incompat at 0x60
	if have, want, err := blockCounts(super, size); err != nil || have < want*9/10 || super[0x60]&needsRecovery != 0 {
		t.Errorf("the file system has %d blocks of %d, and flags %x; %v", have, want, super[0x60], err)
	}
	cfg.Mounts[0].Wait = 1
	if out, exit := boot(t, cfg, setup{}).end(); exit.Status != statusFailed || !strings.Contains(exit.Reason, `has no disk "serial:vol1", and got none within 1s`) {
		t.Errorf("without: %+v, %s", exit, out)
	}
}
