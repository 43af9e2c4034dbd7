package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestDamagedStore: each file of the store, damaged, is an error that names
// the file and the way out; and that way leads out.
func TestDamagedStore(t *testing.T) {
	blob := func(kind string) func(w *world) string {
		return func(w *world) string {
			names := map[string]string{}
			list, err := filepath.Glob(filepath.Join(w.root, "store/blobs/sha256/*"))
			if err != nil || len(list) != 3 {
				w.t.Fatalf("blobs: %q, %v", list, err)
			}
			for _, path := range list {
				text, err := os.ReadFile(path)
				if err != nil {
					w.t.Fatal(err)
				}
				switch {
				case bytes.Contains(text, []byte(`"schemaVersion"`)):
					names["manifest"] = path
				case bytes.Contains(text, []byte(`"rootfs"`)):
					names["config"] = path
				default:
					names["layer"] = path
				}
			}
			return names[kind]
		}
	}
	index := func(w *world) string { return filepath.Join(w.root, "store/index.json") }
	damage := func(name string, file func(*world) string, how func(path string) error, args ...string) mistake {
		return mistake{name: name, args: args, setup: func(w *world) {
			path := file(w)
			if err := errors.Join(os.Chmod(path, 0o600), how(path)); err != nil {
				w.t.Fatal(err)
			}
		}}
	}
	text := func(s string) func(string) error {
		return func(path string) error { return os.WriteFile(path, []byte(s), 0o600) }
	}
	flip := func(at int64) func(string) error {
		return func(path string) error {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte("XXXX"), at)
			return errors.Join(err, f.Close())
		}
	}
	folder := func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) }
	run := []string{"run", "--rm", "app"}
	var all []mistake
	for _, kind := range []string{"layer", "config", "manifest"} {
		all = append(all,
			damage("a "+kind+" that is cut off", blob(kind), text("x"), run...),
			damage("a "+kind+" that is missing", blob(kind), os.Remove, run...),
			damage("a "+kind+" with other bytes", blob(kind), flip(100), run...))
	}
	all = append(all, damage("a config that is cut off, inspected", blob("config"), text("x"), "inspect", "app"))
	for _, s := range []string{"", "{", "null", "[]", `{"schemaVersion":1}`, `{"schemaVersion":2,"manifests":[{"digest":"md5:12"}]}`, `{"schemaVersion":"two"}`} {
		all = append(all, damage(fmt.Sprintf("an index of %q", s), index, text(s), "images"))
	}
	all = append(all,
		damage("an index, and a build", index, text("{"), "tag", "app", "new"),
		damage("a directory for an index", index, folder, "images"),
		mistake{name: "a file for the folder of blobs", args: []string{"run", "--rm", "app"}, setup: func(w *world) {
			dir := filepath.Join(w.root, "store/blobs")
			if err := errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600)); err != nil {
				w.t.Fatal(err)
			}
		}},
	)
	commitAll(t, "store.golden", all)

	t.Run("the way out", func(t *testing.T) {
		w := newWorld(t)
		w.write("app", "#!/bin/sh\n")
		w.write("Capstanfile", "cmdline: /app\nfiles: {/app: app}\n")
		w.must("build", "app")
		if err := flip(100)(blob("layer")(w)); err != nil {
			t.Fatal(err)
		}
		if r := w.capstan("doctor", "--deep"); r.status != 1 || !strings.Contains(r.stdout, "try: capstan rmi -f app:latest") {
			t.Errorf("doctor --deep: status %d\n%s", r.status, r.stdout)
		}
		w.must("rmi", "-f", "app:latest")
		w.must("build", "app")
		if r := w.capstan("doctor", "--deep"); strings.Contains(r.stdout, "corrupt") {
			t.Errorf("doctor --deep after mending:\n%s", r.stdout)
		}
	})
}

// TestUnreadable: files and folders that the user may not read or write. Root
// may do all; so as root, another user does this.
func TestUnreadable(t *testing.T) {
	closed := func(name string) func(w *world) {
		return func(w *world) {
			if err := os.Chmod(filepath.Join(w.dir, name), 0); err != nil {
				w.t.Fatal(err)
			}
			w.t.Cleanup(func() { os.Chmod(filepath.Join(w.dir, name), 0o700) })
		}
	}
	readOnly := func(name string) func(w *world) {
		return func(w *world) {
			if err := os.Chmod(filepath.Join(w.dir, name), 0o500); err != nil {
				w.t.Fatal(err)
			}
			w.t.Cleanup(func() { os.Chmod(filepath.Join(w.dir, name), 0o700) })
		}
	}
	capstanfile := build("a Capstanfile", "cmdline: /app\nfiles: {/app: app}\n")
	with := func(name string, setup func(*world), m mistake) mistake {
		m.name, m.setup = name, setup
		return m
	}
	secret := map[string]string{"secret": "x"}
	all := []mistake{
		with("a Capstanfile", closed("src/Capstanfile"), capstanfile),
		with("an input", closed("src/app"), capstanfile),
		with("the build's directory", closed("src"), capstanfile),
		with("a program", closed("secret"), mistake{files: secret, args: []string{"build", "--from", "secret"}}),
		with("a tree with an unreadable folder", closed("tree/in"), mistake{files: map[string]string{"tree/in/x": ""}, args: []string{"build", "--from", "tree"}}),
		with("an environment's file", closed("secret"), mistake{files: secret, args: []string{"run", "--env-file", "secret", "app"}}),
		with("config.yaml", closed("root/config.yaml"), mistake{files: map[string]string{"root/config.yaml": "cpus: 1\n"}, args: []string{"ps"}}),
		with("the root, read", closed("root"), mistake{args: []string{"images"}}),
		with("the root, written", readOnly("root/store"), mistake{args: []string{"tag", "app", "new"}}),
		with("the folder for a root", readOnly("."), mistake{args: []string{"--root", "new", "build", "new", "app"}}),
		with("the index", closed("root/store/index.json"), mistake{args: []string{"images"}}),
		with("the instances", closed("root/instances"), mistake{files: map[string]string{"root/instances/x": ""}, args: []string{"ps"}}),
		with("the folder of temporary files", readOnly("root/store/tmp"), mistake{args: []string{"build", "new", "app"}}),
	}
	bin := sharedBinary(t)
	var said strings.Builder
	for _, m := range all {
		t.Run(m.name, func(t *testing.T) {
			w := newWorld(t)
			w.write("app/Capstanfile", "cmdline: /app\nfiles: {/app: app}\n")
			w.write("app/app", "#!/bin/sh\n")
			w.must("build", "app", "app")
			said.WriteString(m.as(t, w, bin) + "\n")
		})
	}
	golden(t, "unreadable.golden", said.String())
}

