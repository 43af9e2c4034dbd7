//go:build linux

package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

func TestParseConfig(t *testing.T) {
	good := `{"version":1,"args":["x"],"root":{"lower":["serial:root"]}}`
	for doc, want := range map[string]string{
		good:   "",
		"":     "is not valid",
		"\x00": "is not valid",
		`{"version":1,"sysctls":{` + manyKeys(500_000) + `"b":""}}`:          "names no program",
		`{"version":1,"args":7}`:                                             "is not valid",
		strings.Replace(good, "1", "2", 1):                                   "has version 2, this guest knows version 1",
		strings.Replace(good, `"x"`, ``, 1):                                  "names no program",
		strings.Replace(good, `"x"`, `""`, 1):                                "names no program",
		strings.Replace(good, `"serial:root"`, ``, 1):                        "names no root disk",
		strings.Replace(good, `"x"`, `"a\u0000b"`, 1):                        "zero byte",
		strings.Replace(good, `"args"`, `"stop_signal":"SIGNOPE","args"`, 1): "SIGNOPE",
	} {
		_, err := parseConfig([]byte(doc))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", doc, err)
		}
	}
}

// manyKeys are a JSON object's.
func manyKeys(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"%d":"",`, i)
	}
	return b.String()
}

func TestEtcFiles(t *testing.T) {
	hosts := hostsFile("shop.example", "10.0.2.15", map[string]string{"b": "10.0.0.2", "a": "10.0.0.1"})
	if !strings.HasSuffix(hosts, "10.0.2.15\tshop.example shop\n10.0.0.1\ta\n10.0.0.2\tb\n") || !strings.HasPrefix(hosts, "127.0.0.1\tlocalhost\n") {
		t.Errorf("hosts: %q", hosts)
	}
	if got := resolvFile([]string{"10.0.2.3", "::1"}, []string{"a", "b"}); got != "search a b\nnameserver 10.0.2.3\nnameserver ::1\n" {
		t.Errorf("resolv.conf: %q", got)
	}
	if got := resolvFile(nil, []string{"a"}); got != "" {
		t.Errorf("resolv.conf without nameservers: %q", got)
	}
	dir := t.TempDir()
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"link", "etc/new", "etc/new"} {
		if err := writeFile(dir, name, "text"); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(filepath.Join(dir, name)); string(b) != "text" {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	if b, err := os.ReadFile(outside); string(b) != "mine" {
		t.Errorf("the link was followed: %q, %v", b, err)
	}
}

func TestSysctl(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "net/ipv4/conf/eth0.1"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"net/ipv4/x", "net/ipv4/conf/eth0.1/y"} {
		if err := os.WriteFile(filepath.Join(root, f), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, ok := range map[string]bool{"net.ipv4.x": true, "net/ipv4/conf/eth0.1/y": true, "net.ipv4.z": false, "../x": false, "/etc/passwd": false, "": false} {
		if err := setSysctl(root, name, "1"); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestFindDevice(t *testing.T) {
	sys := t.TempDir()
	for file, text := range map[string]string{
		"class/block/vda/serial":              "other\n",
		"class/block/vdb/serial":              "root",
		"class/block/nvme0n1/device/serial":   "vol-1   \n",
		"class/block/sda/device/vpd_pg80":     "\x00\x80\x00\x04disk",
		"class/block/sdb/device/vpd_pg80":     "\x00\x80\x00\x01x",
		"class/block/sdb/device/vpd_pg83":     "\x00\x83\x00\x14\x01\x03\x00\x08\x50\x01\x40\x55\x00\x00\x00\x01\x02\x00\x00\x04data",
		"class/block/sdc/device/vpd_pg83":     "\x00\x83\x00\x20\x02\x01\x00\x1cGoogle  PersistentDisk  logs",
		"class/block/sdd/device/vpd_pg83":     "\x00\x83\x00\x08\x02\x10\x00\x04port\x02\x00\x00\x09cut",
		"class/block/sda2/uevent":             "MAJOR=8\nPARTNAME=capstan-config\n",
		"class/virtio-ports/vport1p2/name":    "org.x\n",
		"bus/virtio/devices/virtio0/device":   "0x0003\n",
		"bus/virtio/devices/virtio0/features": "0100\n",
	} {
		path := filepath.Join(sys, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"serial:root": "/dev/vdb", "serial:vol-1": "/dev/nvme0n1", "serial:disk": "/dev/sda", "serial:data": "/dev/sdb", "serial:logs": "/dev/sdc", "serial:port": "", "serial:cut": "", "serial:": "",
		"partlabel:capstan-config": "/dev/sda2",
		"serial:nope":              "", "label:root": "", "root": "", "/no/such/device": "", sys: sys,
	} {
		if got := findDevice(sys, name); got != want {
			t.Errorf("%q: %q", name, got)
		}
	}
	if got := findPort(sys, "org.x"); got != "/dev/vport1p2" {
		t.Errorf("port: %q", got)
	}
	if findPort(sys, "org.y") != "" || !hasPorts(sys) || hasPorts(t.TempDir()) {
		t.Error("ports are misread")
	}
}

// Compute Engine's NVMe disks have their names in what NVMe leaves to vendors.
func TestNameInNamespace(t *testing.T) {
	for doc, want := range map[string]string{
		`{"device_name":"data-1","disk_type":"PERSISTENT"}`: "data-1", `{"device_name":7}`: "", `{"device_name":"cut`: "", "": "", "\xff": "",
	} {
		identity := make([]byte, 4096)
		copy(identity[384:], doc)
		if got := nameInNamespace(identity); got != want {
			t.Errorf("%q: %q", doc, got)
		}
	}
}

