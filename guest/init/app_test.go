//go:build linux && e2e

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"capstan/guest/api"
	"capstan/internal/image/ext4"
)

// noNetwork is for tests that need none.
var noNetwork = api.Network{None: true}

func TestApplicationSees(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  api.Config
		s    setup
		want []string
	}{
		"user by name": {
			cfg:  api.Config{Args: []string{"app", "who"}, User: "web", Workdir: "/srv/private", Hostname: "shop.example"},
			want: []string{"uid=33 gid=44 groups=[44 55 66] cwd=/srv/private host=shop.example ppid=1 pgrp=true"},
		},
		"user and group": {
			cfg:  api.Config{Args: []string{"app", "who"}, User: "web:extra"},
			want: []string{"uid=33 gid=55 groups=[55] cwd=/ host=capstan"},
		},
		"numbers": {
			cfg:  api.Config{Args: []string{"app", "who"}, User: "1234:5678", Workdir: "/made/for/it"},
			want: []string{"uid=1234 gid=5678 groups=[5678] cwd=/made/for/it"},
		},
		"environment": {
			cfg:  api.Config{Args: []string{"app", "env"}, User: "web", Env: []string{"A=1", "B=x y", "A=2"}},
			want: []string{"PATH=" + defaultPath + "\n", "\nHOME=/srv/web\n", "\nHOSTNAME=capstan\n", "\nA=2\n", "\nB=x y\n"},
		},
		"arguments": {
			cfg:  api.Config{Args: []string{"app", "args", "", "a b", "\t\n"}},
			want: []string{`["" "a b" "\t\n"]`},
		},
		"files": {
			cfg: api.Config{Args: []string{"app", "cat", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/run/link", "/tmp/seed"}, Hostname: "h1",
				Network: api.Network{Address: "10.0.2.15/24", Nameservers: []string{"10.0.2.3"}, Search: []string{"lan"}, Hosts: map[string]string{"db": "10.0.0.9"}}},
			want: []string{"127.0.0.1\tlocalhost\n", "10.0.2.15\th1\n10.0.0.9\tdb\nh1\n", "search lan\nnameserver 10.0.2.3\n", "keptseed"},
		},
		"mounts": {
			cfg: api.Config{Args: []string{"app", "ls", "/run", "/run/web", "/tmp", "/dev/shm", "/dev/stdout", "/dev/pts/ptmx", "/dev/mqueue", "/dev/null", "/sys/class", "/capstan", "/init"}},
			want: []string{"/run drwxr-xr-x 0 0\n/run/web drwxr-x--- 33 33\n/tmp dtrwxrwxrwx 0 0\n/dev/shm dtrwxrwxrwx 0 0\n/dev/stdout Lrwxrwxrwx", "/dev/pts/ptmx Dcrw-rw-rw-",
				"/dev/mqueue d", "/dev/null Dcrw-rw-rw-", "/sys/class d", "/capstan missing\n/init missing\n"},
		},
		"read-only root": {
			cfg:  api.Config{Args: []string{"app", "put", "/file", "x"}, Root: api.Root{ReadOnly: true}},
			want: []string{"read-only file system"},
		},
		"renamed directory of the image": {
			cfg:  api.Config{Args: []string{"app", "mkdir", "/srv/dir", "/srv/other"}},
			want: []string{""},
		},
		"standard streams by name": {
			cfg:  api.Config{Args: []string{"app", "reopen"}, User: "1000"},
			want: []string{strings.Repeat("/dev/stdout\n/dev/stderr\n", 3)},
		},
		"standard streams of a terminal by name": {
			cfg:  api.Config{Args: []string{"app", "reopen"}, User: "1000", TTY: true},
			want: []string{strings.Repeat("/dev/stdout\r\n/dev/stderr\r\n", 3)},
		},
		"limits": {
			cfg:  api.Config{Args: []string{"app", "limits"}},
			want: []string{"nofile 1048576 1048576", "core 0 -1", "memlock -1 -1", "nproc -1 -1", "oom 0\n", "Umask: 0022", "SigBlk: 0000000000000000", "SigIgn: 0000000000000000"},
		},
		"kernel settings": {
			cfg: api.Config{Args: []string{"app", "cat", "/proc/sys/net/core/somaxconn", "/proc/sys/vm/overcommit_memory", "/proc/sys/vm/max_map_count",
				"/sys/kernel/mm/transparent_hugepage/enabled", "/proc/sys/fs/file-max", "/proc/sys/kernel/pid_max", "/proc/sys/net/ipv4/ip_unprivileged_port_start", "/proc/sys/kernel/threads-max", "/proc/sys/fs/inotify/max_user_watches",
				"/proc/sys/kernel/panic", "/proc/sys/kernel/panic_on_oops", "/proc/sys/vm/swappiness"},
				Sysctls: map[string]string{"net.core.somaxconn": "128", "vm/swappiness": "7"}},
			want: []string{"128\n1\n1048576\nalways [madvise] never\n9223372036854775807\n4194304\n0\n1048576\n1048576\n-1\n1\n7\n"},
		},
		"static network": {
			cfg:  api.Config{Args: []string{"app", "net"}, Network: api.Network{Address: "10.0.2.15/24", Gateway: "10.0.2.2"}},
			want: []string{"lo true 127.0.0.1/8\neth0 true 10.0.2.15/24\nroute 10.0.2.15\n"},
		},
		"DHCP": {
			cfg:  api.Config{Args: []string{"app", "net"}, Network: api.Network{Search: []string{"dhcp"}}},
			want: []string{"eth0 true 10.0.2.15/24\nroute 10.0.2.15\n"},
		},
		"resolver by DHCP": {
			cfg:  api.Config{Args: []string{"app", "cat", "/etc/resolv.conf"}, Network: api.Network{Search: []string{"dhcp"}}},
			want: []string{"search dhcp\nnameserver 10.0.2.3\n"},
		},
		"storm of orphans":         {cfg: api.Config{Args: []string{"app", "storm", "100"}}, want: []string{"no zombies\n"}},
		"entropy":                  {cfg: api.Config{Args: []string{"app", "random"}}, want: []string{"random 1024\n"}},
		"entropy without a source": {cfg: api.Config{Args: []string{"app", "random", "wait"}}, s: setup{cpu: "max,rdrand=off,rdseed=off"}, want: []string{"random 1024\n"}},
		"DHCP without a source": {
			cfg:  api.Config{Args: []string{"app", "net"}, Network: api.Network{Search: []string{"dhcp"}}},
			s:    setup{cpu: "qemu64"},
			want: []string{"eth0 true 10.0.2.15/24\n"},
		},
		"orphans":        {cfg: api.Config{Args: []string{"app", "orphans"}}, want: []string{"no zombies\n"}},
		"user namespace": {cfg: api.Config{Args: []string{"app", "userns"}}, want: []string{"hello\n"}},
		"tmpfs volume": {
			cfg:  api.Config{Args: []string{"app", "put", "/data/deep/file", "x"}, Mounts: []api.Mount{{Type: "tmpfs", Target: "/data/deep"}}},
			want: []string{""},
		},
		"q35": {
			cfg:  api.Config{Args: []string{"app", "net"}, Network: api.Network{Address: "10.0.2.15/24", Gateway: "10.0.2.2"}},
			s:    setup{machine: "q35"},
			want: []string{"eth0 true 10.0.2.15/24\n"},
		},
		"kernel's console": {cfg: api.Config{Args: []string{"app", "order"}}, s: setup{noPort: true}, want: []string{"out 0\nerr 0\nout 1\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			if n := c.cfg.Network; n.Address == "" && n.Search == nil {
				c.cfg.Network = noNetwork
			}
			m := boot(t, c.cfg, c.s)
			out, exit := m.end()
			if name == "read-only root" {
				exit.Status -= 98
			}
			if exit != (api.Exit{}) {
				t.Errorf("ended with %+v", exit)
			}
			if strings.Contains(out, "stray fd") {
				t.Error("the application has files of PID 1's")
			}
			for _, w := range c.want {
				if !strings.Contains(out, w) {
					t.Errorf("no %q in\n%s", w, out)
				}
			}
		})
	}
}

