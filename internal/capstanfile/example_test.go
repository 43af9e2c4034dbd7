package capstanfile

import (
	"os"
	"regexp"
	"testing"
)

// TestExample makes sure that Capstanfile.example has every key, each with a
// comment of its own, and that it means what it says.
func TestExample(t *testing.T) {
	const name = "../../Capstanfile.example"
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	f, err := Read(name)
	if err != nil {
		t.Fatal(err)
	}
	for key := range readers() {
		if !regexp.MustCompile(`(?m)^# ` + key + `: \S`).Match(text) {
			t.Errorf("%s is not explained", key)
		}
		if key != "base" && f.Line(key) == 0 {
			t.Errorf("%s is not used", key)
		}
		if !regexp.MustCompile(`(?m)^(# )?` + key + `:`).Match(text) {
			t.Errorf("%s is not shown", key)
		}
	}
	if len(f.Cmdline) != 2 || f.Cmdline[1] != "from Capstan" || f.Files[0].Host != "build/server" || !f.Files[3].Into {
		t.Errorf("got %+v", f)
	}
}
