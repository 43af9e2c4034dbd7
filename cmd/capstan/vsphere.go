package main

import (
	"os"
	"strings"

	"capstan/internal/hypervisor/vsphere"
)

// vsphereSettings are the keys of the section vsphere: of config.yaml, with the
// variables of govc's that count before them. A password is none: the file may
// be anybody's to read.
func vsphereSettings(o *vsphere.Options) []sectionKey {
	key := func(name, variable string, to *string) sectionKey {
		return sectionKey{key: name, to: to, variables: []string{variable}}
	}
	return []sectionKey{
		key("url", "GOVC_URL", &o.URL),
		key("username", "GOVC_USERNAME", &o.Username),
		{key: "password_file", to: &o.PasswordFile},
		key("insecure", "GOVC_INSECURE", &o.Insecure),
		key("ca_certs", "GOVC_TLS_CA_CERTS", &o.CACerts),
		key("known_hosts", "GOVC_TLS_KNOWN_HOSTS", &o.KnownHosts),
		key("datacenter", "GOVC_DATACENTER", &o.Datacenter),
		key("datastore", "GOVC_DATASTORE", &o.Datastore),
		key("network", "GOVC_NETWORK", &o.Network),
		key("folder", "GOVC_FOLDER", &o.Folder),
		key("resource_pool", "GOVC_RESOURCE_POOL", &o.ResourcePool),
		key("cluster", "GOVC_CLUSTER", &o.Cluster),
		key("host", "GOVC_HOST", &o.Host),
	}
}

const vsphereForm = "a section as vsphere: {url: esxi.example.com, username: root, password_file: /home/me/.esxi}"

// vsphereOptions are what the environment and the configuration file say of
// vSphere.
func vsphereOptions(c configFile) (vsphere.Options, error) {
	o := vsphere.Options{Password: os.Getenv("GOVC_PASSWORD")}
	known := vsphereSettings(&o)
	err := c.section("vsphere", vsphereForm, known, map[string]string{
		"password": "has a password in it, which others may read: GOVC_PASSWORD or password_file has it",
	})
	for _, s := range known {
		for _, name := range s.variables {
			if value := os.Getenv(name); value != "" {
				*s.to = strings.TrimSpace(value)
			}
		}
	}
	return o, err
}