func TestOutputIsExact(t *testing.T) {
	const size = 5 << 20
	out, exit := boot(t, api.Config{Args: []string{"app", "bytes", fmt.Sprint(size)}, Network: noNetwork}, setup{}).end()
	want := make([]byte, size)
	x := uint32(1)
	for i := range want {
		x = x*1664525 + 1013904223
		want[i] = byte(x >> 24)
	}
	if !bytes.Equal([]byte(out), want) || exit != (api.Exit{}) {
		t.Errorf("%d bytes of %d arrived, or not the same ones; %+v", len(out), size, exit)
	}
	var lines []string
	for i := range 1000 {
		lines = append(lines, fmt.Sprintf("out %d\nerr %d\n", i, i))
	}
	if out, _ := boot(t, api.Config{Args: []string{"app", "order"}, Network: noNetwork}, setup{}).end(); out != strings.Join(lines, "") {
		t.Errorf("the streams are mixed: %q", out)
	}
}

func TestBadConfig(t *testing.T) {
	for name, c := range map[string]struct{ raw, want string }{
		"not JSON":      {"{", "the instance config is not valid: unexpected end of JSON input"},
		"other version": {`{"version":9}`, "the instance config has version 9, this guest knows version 1"},
		"no program":    {`{"version":1}`, "the instance config names no program to run"},
		"no such disk":  {`{"version":1,"args":["x"],"root":{"lower":["serial:nope"]},"network":{"none":true}}`, `the machine has no disk "serial:nope"`},
	} {
		t.Run(name, func(t *testing.T) {
			if _, exit := boot(t, api.Config{}, setup{raw: []byte(c.raw)}).end(); exit.Status != statusFailed || exit.Reason != c.want {
				t.Errorf("got %+v, want %q", exit, c.want)
			}
		})
	}
}

