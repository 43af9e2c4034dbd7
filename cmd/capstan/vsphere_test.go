package main

import (
	"errors"
	"os"
	"strings"
	"testing"

	"capstan/internal/hypervisor/vsphere"
	"capstan/internal/repo"
)

// withoutGovc takes the variables of govc's out of the test's environment.
func withoutGovc(t *testing.T) {
	t.Helper()
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "GOVC_") {
			t.Setenv(name, "")
		}
	}
}

func TestVSphereSettings(t *testing.T) {
	withoutGovc(t)
	const config = `vsphere:
  url: esxi.example.com
  username: root
  password_file: /home/me/.esxi
  insecure: false
  ca_certs: /ca.pem
  known_hosts: /known
  datacenter: dc
  datastore: fast
  network: VM Network
  folder: apps
  resource_pool: pool
  cluster: c1
  host: h1
`
	want := vsphere.Options{
		URL: "esxi.example.com", Username: "root", PasswordFile: "/home/me/.esxi", Insecure: "false", CACerts: "/ca.pem", KnownHosts: "/known",
		Datacenter: "dc", Datastore: "fast", Network: "VM Network", Folder: "apps", ResourcePool: "pool", Cluster: "c1", Host: "h1",
	}
	if s, err := settingsOf(t, config); err != nil || s.VSphere != want {
		t.Errorf("got %+v, %v", s.VSphere, err)
	}
	t.Setenv("GOVC_URL", "https://vcenter.example.com/sdk")
	t.Setenv("GOVC_PASSWORD", "word")
	t.Setenv("GOVC_DATASTORE", "slow")
	want.URL, want.Password, want.Datastore = "https://vcenter.example.com/sdk", "word", "slow"
	if s, err := settingsOf(t, config); err != nil || s.VSphere != want {
		t.Errorf("with variables: %+v, %v", s.VSphere, err)
	}
}

func TestVSphereSettingMistakes(t *testing.T) {
	withoutGovc(t)
	for _, c := range []struct {
		config, want string
		line         int
	}{
		{"vsphere: esxi.example.com\n", "is no section with keys", 1},
		{"vsphere: [url]\n", "is no section with keys", 1},
		{"cpus: 1\nvsphere:\n  url: e\n  password: hunter2\n", "has a password in it", 4},
		{"vsphere:\n  datastor: d\n", "has no key datastor (did you mean datastore?)", 2},
		{"vsphere:\n  url: [a, b]\n", "url: it is not one value", 2},
		{"vsphere:\n  url:\n", "url: it is not one value", 2},
	} {
		_, err := settingsOf(t, c.config)
		var wrong *repo.FileError
		if !errors.As(err, &wrong) || wrong.Line != c.line || wrong.Key != "vsphere" || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v; want line %d and %q", c.config, err, c.line, c.want)
		}
	}
}
