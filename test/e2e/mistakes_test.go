//go:build e2e

package e2e

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// refused is how a command that cannot do what it should ends: its status,
// one sentence, and a way out.
type refused struct {
	status        int
	sentence, way string
}

// check fails the test unless a command ended so, with no more words. The note
// on acceleration is not one of them.
func (want refused) check(t *testing.T, c *capstan, r result) {
	t.Helper()
	plain := regexp.MustCompile(`\bprobe-[0-9a-f]{4}\b`).ReplaceAllString(r.stderr, "probe-ABCD")
	plain = strings.ReplaceAll(plain, c.root, "ROOT")
	plain = regexp.MustCompile(`(?m)^capstan: running without acceleration: .+\n`).ReplaceAllString(plain, "")
	got := strings.SplitN(plain, "\n", 3)
	if r.status != want.status || len(got) != 3 || got[2] != "" || got[0] != "capstan: "+want.sentence || !strings.HasPrefix(got[1], "  try: "+want.way) {
		t.Errorf("status %d, want %d\ngot\n%s%s\nwant\ncapstan: %s\n  try: %s…", r.status, want.status, r.stdout, plain, want.sentence, want.way)
	}
	c.checkNothingLeft(t)
}

// script writes an executable file.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "qemu")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestRefusedMachines: what keeps a machine from starting.
func TestRefusedMachines(t *testing.T) {
	c := newProbe(t)
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	const install = "apt-get install qemu-system-x86"
	taken, takenUDP := tcp.Addr().String(), udp.LocalAddr().String()
	for _, tt := range []struct {
		name, qemu string
		flags      []string
		want       refused
	}{
		{"a port in use", "", []string{"-p", taken + ":80"},
			refused{125, "starting probe-ABCD: publishing " + taken + "/tcp: port is in use", "another host port, or 0 for any free one"}},
		{"a UDP port in use", "", []string{"-p", takenUDP + ":80/udp"},
			refused{125, "starting probe-ABCD: publishing " + takenUDP + "/udp: port is in use", "another host port, or 0 for any free one"}},
		{"a foreign address", "", []string{"-p", "192.0.2.1:0:80"},
			refused{125, "starting probe-ABCD: publishing 192.0.2.1:0/tcp: this host does not have that address", "127.0.0.1"}},
		{"too much memory", "", []string{"-m", "65536G"},
			refused{125, "starting probe-ABCD: this host has too little memory for a machine of 67108864 MiB", "less memory"}},
		{"no such QEMU", "/nowhere/qemu", nil,
			refused{125, "starting probe-ABCD: qemu: there is no program /nowhere/qemu, which the setting qemu_path names (no such file or directory)", install}},
		{"a QEMU that cannot be executed", "/etc/passwd", nil,
			refused{125, "starting probe-ABCD: qemu: there is no program /etc/passwd, which the setting qemu_path names (permission denied)", install}},
		{"an old QEMU", script(t, "[ \"$1\" = --version ] && echo QEMU emulator version 4.2.1 && exit\necho bad option >&2; exit 1\n"), nil,
			refused{125, "starting probe-ABCD: qemu: QEMU 4.2.1 is too old: 6.0 is needed", install}},
		{"a program that is no QEMU", script(t, "echo hello\n"), nil,
			refused{125, "starting probe-ABCD: qemu: QEMU does not say which version it is", install}},
		{"a QEMU that ends at once", script(t, "[ \"$1\" = --version ] && echo QEMU emulator version 9.0.0 && exit\necho 'library x is missing' >&2; exit 3\n"), nil,
			refused{125, "starting probe-ABCD: QEMU would not start: library x is missing", "capstan doctor"}},
		{"a QEMU that ends without a word", script(t, "[ \"$1\" = --version ] && echo QEMU emulator version 9.0.0 && exit\nexit 3\n"), nil,
			refused{125, "starting probe-ABCD: QEMU ended at its start: exit status 3", "capstan doctor"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := c.must(t, "ps", "-aq")
			cmd := c.command(t.Context(), append(append([]string{"run"}, tt.flags...), probe)...)
			if tt.qemu != "" {
				cmd.Env = append(cmd.Env, "CAPSTAN_QEMU_PATH="+tt.qemu)
			}
			want := tt.want
			want.sentence = strings.Replace(want.sentence, "QEMU does not say", tt.qemu+" does not say", 1)
			want.check(t, c, finish(t, cmd))
			if after := c.must(t, "ps", "-aq"); after != before {
				t.Errorf("ps -aq shows %q", after)
			}
		})
	}
}