func TestLeasedAddress(t *testing.T) {
	ip := net.IPv4(10, 0, 0, 9)
	route := func(dest string, bits int, via net.IP) *dhcpv4.Route {
		return &dhcpv4.Route{Dest: &net.IPNet{IP: net.ParseIP(dest), Mask: net.CIDRMask(bits, 32)}, Router: via}
	}
	gateway := net.IPv4(10, 0, 0, 1)
	for name, c := range map[string]struct {
		mods []dhcpv4.Modifier
		want address
	}{
		"plain": {[]dhcpv4.Modifier{dhcpv4.WithNetmask(net.CIDRMask(24, 32)), dhcpv4.WithRouter(gateway), dhcpv4.WithDNS(gateway), dhcpv4.WithOption(dhcpv4.OptDomainName("lan"))},
			address{prefix: netip.MustParsePrefix("10.0.0.9/24"), gateway: netip.MustParseAddr("10.0.0.1"), nameservers: []string{"10.0.0.1"}, search: []string{"lan"}}},
		"host address and routes": {[]dhcpv4.Modifier{dhcpv4.WithRouter(net.IPv4(1, 2, 3, 4)), dhcpv4.WithOption(dhcpv4.OptClasslessStaticRoute(route("10.0.0.1", 32, net.IPv4zero), route("0.0.0.0", 0, gateway))),
			dhcpv4.WithGeneric(dhcpv4.OptionInterfaceMTU, []byte{5, 180})},
			address{prefix: netip.MustParsePrefix("10.0.0.9/32"), gateway: netip.MustParseAddr("10.0.0.1"), mtu: 1460,
				routes: []hop{{netip.MustParsePrefix("10.0.0.1/32"), netip.MustParseAddr("0.0.0.0")}}}},
	} {
		ack, err := dhcpv4.New(append(c.mods, dhcpv4.WithYourIP(ip))...)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := leasedAddress(ack); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if _, err := leasedAddress(&dhcpv4.DHCPv4{YourIPAddr: net.IPv4zero, Options: dhcpv4.Options{}}); err == nil {
		t.Error("an answer without an address was taken")
	}
	for _, c := range [][4]time.Duration{
		{0, 30 * time.Minute, time.Hour, 30 * time.Minute},
		{0, 5 * time.Minute, time.Hour, 5 * time.Minute},
		{40 * time.Minute, 30 * time.Minute, time.Hour, 10 * time.Minute},
		{59 * time.Minute, 30 * time.Minute, time.Hour, minRenewal},
		{59*time.Minute + 50*time.Second, 30 * time.Minute, time.Hour, 10 * time.Second},
		{0, 2 * time.Second, 4 * time.Second, 2 * time.Second},
		{3 * time.Second, 2 * time.Second, 4 * time.Second, time.Second},
		{0, 2 * time.Hour, time.Hour, time.Hour},
		{2 * time.Hour, 30 * time.Minute, time.Hour, 0},
	} {
		if got := renewIn(c[0], c[1], c[2]); got != c[3] {
			t.Errorf("age %s of %s: %s", c[0], c[2], got)
		}
	}
}

func FuzzLeasedAddress(f *testing.F) {
	f.Add([]byte{1, 4, 255, 255, 255, 0, 121, 5, 0, 10, 0, 0, 1, 26, 2, 5, 180})
	f.Fuzz(func(t *testing.T, options []byte) {
		ack := &dhcpv4.DHCPv4{YourIPAddr: net.IPv4(10, 0, 0, 9), Options: dhcpv4.Options{}}
		if ack.Options.FromBytes(options) != nil {
			return
		}
		a, err := leasedAddress(ack)
		if err != nil {
			return
		}
		if !a.prefix.IsValid() {
			t.Errorf("%x: %+v", options, a)
		}
		for _, c := range a.changes(2, netip.Prefix{}) {
			c.req.Serialize()
		}
	})
}

func TestMountTargets(t *testing.T) {
	got := mountTargets("root / overlay rw 0 0\nproc /proc proc rw 0 0\nx /a\\040b ext4 rw 0 0\ny /run tmpfs rw 0 0\nbroken\n")
	if !slices.Equal(got, []string{"/a b", "/run"}) {
		t.Errorf("%q", got)
	}
}

func TestStatistics(t *testing.T) {
	if got := cpuTime("cpu  100 1 99 5000 300 10 20 30 0 0\ncpu0 1\n"); got != 2300*time.Millisecond {
		t.Errorf("cpu time %s", got)
	}
	if got := meminfoBytes("MemTotal: 5 kB\nMemAvailable:     12 kB\n", "MemAvailable"); got != 12<<10 {
		t.Errorf("memory %d", got)
	}
	if r, w := blockBytes("1 2 3 4 5 6 7 8 9"); r != 3*512 || w != 7*512 {
		t.Errorf("blocks %d, %d", r, w)
	}
	if got := parent("12 (a) b( ) S 7 1 1"); got != 7 {
		t.Errorf("parent %d", got)
	}
	for _, broken := range []string{"", "x", ")", "cpu"} {
		r, w := blockBytes(broken)
		if cpuTime(broken) != 0 || meminfoBytes(broken, "MemTotal") != 0 || r+w != 0 || parent(broken) != 0 {
			t.Errorf("%q is counted", broken)
		}
	}
}
