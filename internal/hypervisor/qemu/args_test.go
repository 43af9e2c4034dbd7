package qemu

import (
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"capstan/guest/api"
	"capstan/internal/hypervisor"
	"capstan/internal/image/disk"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestArgs(t *testing.T) {
	minimal := func() *launch {
		return &launch{goos: "linux", accel: "tcg", config: "/i/config.cpio", spec: &hypervisor.Spec{
			Name: "hello", Dir: "/i", Kernel: "/g/guest", Memory: 48 << 20,
		}}
	}
	for name, change := range map[string]func(*launch){
		"minimal": func(*launch) {},
		"no network": func(l *launch) {
			l.spec.Guest.Network.None = true
			l.spec.Verbose = true
		},
		"everything": func(l *launch) {
			l.accel, l.sandbox = "kvm", true
			l.spec.Name, l.spec.Decompressed = "a,b", "/g/with, comma"
			l.spec.Memory, l.spec.CPUs = 1<<30+1, 4
			l.spec.Disks = []hypervisor.Disk{{Path: `/d/a,b"c`, Serial: "root", ReadOnly: true}, {Path: "/d/upper", Serial: "upper"}}
			l.spec.Ports = []hypervisor.Port{
				{Host: netip.MustParseAddr("127.0.0.1"), HostPort: 8080, Guest: 80, Protocol: "tcp"},
				{Host: netip.IPv4Unspecified(), Guest: 53, Protocol: "udp"},
			}
			l.spec.Shares = []hypervisor.Share{{Tag: "s0", Path: "/s/a,b"}, {Tag: "s1", Path: "/s", ReadOnly: true}}
		},
		"many disks": func(l *launch) {
			for i := range 6 {
				l.spec.Disks = append(l.spec.Disks, hypervisor.Disk{Path: "/d", Serial: "d" + strconv.Itoa(i), ReadOnly: true})
			}
		},
		"system": func(l *launch) {
			l.spec.System = &hypervisor.System{
				Disk: "/i/disk.qcow2", Base: "/i/base.disk", Format: disk.VHD, Firmware: hypervisor.BIOS, Bus: hypervisor.Virtio,
			}
		},
		"system of UEFI": func(l *launch) {
			l.firmware = firmware{"/f/code,.fd", "/i/vars.fd"}
			l.spec.System = &hypervisor.System{
				Disk: "/i/disk.qcow2", Base: "/i/base.disk", Format: disk.QCOW2, Firmware: hypervisor.UEFI, Bus: hypervisor.SATA,
			}
		},
		"darwin": func(l *launch) {
			l.goos, l.accel = "darwin", "hvf"
			l.spec.Disks = []hypervisor.Disk{{Path: "/d/upper", Serial: "upper"}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := minimal()
			change(l)
			for i, id := range channelIDs {
				l.channels = append(l.channels, channel{id, "socket,fd=" + strconv.Itoa(3+i)})
			}
			got := strings.Join(l.args(), "\n") + "\n"
			golden := filepath.Join("testdata", "args", strings.ReplaceAll(name, " ", "-")+".txt")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil || got != string(want) {
				t.Errorf("%v; got\n%s\nwant\n%s", err, got, want)
			}
		})
	}
}

func TestComplete(t *testing.T) {
	spec := hypervisor.Spec{Memory: minMemory, Ports: []hypervisor.Port{{Guest: 80}}}
	spec.Guest.Network.Search = []string{"example.org"}
	got, err := complete(&spec)
	if err != nil {
		t.Fatal(err)
	}
	net := got.Guest.Network
	if net.Address != "10.0.2.15/24" || net.Gateway != "10.0.2.2" || len(net.Nameservers) != 1 || len(net.Search) != 1 || got.Guest.Version != api.Version {
		t.Errorf("got %+v", got.Guest)
	}
	if got.Ports[0].String() != "127.0.0.1:0->80/tcp" || spec.Ports[0].Protocol != "" {
		t.Errorf("got %v of %v", got.Ports, spec.Ports)
	}
	for want, change := range map[string]func(*hypervisor.Spec){
		"the least is":   func(s *hypervisor.Spec) { s.Memory = minMemory - 1<<20 },
		"serial":         func(s *hypervisor.Spec) { s.Disks = []hypervisor.Disk{{Serial: strings.Repeat("x", 21)}} },
		"tag":            func(s *hypervisor.Spec) { s.Shares = []hypervisor.Share{{Path: "/"}} },
		"no network":     func(s *hypervisor.Spec) { s.Guest.Network.None = true },
		"IPv4":           func(s *hypervisor.Spec) { s.Ports[0].Host = netip.IPv6Loopback() },
		"neither tcp":    func(s *hypervisor.Spec) { s.Ports[0].Protocol = "sctp" },
		"no port of the": func(s *hypervisor.Spec) { s.Ports[0].Guest = 0 },
	} {
		s := spec
		s.Ports = append([]hypervisor.Port(nil), spec.Ports...)
		change(&s)
		if _, err := complete(&s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
}

func TestWriteConfig(t *testing.T) {
	dir := t.TempDir()
	for range 2 { // the second replaces the first
		path, err := writeConfig(dir, api.Config{Version: api.Version, Args: []string{"hello"}})
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
		content, err := os.ReadFile(path)
		if err != nil || len(content)%4 != 0 {
			t.Fatalf("%d bytes, %v", len(content), err)
		}
		_, rest, _ := strings.Cut(string(content), "capstan/config.json\x00")
		var config api.Config
		if err := json.NewDecoder(strings.NewReader(strings.TrimLeft(rest, "\x00"))).Decode(&config); err != nil || config.Args[0] != "hello" || config.Time == 0 {
			t.Errorf("%+v, %v", config, err)
		}
	}
	if names, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(names) != 1 {
		t.Errorf("left %q, %v", names, err)
	}
	if _, err := writeConfig(filepath.Join(dir, "absent"), api.Config{}); err == nil {
		t.Error("wrote into a directory that does not exist")
	}
}