// TestNoQEMU hides /usr from the command: there is no QEMU then.
func TestNoQEMU(t *testing.T) {
	c := newProbe(t)
	cmd := c.command(t.Context())
	hidden := exec.Command("unshare", "--mount", "--map-root-user", "sh", "-c",
		`mount -t tmpfs tmpfs /usr/bin && PATH= exec "$0" run `+probe, cmd.Path)
	hidden.Env = cmd.Env
	r := finish(t, hidden)
	if strings.Contains(r.stderr, "unshare") || strings.Contains(r.stderr, "mount: ") {
		// Only where QEMU lies in none of the usual places can this be
		// seen without a namespace.
		t.Skipf("no namespaces here: %s", r.stderr)
	}
	refused{125, "starting probe-ABCD: qemu: qemu-system-x86_64 is not installed", "apt-get install qemu-system-x86"}.check(t, c, r)
}

// TestDamagedInstance: files of an instance that are damaged or gone. It is
// listed, says what is wrong, and can be removed.
func TestDamagedInstance(t *testing.T) {
	c := newProbe(t)
	for _, tt := range []struct {
		name, file, text string
		want             refused
	}{
		{"root", "root.erofs", "garbage", refused{1, "the root file system of victim is damaged: reading the superblock: EOF", "capstan rm victim; capstan rmi -f probe; then build or pull probe"}},
		{"no root", "root.erofs", "", refused{1, "the root file system of victim is damaged: it is missing", "capstan rm victim"}},
		{"no disk", "upper.ext4", "", refused{1, "the writable disk of victim is missing", "capstan rm victim"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c.must(t, "run", "--name", "victim", probe)
			path := filepath.Join(c.root, "instances", "victim", tt.file)
			// The root is one file with the store's: another takes its place.
			err := os.Remove(path)
			if tt.text != "" {
				err = errors.Join(err, os.WriteFile(path, []byte(tt.text), 0o600))
			}
			if err != nil {
				t.Fatal(err)
			}
			r := c.run(t, "start", "victim")
			if list := c.must(t, "ps", "-aq"); list != "victim\n" {
				t.Errorf("ps -aq shows %q", list)
			}
			c.must(t, "rm", "victim")
			tt.want.check(t, c, r)
		})
	}
}

// TestFullDiskInRun gives an instance a file system of a few MiB. There is no
// room for the root at first; then, for what the application writes.
func TestFullDiskInRun(t *testing.T) {
	c := newProbe(t)
	cmd := c.command(t.Context())
	inside := func(megabytes, line string) result {
		// The store lies outside; the instances and roots inside.
		full := exec.Command("unshare", "--mount", "--map-root-user", "sh", "-c",
			`cd "$CAPSTAN_ROOT" && mkdir -p instances roots && mount -t tmpfs -o size=`+megabytes+`m tmpfs instances && mount --bind instances roots && `+
				`"$0" `+line+`; status=$?; find instances -type f ! -name '*.lock' >&2; exit $status`, cmd.Path)
		full.Env = cmd.Env
		return finish(t, full)
	}
	r := inside("1", "run "+probe)
	if strings.Contains(r.stderr, "unshare") || strings.Contains(r.stderr, "mount: ") {
		t.Skipf("no namespaces here: %s", r.stderr)
	}
	refused{125, "file system ROOT/roots is full (no space left on device)", "capstan prune"}.check(t, c, r)
	// Not even the application's words have room, which ends the machine;
	// where they do, its write has failed.
	r = inside("8", "run --name full "+probe+" /probe fill /file")
	if r.status != 137 && r.status != 3 || !strings.Contains(r.stdout+r.stderr, "no space left on device") && !strings.Contains(r.stdout, "/file: ") {
		t.Errorf("status %d, and it should have ended for want of room:\n%s%s", r.status, r.stdout, r.stderr)
	}
}
