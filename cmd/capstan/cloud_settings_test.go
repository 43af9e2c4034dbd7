package main

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"capstan/internal/hypervisor"
	"capstan/internal/repo"
)

// withoutClouds takes the variables that count before the sections out of the
// test's environment.
func withoutClouds(t *testing.T) {
	t.Helper()
	for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION", "GOOGLE_CLOUD_PROJECT", "CLOUDSDK_CORE_PROJECT", "CLOUDSDK_COMPUTE_ZONE"} {
		t.Setenv(name, "")
	}
}

func TestCloudSettings(t *testing.T) {
	withoutClouds(t)
	const config = `ec2:
  region: eu-central-1
  regions: [eu-central-1, us-east-1]
  type: m5.large
  subnet: subnet-1
  iam_profile: app
  allow: 203.0.113.7/24
gce: {project: p, zone: europe-west4-a, subnet: apps, bucket: b, location: eu, service_account: a@b, allow: [192.0.2.1/32, "::/0"]}
`
	s, err := settingsOf(t, config)
	wantEC2 := cloudSettings{Region: "eu-central-1", Regions: []string{"eu-central-1", "us-east-1"}, Type: "m5.large", Subnet: "subnet-1", Identity: "app", Allow: []string{"203.0.113.7/24"}}
	wantGCE := cloudSettings{Project: "p", Zone: "europe-west4-a", Subnet: "apps", Bucket: "b", Location: "eu", Identity: "a@b", Allow: []string{"192.0.2.1/32", "::/0"}}
	if err != nil || !reflect.DeepEqual(s.EC2, wantEC2) || !reflect.DeepEqual(s.GCE, wantGCE) {
		t.Fatalf("got %+v and %+v, %v", s.EC2, s.GCE, err)
	}
	for _, c := range []struct {
		flags cloudFlags
		cloud string
		want  hypervisor.CloudSpec
	}{
		{cloudFlags{}, "ec2", hypervisor.CloudSpec{Place: "eu-central-1", Type: "m5.large", Subnet: "subnet-1", Identity: "app", Sources: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}}},
		{cloudFlags{region: "us-east-1", profile: "other", allow: []string{"0.0.0.0/0"}}, "ec2",
			hypervisor.CloudSpec{Place: "us-east-1", Type: "m5.large", Identity: "other", Sources: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}},
		{cloudFlags{project: "q", kind: "e2-micro"}, "gce",
			hypervisor.CloudSpec{Project: "q", Place: "europe-west4-a", Type: "e2-micro", Subnet: "apps", Identity: "a@b", Sources: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("::/0")}}},
		{cloudFlags{region: "eu-central-1", allow: []string{"::/0"}}, "ec2",
			hypervisor.CloudSpec{Place: "eu-central-1", Type: "m5.large", Subnet: "subnet-1", Identity: "app", Sources: []netip.Prefix{netip.MustParsePrefix("::/0")}}},
		{cloudFlags{zone: "europe-west4-b", allow: []string{"::/0"}}, "gce",
			hypervisor.CloudSpec{Project: "p", Place: "europe-west4-b", Subnet: "apps", Identity: "a@b", Sources: []netip.Prefix{netip.MustParsePrefix("::/0")}}},
		{cloudFlags{zone: "europe-west1-b", allow: []string{"::/0"}}, "gce",
			hypervisor.CloudSpec{Project: "p", Place: "europe-west1-b", Identity: "a@b", Sources: []netip.Prefix{netip.MustParsePrefix("::/0")}}},
		{cloudFlags{}, "vsphere", hypervisor.CloudSpec{}},
	} {
		if got, err := c.flags.spec(s.cloud(c.cloud)); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s, %+v: %+v, %v", c.cloud, c.flags, got, err)
		}
	}
	t.Setenv("AWS_DEFAULT_REGION", "eu-north-1")
	t.Setenv("CLOUDSDK_COMPUTE_ZONE", "us-central1-a")
	if s, err := settingsOf(t, config); err != nil || s.EC2.Region != "" || s.GCE.Zone != "" || s.GCE.Project != "p" || len(s.EC2.Regions) != 2 {
		t.Errorf("with variables: %+v and %+v, %v", s.EC2, s.GCE, err)
	}
}

func TestCloudSettingMistakes(t *testing.T) {
	withoutClouds(t)
	for _, c := range []struct {
		config, key, want string
		line              int
	}{
		{"ec2: eu-central-1\n", "ec2", "is no section with keys", 1},
		{"ec2:\n  region: mars\n", "ec2", `region: "mars" is no name of a region`, 2},
		{"ec2:\n  regions:\n  - eu-central-1\n  - mars\n", "ec2", `regions: "mars" is no name of a region`, 4},
		{"ec2:\n  regions: {a: b}\n", "ec2", "regions: it is no value or list of values", 2},
		{"ec2:\n  regoin: us-east-1\n", "ec2", "has no key regoin (did you mean region?)", 2},
		{"ec2:\n  zone: us-east-1a\n", "ec2", "has no key zone (there are region, ", 2},
		{"ec2:\n  secret_access_key: hunter2\n", "ec2", "has credentials in it", 2},
		{"ec2: {type: a, type: b}\n", "ec2", "has the key type twice", 1},
		{"gce:\n  zone: europe-west4\n", "gce", `zone: "europe-west4" is no name of a zone`, 2},
		{"gce:\n  allow: everybody\n", "gce", `allow: "everybody" is no range of addresses`, 2},
		{"cpus: 1\ngce:\n  project: [a]\n", "gce", "project: it is not one value", 3},
	} {
		_, err := settingsOf(t, c.config)
		var wrong *repo.FileError
		if !errors.As(err, &wrong) || wrong.Line != c.line || wrong.Key != c.key || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v; want line %d and %q", c.config, err, c.line, c.want)
		}
	}
}
