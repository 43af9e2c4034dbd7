package main

import (
	"reflect"
	"testing"

	"capstan/internal/hypervisor"
)

// TestTakeVolumes: names are volumes, and what is a path of this host is left.
func TestTakeVolumes(t *testing.T) {
	volumes, shares, err := takeVolumes([]string{"data:/data", "./site:/www:ro", "logs:/var/log/:ro:size=20G", "x:/x:size=512M:rw", "/etc:/host"})
	want := []hypervisor.Volume{
		{Name: "data", Target: "/data"}, {Name: "logs", Target: "/var/log", ReadOnly: true, Size: 20 << 30}, {Name: "x", Target: "/x", Size: 512 << 20},
	}
	if err != nil || !reflect.DeepEqual(volumes, want) || !reflect.DeepEqual(shares, []string{"./site:/www:ro", "/etc:/host"}) {
		t.Errorf("%+v, %q, %v", volumes, shares, err)
	}
}

// TestOneVolume: what is to be removed is told from others of its name, and is
// nobody's.
func TestOneVolume(t *testing.T) {
	all := []hypervisor.KeptVolume{
		{Name: "data", Platform: "ec2", Place: "eu-central-1", ID: "vol-1"}, {Name: "data", Platform: "gce", Place: "us-central1-a", ID: "d"},
		{Name: "twin", Platform: "ec2", Place: "eu-central-1", ID: "vol-2"}, {Name: "twin", Platform: "ec2", Place: "eu-central-1", ID: "vol-3"},
		{Name: "used", Platform: "gce", Place: "us-central1-a", Users: []string{"db-1"}}, {Name: "logs", Platform: "gce", Place: "us-central1-a", ID: "l"},
	}
	for _, c := range []struct{ name, place, id, say, hint string }{
		{"logs", "", "l", "", ""},
		{"data", "us-central1-a", "d", "", ""},
		{"data", "", "", "there are 2 volumes data", "--on ec2 --region eu-central-1 or --on gce --zone us-central1-a"},
		{"twin", "", "", "there are 2 volumes twin in eu-central-1: vol-2 and vol-3", "aws ec2 delete-volume removes the one that is not wanted"},
		{"used", "", "", "the volume used is attached to db-1", "capstan rm of that instance first, which keeps the volume"},
		{"nope", "", "", "there is no volume nope", "capstan volume ls"},
		{"logs", "mars", "", "there is no volume logs in mars", "capstan volume ls"},
	} {
		v, err := oneVolume(all, c.name, c.place)
		if c.say == "" && (err != nil || v.ID != c.id) {
			t.Errorf("%s: %+v, %v", c.name, v, err)
		}
		if c.say != "" && (err == nil || err.Error() != c.say || hintFor(err) != c.hint) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