// sharedBinary is the command line's binary where every user may run it.
func sharedBinary(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "capstan-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	own, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	path := filepath.Join(dir, "capstan")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(f, own)
	if err := errors.Join(err, f.Close(), os.Chmod(dir, 0o755), os.Chmod(path, 0o755)); err != nil {
		t.Fatal(err)
	}
	return path
}

// as makes the mistake as a user who is not root, and returns what that one
// sees.
func (m mistake) as(t *testing.T, w *world, bin string) string {
	t.Helper()
	for name, text := range m.files {
		w.write(name, text)
	}
	before := w.contents()
	const nobody = 65534
	if os.Geteuid() == 0 {
		err := filepath.WalkDir(filepath.Dir(w.dir), func(path string, _ os.DirEntry, err error) error {
			return errors.Join(err, os.Lchown(path, nobody, nobody))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	m.setup(w)
	cmd := w.command(m.args...)
	cmd.Path = bin
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	r := w.run(cmd)
	if r.status == 0 {
		t.Errorf("%s: status 0", m.name)
	}
	m.judge(t, r)
	if after := w.contents(); os.Geteuid() == 0 && after != before {
		t.Errorf("%s: something half-made is left:\nbefore\n%s\nafter\n%s", m.name, before, after)
	}
	return fmt.Sprintf("# %s\n$ %s\n%s[%d]\n", m.name, w.plain(m.line()), w.plain(r.stderr), r.status)
}

// TestFullDisk builds where there is no room: on a file system of 1 MiB, in a
// mount namespace of its own, so that nothing is left of it; where that is not
// allowed, with a limit on the size of files.
func TestFullDisk(t *testing.T) {
	w := newWorld(t)
	w.write("src/Capstanfile", "cmdline: /app\nfiles: {/app: app}\n")
	w.write("src/app", strings.Repeat("#!/bin/sh\n", 300_000))
	if err := os.Mkdir(w.root, 0o700); err != nil {
		t.Fatal(err)
	}
	script := `mount -t tmpfs -o size=1m tmpfs "$CAPSTAN_ROOT" && exec 3<"$CAPSTAN_ROOT" && ` +
		`"$0" build new src; status=$?; find "$CAPSTAN_ROOT" -type f -size +0 ! -name oci-layout; exit $status`
	cmd := w.command()
	capstan := cmd.Path
	shell := func(args ...string) result {
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
		cmd.Dir, cmd.Env = w.dir, w.env
		return w.run(cmd)
	}
	r := shell("unshare", "--mount", "--map-root-user", "sh", "-c", script, capstan)
	if strings.Contains(r.stderr, "unshare") || strings.Contains(r.stderr, "mount: ") {
		t.Logf("no namespaces here: %s", r.stderr)
		r = shell("sh", "-c", `ulimit -f 1000 && exec "$0" build new src`, capstan)
	}
	m := mistake{name: "a full disk"}
	m.judge(t, r)
	if r.status != 1 || !strings.Contains(r.stderr, " is full (") || !strings.Contains(r.stderr, "capstan prune") {
		t.Errorf("status %d:\n%s%s", r.status, r.stdout, r.stderr)
	}
	t.Log(r.stderr)
}

// TestDamagedInstances: an instance whose files hold something else. It is
// shown as dead, does not start, can be removed, and hides no other.
func TestDamagedInstances(t *testing.T) {
	config := `{"id": "0123456789ab", "name": "hurt", "image": "app", "digest": "sha256:0"}`
	broken := func(file, text string) map[string]string {
		files := map[string]string{
			"root/instances/hurt/config.json": config, "root/instances/hurt/state.json": `{"status": "exited"}`, "root/instances/hurt/lock": "",
			"root/instances/well/config.json": `{"id": "ba9876543210", "name": "well"}`, "root/instances/well/state.json": `{"status": "exited"}`,
		}
		files["root/instances/hurt/"+file] = text
		return files
	}
	var all []mistake
	for _, file := range []string{"config.json", "state.json"} {
		for _, text := range []string{"", "{", "[]", "{}", "\x00\x00"} {
			name := fmt.Sprintf("%s is %q", file, text)
			all = append(all, mistake{name: name, files: broken(file, text), args: []string{"start", "hurt"}})
			t.Run(name, func(t *testing.T) {
				w := newWorld(t)
				for name, text := range broken(file, text) {
					w.write(name, text)
				}
				if got := strings.Fields(w.must("ps", "-aq")); len(got) != 2 {
					t.Errorf("ps -aq shows %q", got)
				}
				w.must("inspect", "hurt")
				w.must("rm", "hurt")
				if got := w.must("ps", "-aq"); got != "well\n" {
					t.Errorf("after rm, ps -aq shows %q", got)
				}
			})
		}
	}
	commitAll(t, "instances.golden", all)
}
