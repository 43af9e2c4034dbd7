//go:build linux && e2e

package main

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"capstan/guest/api"
)

// The clouds by what their machines' firmware says, each with the disk that
// its machines have.
var (
	nitro = setup{cloud: "EC2", disk: "-device nvme,drive=d,serial=1", args: []string{"-smbios", "type=1,manufacturer=Amazon EC2,product=m7i.large"}}
	gce   = setup{cloud: "GCE", disk: "-device virtio-scsi-pci,id=v -device scsi-hd,drive=d,bus=v.0", args: []string{"-smbios", "type=1,manufacturer=Google,product=Google Compute Engine"}}
	plain = setup{disk: "-device virtio-blk-pci,drive=d"}
)

// metadataServer is EC2's metadata server and GCE's, as strict as they are.
type metadataServer struct {
	userData string // "" for none
	hostname string
	answer   http.HandlerFunc // in place of all that, if it is not nil
	asked    atomic.Int32
}

func (s *metadataServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.asked.Add(1)
	if s.answer != nil {
		s.answer(w, r)
		return
	}
	const token = "QVdT+token=="
	google := strings.HasPrefix(r.URL.Path, "/computeMetadata/v1/")
	switch {
	case google && r.Header.Get("Metadata-Flavor") != "Google":
		http.Error(w, "Missing required header: Metadata-Flavor", http.StatusForbidden)
		return
	case google:
		w.Header().Set("Metadata-Flavor", "Google")
	case r.URL.Path == "/latest/api/token" && r.Method == "PUT" && r.Header.Get("X-aws-ec2-metadata-token-ttl-seconds") != "":
		_, _ = io.WriteString(w, token)
		return
	case r.Header.Get("X-aws-ec2-metadata-token") != token:
		http.Error(w, "Unauthorized", http.StatusUnauthorized)
		return
	}
	value := map[string]string{
		"/latest/user-data": s.userData, "/computeMetadata/v1/instance/attributes/user-data": s.userData,
		"/latest/meta-data/local-hostname": s.hostname, "/computeMetadata/v1/instance/hostname": s.hostname,
	}[r.URL.Path]
	if value == "" || r.Method != "GET" {
		http.NotFound(w, r)
		return
	}
	_, _ = io.WriteString(w, value) // the machine may have ended
}

// network serves s to a machine at the clouds' address. QEMU's user-mode
// network starts this test's own program for every connection; see relayMain.
func (s *metadataServer) network(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return linkLocal + ",guestfwd=tcp:169.254.169.254:80-cmd:" + self + " " + relayWord + " " + server.Listener.Addr().String()
}

// linkLocal is a network where the clouds' address is a neighbour.
const linkLocal = "user,net=169.254.169.0/24,dhcpstart=169.254.169.15"

const relayWord = "relay-to"

// relayMain carries a connection of a machine's, which is this process's
// standard input and output, to the address that follows relayWord.
func relayMain() {
	if len(os.Args) != 3 || os.Args[1] != relayWord {
		return
	}
	conn, err := net.Dial("tcp", os.Args[2])
	if err != nil {
		os.Exit(1)
	}
	go func() {
		_, _ = io.Copy(conn, os.Stdin)
		os.Exit(0) // the machine has closed its end
	}()
	_, _ = io.Copy(os.Stdout, conn)
	os.Exit(0)
}

// cloudDisk is a disk with everything, for cfg, and QEMU's argument for it.
func cloudDisk(t *testing.T, cfg api.Config) string {
	t.Helper()
	k, err := theKit()
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.Open(k.root)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	info, err := root.Stat()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Version, cfg.Verbose, cfg.Root.Lower = api.Version, true, []string{"partlabel:capstan-root"}
	doc, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	path := makeDisk(t, part{api.ConfigPartition, 1 << 20, strings.NewReader(string(doc))}, part{"capstan-root", info.Size(), root})
	return "-drive if=none,id=d,format=raw,file=" + path + " "
}

// bootFrom boots a machine of a cloud on a network from a disk, and returns
// the lines that it printed and what PID 1 had to say.
func bootFrom(t *testing.T, on setup, disk, network string) (out string, log string) {
	t.Helper()
	on.machine, on.netdev, on.disk = "q35", network, disk+on.disk
	m := boot(t, api.Config{}, on)
	out, exit := m.end()
	if exit != (api.Exit{}) {
		t.Errorf("%+v", exit)
	}
	return out, m.kernelLog()
}

// A machine answers with the config that its cloud has for it, but for what
// the disk is made of.
func TestUserData(t *testing.T) {
	doc := `{"version":1,"args":["app","env"],"env":["B=cloud"],"root":{"lower":["/dev/nope"]},"network":{"none":true}}`
	disk := api.Config{Args: []string{"app", "who"}, Env: []string{"A=disk", "B=disk"}}
	for name, c := range map[string]struct {
		on       setup
		userData string
		hostname string
		want     []string
	}{
		"EC2":                   {nitro, doc, "ip-10-0-0-1.ec2.internal", []string{"A=disk\n", "B=cloud\n"}},
		"GCE":                   {gce, doc, "", []string{"A=disk\n", "B=cloud\n"}},
		"EC2 with a host name":  {nitro, `{"version":1,"hostname":"named"}`, "ip-10-0-0-1.ec2.internal", []string{"host=named "}},
		"EC2 without user-data": {nitro, "", "ip-10-0-0-1.ec2.internal", []string{"host=ip-10-0-0-1.ec2.internal "}},
		"GCE without user-data": {gce, "", "web.c.project.internal", []string{"host=web.c.project.internal "}},
	} {
		t.Run(name, func(t *testing.T) {
			s := &metadataServer{userData: c.userData, hostname: c.hostname}
			out, _ := bootFrom(t, c.on, cloudDisk(t, disk), s.network(t))
			for _, want := range c.want {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in %q", want, out)
				}
			}
		})
	}
}

