package main

import (
	"capstan/internal/cloud/ec2"
	"capstan/internal/cloud/gce"
)

// cloudSettings are what config.yaml says of a cloud. Flags count before them,
// and so does the environment where the cloud's own tools read it.
type cloudSettings struct {
	Region, Project, Zone  string
	Regions                []string // where ps --all-platforms, prune and volume look
	Bucket, Location       string   // of pushes
	Type, Subnet, Identity string   // of machines
	Allow                  []string
}

const (
	ec2Form = "a section as ec2: {region: eu-central-1, regions: [eu-central-1, us-east-1], allow: 203.0.113.0/24}"
	gceForm = "a section as gce: {project: my-project, zone: europe-west4-a, allow: 203.0.113.0/24}"

	credentialsProblem = "has credentials in it, which others may read: the cloud's own tools keep them"
)

// ec2Settings reads the section ec2: of config.yaml.
func ec2Settings(c configFile) (s cloudSettings, err error) {
	err = c.section("ec2", ec2Form, append([]sectionKey{
		{key: "region", to: &s.Region, check: checkRegion, variables: []string{"AWS_REGION", "AWS_DEFAULT_REGION"}},
		{key: "regions", list: &s.Regions, check: checkRegion},
		{key: "iam_profile", to: &s.Identity},
	}, s.machines()...), map[string]string{
		"access_key_id": credentialsProblem, "secret_access_key": credentialsProblem, "session_token": credentialsProblem,
	})
	return s, err
}

// gceSettings reads the section gce:.
func gceSettings(c configFile) (s cloudSettings, err error) {
	err = c.section("gce", gceForm, append([]sectionKey{
		{key: "project", to: &s.Project, variables: []string{"GOOGLE_CLOUD_PROJECT", "CLOUDSDK_CORE_PROJECT"}},
		{key: "zone", to: &s.Zone, check: checkZone, variables: []string{"CLOUDSDK_COMPUTE_ZONE"}},
		{key: "bucket", to: &s.Bucket},
		{key: "location", to: &s.Location},
		{key: "service_account", to: &s.Identity},
	}, s.machines()...), map[string]string{"credentials": credentialsProblem, "private_key": credentialsProblem})
	return s, err
}

// machines are the keys of any cloud's section.
func (s *cloudSettings) machines() []sectionKey {
	return []sectionKey{
		{key: "type", to: &s.Type},
		{key: "subnet", to: &s.Subnet},
		{key: "allow", list: &s.Allow, check: func(v string) error {
			_, err := parseSource(v)
			return err
		}},
	}
}

// cloud are the settings of a platform; none of one that is no cloud.
func (s settings) cloud(platform string) cloudSettings {
	switch platform {
	case ec2.Name:
		return s.EC2
	case gce.Name:
		return s.GCE
	}
	return cloudSettings{}
}
