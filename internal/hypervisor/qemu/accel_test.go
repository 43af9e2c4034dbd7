package qemu

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestKVMReason(t *testing.T) {
	works := func(*os.File) error { return nil }
	slow := func(*os.File) error { return errors.New("emulates") }
	for name, c := range map[string]struct {
		device, cpuinfo string
		run             func(*os.File) error
		want            string // "" where it works
	}{
		"intel":          {"kvm", "processor\t: 0\nvmx flags\t: unrestricted_guest\nflags\t\t: fpu vmx sse\n", works, ""},
		"amd":            {"kvm", "flags : fpu svm\n", works, ""},
		"emulates":       {"kvm", "flags : vmx\n", slow, "emulates"},
		"no flags":       {"kvm", "flags : fpu svm_lock avmx\nbugs : vmx\n\nflags : vmx\n", works, "neither vmx nor svm"},
		"nothing":        {"kvm", "", works, "neither vmx nor svm"},
		"late":           {"kvm", strings.Repeat("x : y\n", 2000) + "flags : vmx\n", works, "neither vmx nor svm"},
		"no device":      {"absent", "flags : vmx\n", works, "there is no"},
		"no device file": {".", "flags : vmx\n", works, "cannot be opened"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, content := range map[string]string{"kvm": "", "cpuinfo": c.cpuinfo} {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got := kvmHost{device: filepath.Join(dir, c.device), cpuinfo: filepath.Join(dir, "cpuinfo"), run: c.run}.reason()
			if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestKVMWithoutPermission(t *testing.T) {
	if got := (kvmHost{device: "/dev/kvm"}).openReason(os.ErrPermission); !strings.Contains(got, "group kvm") {
		t.Errorf("got %q", got)
	}
}

func TestProbeAccel(t *testing.T) {
	start := time.Now()
	name, why := ProbeAccel()
	t.Logf("%s (%s) in %v", name, why, time.Since(start))
	if (name == "tcg") != (why != "") {
		t.Errorf("got %q, %q", name, why)
	}
	all := Accelerators()
	if last := all[len(all)-1]; last.Name != "tcg" || !last.Works || last.Reason != "" {
		t.Errorf("got %+v", all)
	}
	for _, a := range all {
		if a.Works != (a.Reason == "") {
			t.Errorf("got %+v", a)
		}
	}
}

func BenchmarkProbeAccel(b *testing.B) {
	for b.Loop() {
		ProbeAccel()
	}
}