// Whatever a metadata server does, the machine starts what its disk says, and
// its console says why.
func TestMetadataTrouble(t *testing.T) {
	disk := api.Config{Args: []string{"app", "who"}, Hostname: "disk"}
	google := func(w http.ResponseWriter, text string) {
		w.Header().Set("Metadata-Flavor", "Google")
		_, _ = io.WriteString(w, text) // the machine may have given up
	}
	silent := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	for name, c := range map[string]struct {
		on     setup
		answer http.HandlerFunc // nil: nobody is at the address
		said   string
	}{
		"absent on EC2": {nitro, nil, "asking EC2 for the user-data: connecting to 169.254.169.254"},
		"absent on GCE": {gce, nil, "asking GCE for the user-data: connecting to 169.254.169.254"},
		"silent on EC2": {nitro, silent, "asking EC2 for the user-data: "},
		"silent on GCE": {gce, silent, "asking GCE for the user-data: "},
		"EC2's garbage": {nitro, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "PUT" {
				_, _ = io.WriteString(w, "token")
				return
			}
			_, _ = io.WriteString(w, "\x00\xff<html>")
		}, "EC2's user-data is no instance config"},
		"GCE's garbage":   {gce, func(w http.ResponseWriter, _ *http.Request) { google(w, "\x00\xff<html>") }, "GCE's user-data is no instance config"},
		"no token":        {nitro, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "\x00\r\n") }, "the metadata server's token is not one"},
		"broken":          {nitro, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "", http.StatusInternalServerError) }, "answers 500"},
		"another version": {gce, func(w http.ResponseWriter, _ *http.Request) { google(w, `{"version":2,"args":["app","env"]}`) }, "has version 2, this guest knows version 1"},
		"huge": {gce, func(w http.ResponseWriter, r *http.Request) {
			for b := strings.Repeat("x", 1<<16); r.Context().Err() == nil; {
				google(w, b)
			}
		}, "longer than"},
		"redirection": {gce, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://169.254.169.2/", http.StatusFound)
		}, "answers 302"},
	} {
		t.Run(name, func(t *testing.T) {
			network := linkLocal
			if c.answer != nil {
				network = (&metadataServer{answer: c.answer}).network(t)
			}
			out, log := bootFrom(t, c.on, cloudDisk(t, disk), network)
			if !strings.Contains(out, "host=disk ") || !strings.Contains(log, c.said) {
				t.Errorf("%q; no %q on the console", out, c.said)
			}
		})
	}
}

// A metadata server that is slow, but not too slow, or not there at first, is
// waited for.
func TestMetadataLate(t *testing.T) {
	disk := api.Config{Args: []string{"app", "who"}, Hostname: "disk"}
	for _, on := range []setup{nitro, gce} {
		t.Run(on.cloud, func(t *testing.T) {
			right := &metadataServer{userData: `{"version":1,"hostname":"late"}`}
			var asked atomic.Int32
			s := &metadataServer{answer: func(w http.ResponseWriter, r *http.Request) {
				switch asked.Add(1) {
				case 1:
					<-r.Context().Done() // until the machine asks again
				case 2, 3:
					http.Error(w, "", http.StatusServiceUnavailable)
				default:
					right.ServeHTTP(w, r)
				}
			}}
			if out, log := bootFrom(t, on, cloudDisk(t, disk), s.network(t)); !strings.Contains(out, "host=late ") || strings.Contains(log, "asking "+on.cloud) {
				t.Errorf("%q", out)
			}
		})
	}
}

// Nobody is asked where the machine is not on a cloud, or where it did not
// come with its config on its disk.
func TestNoMetadata(t *testing.T) {
	disk := api.Config{Args: []string{"app", "who"}}
	s := &metadataServer{userData: `{"version":1,"hostname":"cloud"}`}
	if out, _ := bootFrom(t, plain, cloudDisk(t, disk), s.network(t)); !strings.Contains(out, "host=capstan ") {
		t.Errorf("from a disk: %q", out)
	}
	if out, exit := boot(t, disk, setup{machine: "q35", netdev: s.network(t), args: gce.args}).end(); !strings.Contains(out, "host=capstan ") || exit != (api.Exit{}) {
		t.Errorf("from an archive: %q; %+v", out, exit)
	}
	isolated := disk
	isolated.Network.None = true
	if out, _ := bootFrom(t, nitro, cloudDisk(t, isolated), s.network(t)); !strings.Contains(out, "host=capstan ") {
		t.Errorf("without a network: %q", out)
	}
	if n := s.asked.Load(); n != 0 {
		t.Errorf("asked %d times", n)
	}
}