// What is written stays, on a file system that the guest grows to its disk
// and leaves clean.
func TestUpperPersists(t *testing.T) {
	upper := filepath.Join(t.TempDir(), "upper")
	f, err := os.Create(upper)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := ext4.Format(f, ext4.Options{Size: 32 << 20}); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(256 << 20); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		out, exit := boot(t, api.Config{Args: append([]string{"app"}, args...), Network: noNetwork}, setup{upper: upper}).end()
		if exit != (api.Exit{}) {
			t.Fatalf("%v: %+v, %s", args, exit, out)
		}
		return out
	}
	run("put", "/srv/kept", "on the disk")
	super := make([]byte, 1024)
	if _, err := f.ReadAt(super, 1024); err != nil {
		t.Fatal(err)
	}
	if have, want, err := blockCounts(super, 256<<20); err != nil || have < want*9/10 {
		t.Errorf("the file system has %d blocks of %d (%v)", have, want, err)
	}
	const needsRecovery = 4 // s_feature_incompat at 0x60
	if super[0x60]&needsRecovery != 0 {
		t.Error("the file system was not left clean")
	}
	run("put", "/tmp/gone", "temporary")
	if out := run("cat", "/srv/kept"); out != "on the disk" {
		t.Errorf("found %q", out)
	}
	if out := run("ls", "/tmp/gone", "/tmp/seed"); !strings.HasPrefix(out, "/tmp/gone missing\n/tmp/seed -rw") {
		t.Errorf("/tmp: %q", out)
	}
}

// A file system that takes long to grow does so while the application runs,
// and in the next boot where that ends before.
func TestUpperGrows(t *testing.T) {
	upper := filepath.Join(t.TempDir(), "upper")
	f, err := os.Create(upper)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const size = 400 << 30
	if err := errors.Join(ext4.Format(f, ext4.Options{Size: 32 << 20}), f.Truncate(size)); err != nil {
		t.Fatal(err)
	}
	blocks := func() (have, want uint64) {
		super := make([]byte, 1024)
		if _, err := f.ReadAt(super, 1024); err != nil {
			t.Fatal(err)
		}
		if have, want, err = blockCounts(super, size); err != nil {
			t.Fatal(err)
		}
		return have, want
	}
	if out, exit := boot(t, api.Config{Args: []string{"app", "hello"}, Network: noNetwork}, setup{upper: upper}).end(); exit != (api.Exit{}) {
		t.Fatalf("%+v, %s", exit, out)
	}
	if have, want := blocks(); have < growStep || have == want {
		t.Errorf("after a short boot the file system has %d blocks of %d", have, want)
	}
	if out, exit := boot(t, api.Config{Args: []string{"app", "room", "390"}, Network: noNetwork}, setup{upper: upper}).end(); exit != (api.Exit{}) {
		t.Fatalf("%+v, %s", exit, out)
	}
	if have, want := blocks(); have != want {
		t.Errorf("after a long boot the file system has %d blocks of %d", have, want)
	}
	if out, err := exec.Command("e2fsck", "-f", "-n", upper).CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
}

// Shares of the host, whole and single files.
func TestShares(t *testing.T) {
	dir := t.TempDir()
	for name, body := range map[string]string{"one": "first", "two": "second"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"-fsdev", "local,id=f,path=" + dir + ",security_model=none", "-device", "virtio-9p-device,fsdev=f,mount_tag=s0"}
	out, exit := boot(t, api.Config{
		Args: []string{"app", "cat", "/etc/one.conf", "/opt/two"}, Network: noNetwork,
		Mounts: []api.Mount{{Type: "9p", Source: "s0", Target: "/etc/one.conf", File: "one"}, {Type: "9p", Source: "s0", Target: "/opt/two", File: "two"}},
	}, setup{args: args}).end()
	if out != "firstsecond" || exit != (api.Exit{}) {
		t.Errorf("files: %q, %+v", out, exit)
	}
	out, exit = boot(t, api.Config{
		Args: []string{"app", "put", "/data/three", "third"}, Network: noNetwork,
		Mounts: []api.Mount{{Type: "9p", Source: "s0", Target: "/data"}},
	}, setup{args: args}).end()
	if got, err := os.ReadFile(filepath.Join(dir, "three")); string(got) != "third" || exit != (api.Exit{}) {
		t.Errorf("directory: %q, %v, %+v, %s", got, err, exit, out)
	}
}
