package main

import (
	"strings"
	"testing"

	"capstan/internal/image/disk"
	"capstan/internal/image/disk/disktest"
)

// osvDisk is a loader of OSv's; or a disk with something for its root file
// system.
func osvDisk(t *testing.T, root string) string {
	t.Helper()
	loader := disktest.BIOS("/default.so", false)
	if root == "" {
		return string(loader)
	}
	raw := append(loader, root...)
	p := disk.Partition{Type: 0x83, Start: disktest.Size, Size: int64(len(root))}
	if err := disk.SetPartition(raw, 1, p); err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// TestOSvMistakes makes images of OSv's of what does not go into any.
func TestOSvMistakes(t *testing.T) {
	loader := osvDisk(t, "")
	zfs := osvDisk(t, strings.Repeat("\x00", 128<<10)+"\x0c\xb1\xba\x00"+strings.Repeat("\x00", 128<<10-4))
	other := strings.Replace(loader, "\x10\x00\x3f\x00", "\x10\x00\x3e\x00", 1)
	imported := func(name, raw string) func(*world) {
		return func(w *world) { w.write("disk", raw); w.must("import", name, "disk") }
	}
	build := func(name, capstanfile string) mistake {
		return mistake{
			name: name, setup: imported("loader", loader), leaves: true,
			files: map[string]string{"src/Capstanfile": "base: loader\n" + capstanfile, "src/f": "f"}, args: []string{"build", "new", "src"},
		}
	}
	on := func(name, raw, capstanfile string) mistake {
		m := build(name, capstanfile)
		m.setup = imported("loader", raw)
		return m
	}
	compose := func(name string, args ...string) mistake {
		return mistake{
			name: name, setup: imported("osv-loader", loader), leaves: true,
			files: map[string]string{"tree/f": "f"}, args: append([]string{"compose"}, args...),
		}
	}
	commitAll(t, "osv.golden", []mistake{
		on("another system as base", other, "cmdline: /x\n"),
		on("ZFS as base", zfs, "cmdline: /x\nfiles: {/f: f}\n"),
		on("an unknown file system as base", osvDisk(t, strings.Repeat("\x00", 1<<20)), "rootfs: .\n"),
		build("a user", "user: root\n"),
		build("a port", "expose: 80\n"),
		build("a volume", "volumes: /data\n"),
		build("memory", "memory: 1G\n"),
		build("CPUs", "cpus: 2\n"),
		build("labels", "labels: {a: b}\n"),
		build("another processor", "arch: arm64\n"),
		build("a long line", "cmdline: "+strings.Repeat("x", disk.MaxOSvLine+1)+"\n"),
		build("no such file", "files: {/f: g}\n"),
		{name: "a line of OSv's on Linux", files: map[string]string{"src/Capstanfile": "base: app\ncmdline: /a.so; /b.so\n"}, args: []string{"build", "new", "src"}},
		{name: "no loader as base", files: map[string]string{"src/Capstanfile": "base: osv-loader\ncmdline: /x\n"}, args: []string{"build", "new", "src"}},
		{name: "no loader", files: map[string]string{"tree/f": "f"}, args: []string{"compose", "new", "tree"}, leaves: true},
		{name: "Linux as loader", files: map[string]string{"tree/f": "f"}, args: []string{"compose", "-l", "app", "new", "tree"}, leaves: true},
		compose("no such path", "new", "nothing"),
		compose("no path", "new"),
		compose("ZFS", "--fs", "zfs", "new", "tree"),
		compose("ext4", "--fs", "ext4", "new", "tree"),
		compose("no unit", "-s", "10", "new", "tree"),
		compose("too small", "-s", "1M", "new", "tree"),
		compose("no name", "a b", "tree"),
		{name: "a loader with ZFS", setup: imported("zfs", zfs), files: map[string]string{"tree/f": "f"}, args: []string{"compose", "-l", "zfs", "new", "tree"}, leaves: true},
	})
}

// TestPackageMistakes describes packages that are none.
func TestPackageMistakes(t *testing.T) {
	const whole = "name: app\ntitle: T\nauthor: A\n"
	in := func(name string, files map[string]string, args ...string) mistake {
		return mistake{name: name, files: files, args: append([]string{"package"}, args...)}
	}
	pkg := func(text string) map[string]string { return map[string]string{"meta/package.yaml": text} }
	run := func(text string) map[string]string {
		return map[string]string{"meta/package.yaml": whole, "meta/run.yaml": text}
	}
	none := map[string]string{}
	commitAll(t, "packages.golden", []mistake{
		in("no name", none, "init", "-t", "T", "-a", "A"),
		in("a path as name", none, "init", "-n", "a/b", "-t", "T", "-a", "A"),
		in("no such runtime", none, "init", "-n", "a", "-t", "T", "-a", "A", "--runtime", "ruby"),
		in("a package already", pkg(whole), "init", "-n", "a", "-t", "T", "-a", "A"),
		in("nothing to pack", none, "build"),
		in("nothing to import", none, "import"),
		in("no such file", none, "import", "nothing.mpm"),
		in("no archive", map[string]string{"a.mpm": "text"}, "import", "a.mpm"),
		in("a wrong key", pkg(whole+"requires: [a]\n"), "build"),
		in("no title", pkg("name: a\n"), "build"),
		in("no bootcmd", run("runtime: native\nconfig_set: {default: {}}\n"), "collect"),
		in("a wrong key of a set", run("runtime: node\nconfig_set:\n  default: {main: a, arg: b}\n"), "collect"),
		in("nothing that it needs", pkg(whole+"require: [other]\n"), "collect"),
		in("no such package", none, "describe", "other"),
		in("a path as package", none, "describe", "../../etc"),
		in("no repository", none, "pull", "osv.cli"),
		in("no repository to search", none, "search"),
		in("no repository to update from", none, "update"),
		in("two commands", pkg(whole), "compose", "--run", "/a", "--boot", "b", "app"),
		in("a command as set", pkg(whole), "compose", "--boot", "/a.so", "app"),
		in("ZFS", pkg(whole), "compose", "--fs", "zfs", "app"),
		in("no image's name", pkg(whole), "compose"),
		in("no variable", pkg(whole), "compose", "--env", "=b", "app"),
		in("compose-remote", none, "compose-remote", "10.0.0.1"),
		in("collect --remote", none, "collect", "--remote"),
		in("no command", none, "push"),
	})
}
