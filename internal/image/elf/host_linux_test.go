package elf

import (
	"bytes"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestHostPrograms compares with what the loader of this machine itself says
// of the machine's own programs.
func TestHostPrograms(t *testing.T) {
	programs, err := filepath.Glob("/usr/bin/*")
	if err != nil {
		t.Fatal(err)
	}
	programs = append(programs, "/usr/sbin/ldconfig")
	arrow := regexp.MustCompile(`=> (/\S+) \(`)
	const enough = 60
	step := max(len(programs)/enough/3, 1)
	compared := 0
	for i := 0; i < len(programs) && compared < enough; i += step {
		c, err := Resolve(programs[i], Options{})
		if err != nil || c.Interp == "" {
			continue // a script, or static: there is nothing to compare
		}
		// Started this way, the loader takes $ORIGIN from the name it is given.
		program, err := filepath.EvalSymlinks(programs[i])
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(c.Interp, "--list", program).Output()
		if err != nil {
			t.Errorf("%s: the loader refuses it (%v), Resolve does not", programs[i], err)
			continue
		}
		compared++
		found := map[string]bool{}
		for _, e := range c.Entries {
			found[e.Host] = true
		}
		for _, m := range arrow.FindAllStringSubmatch(string(out), -1) {
			real, err := filepath.EvalSymlinks(m[1])
			if err != nil {
				t.Fatal(err)
			}
			if !found[real] {
				t.Errorf("%s: the loader takes %s, Resolve does not: %v", programs[i], real, slices.Sorted(maps.Keys(found)))
			}
		}
	}
	if compared < 10 {
		t.Errorf("only %d programs could be compared", compared)
	}
}

// TestRunAlone runs a program in a root that has nothing but its closure.
func TestRunAlone(t *testing.T) {
	c, err := Resolve("/usr/bin/getent", Options{})
	if err != nil {
		t.Fatalf("%v (apt package libc-bin)", err)
	}
	root := t.TempDir()
	unpack(t, c, root)
	if err := os.WriteFile(filepath.Join(root, "etc/passwd"), []byte("app:x:7:8:someone:/:/bin/false\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	out := runIn(t, root, c.Program, []string{"passwd", "7"}, "LC_ALL=C.UTF-8", "LD_DEBUG=libs")
	if !strings.Contains(out, "app:x:7:8:someone:/:/bin/false") {
		t.Errorf("getent says %q", out)
	}
	// The library comes from the cache that we wrote, at the first try.
	if !regexp.MustCompile(`search cache=/etc/ld.so.cache\n\s*\d+:\s+trying file=\S+libc.so.6\n\s*\d+:\s*\n`).MatchString(out) {
		t.Errorf("the loader does not use the cache:\n%s", out)
	}
}

// TestRunFromConfiguredDirectory runs a program whose library lies where only
// ld.so.conf leads: in the guest that takes the cache.
func TestRunFromConfiguredDirectory(t *testing.T) {
	host, err := Resolve("/usr/bin/getent", Options{})
	if err != nil {
		t.Fatal(err)
	}
	system := t.TempDir()
	unpack(t, host, system)
	for _, e := range host.Entries {
		if strings.HasPrefix(filepath.Base(e.Guest), "libc.so") || strings.HasPrefix(filepath.Base(e.Guest), "libc-2") {
			if err := os.MkdirAll(filepath.Join(system, "opt/odd"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(filepath.Join(system, e.Guest), filepath.Join(system, "opt/odd", filepath.Base(e.Guest))); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.WriteFile(filepath.Join(system, "etc/ld.so.conf"), []byte("/opt/odd\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := Resolve(filepath.Join(system, host.Program), Options{Sysroot: system})
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	unpack(t, c, root)
	if out := runIn(t, root, c.Program, []string{"--version"}); !strings.Contains(out, "getent") {
		t.Errorf("getent says %q", out)
	}
}

// unpack writes a closure below root.
func unpack(t *testing.T, c *Closure, root string) {
	t.Helper()
	for _, e := range c.Entries {
		name := filepath.Join(root, e.Guest)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		switch {
		case e.Target != "":
			err = os.Symlink(e.Target, name)
		case e.Data != nil:
			err = os.WriteFile(name, e.Data, 0o644)
		default:
			err = copyFile(e.Host, name)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	if closeErr := dst.Close(); err == nil {
		err = closeErr
	}
	return err
}

// runIn runs a program with root as its root, in a user namespace where the
// test is not root itself.
func runIn(t *testing.T, root, program string, args []string, env ...string) string {
	t.Helper()
	cmd := &exec.Cmd{Path: program, Args: append([]string{program}, args...), Env: env, Dir: "/"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("running %s in %s: %v\n%s", program, root, err, &out)
	}
	return out.String()
}
