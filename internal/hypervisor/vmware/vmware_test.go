package vmware

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"capstan/internal/hypervisor"
)

func TestParseList(t *testing.T) {
	got, err := parseList("Total running VMs: 2\r\n/a b/one.vmx\r\nC:\\two.vmx\r\n")
	if want := []string{"/a b/one.vmx", `C:\two.vmx`}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := parseList("Error: no\n"); err == nil {
		t.Error("what is no list is taken for one")
	}
	if got := complaint("Starting\nError: Cannot open VM: /x, unknown file suffix\n", "exit status 255"); got != "Cannot open VM: /x, unknown file suffix" {
		t.Errorf("the complaint is %q", got)
	}
}

func TestProduct(t *testing.T) {
	dir := t.TempDir()
	vmrun := filepath.Join(dir, "vmrun")
	for _, tt := range []struct{ goos, has, want string }{{"darwin", "", "fusion"}, {"linux", "", "ws"}, {"linux", "vmplayer", "player"}, {"linux", "vmware", "ws"}} {
		if tt.has != "" {
			if err := os.WriteFile(filepath.Join(dir, tt.has), nil, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if got := product(tt.goos, vmrun); got != tt.want {
			t.Errorf("%+v: %s", tt, got)
		}
	}
}

// FuzzSettings: whatever the paths, a .vmx file has the lines that it is to have
// and each in the form that programs read, or is refused.
func FuzzSettings(f *testing.F) {
	f.Add("/home/me/disk.vmdk", "/run/kernel")
	f.Add("/a \"b\" |c,\\", "\n")
	lines := regexp.MustCompile(`\A(?:[A-Za-z0-9.:]+ = "[^"\n]*"\n)+\z`)
	plain, err := settings(&hypervisor.Spec{Memory: 1 << 28}, newUUID(), []string{"x"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, disk, line string) {
		got, err := settings(&hypervisor.Spec{Bootable: disk, Memory: 1 << 28}, newUUID(), []string{line})
		if err != nil {
			return
		}
		if !lines.Match(got) || strings.Count(string(got), "\n") != strings.Count(string(plain), "\n") {
			t.Errorf("%q", got)
		}
	})
}
