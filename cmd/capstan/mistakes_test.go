package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

// mistake is a wrong input, and the command that meets it.
type mistake struct {
	name  string
	files map[string]string // what is written before
	links map[string]string // symbolic links: name, target
	setup func(w *world)
	env   []string
	args  []string
	// leaves says that there is something left which is no half-made thing.
	leaves bool
}

// line is the command as a user types it.
func (m mistake) line() string {
	return strings.Join(append(m.env, append([]string{"capstan"}, m.args...)...), " ")
}

// commit makes the mistake, and returns what the user sees.
func (m mistake) commit(t *testing.T, w *world) string {
	t.Helper()
	for name, text := range m.files {
		w.write(name, text)
	}
	for name, target := range m.links {
		if err := os.Symlink(strings.ReplaceAll(target, "$DIR", w.dir), filepath.Join(w.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if m.setup != nil {
		m.setup(w)
	}
	w.env = append(w.env, m.env...)
	before := w.contents()
	r := w.capstan(m.args...)
	r.stderr = shells.ReplaceAllString(r.stderr, "")
	if after := w.contents(); r.status != 0 && !m.leaves && after != before {
		t.Errorf("%s: something half-made is left:\nbefore\n%s\nafter\n%s", m.name, before, after)
	}
	m.judge(t, r)
	return fmt.Sprintf("# %s\n$ %s\n%s[%d]\n", m.name, w.plain(m.line()), w.plain(r.stderr), r.status)
}

var (
	sentence = regexp.MustCompile(`^capstan: .+\n  try: .+\n$`)
	// many are mistakes in a Capstanfile: each line has a place of its own.
	many = regexp.MustCompile(`^(capstan: src/Capstanfile:\d+: .+\n)+  try: .+\n$`)
	// shells are the words of a build command's shell.
	shells = regexp.MustCompile(`(?m)^/bin/sh: .+\n`)
)

// judge holds that the message is one that helps: a sentence, and a way out.
func (m mistake) judge(t *testing.T, r result) {
	t.Helper()
	if r.status == 0 {
		return
	}
	if strings.Contains(r.stderr, "goroutine ") || strings.Contains(r.stderr, "panic") || r.stdout != "" {
		t.Errorf("%s: printed %q and %q", m.name, r.stdout, r.stderr)
	}
	if !sentence.MatchString(r.stderr) && !many.MatchString(r.stderr) {
		t.Errorf("%s: not one sentence and a way out:\n%s", m.name, r.stderr)
	}
	for _, odd := range []string{"strconv.", " json: ", "yaml: line", "unmarshal", " 0x", "%!", "map[", "v1."} {
		if strings.Contains(r.stderr, odd) {
			t.Errorf("%s: speaks of %q: %s", m.name, odd, r.stderr)
		}
	}
}

// commitAll makes each mistake in a world of its own, which has an image app,
// and compares all that the user sees with a golden file.
func commitAll(t *testing.T, file string, mistakes []mistake) {
	t.Helper()
	made := newWorld(t)
	made.write("app/Capstanfile", "cmdline: /bin/app\nfiles:\n  /bin/app: app\n")
	made.write("app/app", "#!/bin/sh\n")
	made.must("build", "app", "app")
	said := make([]string, len(mistakes))
	t.Run("each", func(t *testing.T) {
		for n, m := range mistakes {
			t.Run(m.name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				if err := os.CopyFS(w.root, os.DirFS(made.root)); err != nil {
					t.Fatal(err)
				}
				said[n] = m.commit(t, w)
			})
		}
	})
	golden(t, file, strings.Join(said, "\n"))
}

// build is a Capstanfile with a mistake.
func build(name, capstanfile string) mistake {
	return mistake{
		name:  name,
		files: map[string]string{"src/Capstanfile": capstanfile, "src/app": "#!/bin/sh\n"},
		args:  []string{"build", "new", "src"},
	}
}

// wrongValues are kinds of values that a key may have by mistake.
var wrongValues = []struct{ name, yaml string }{
	{"nothing", ""},
	{"null", "~"},
	{"empty text", `""`},
	{"blanks", `"  "`},
	{"an empty list", "[]"},
	{"an empty map", "{}"},
	{"a list in a list", "[[a]]"},
	{"a map in a list", "[{a: b}]"},
	{"a list in a map", "{/a: [b]}"},
	{"a map in a map", "{/a: {b: c}}"},
	{"a null in a list", "[~]"},
	{"an anchor", "&a b"},
	{"an alias", "[&a b, *a]"},
	{"an unknown alias", "*nowhere"},
	{"a NUL", `"a\0b"`},
	{"a line break", `"a\nb: c"`},
	{"a negative number", "-1"},
	{"a fraction", "1.5"},
	{"a truth value", "true"},
	{"a long text", strings.Repeat("x", 5000)},
}

// TestCapstanfileMistakes gives each key each kind of wrong value. A value
// that is right for a key builds, and the golden file shows that.
func TestCapstanfileMistakes(t *testing.T) {
	w := newWorld(t)
	w.write("Capstanfile", "zzz: 1\n")
	_, list, ok := strings.Cut(w.capstan("build").stderr, "(expected one of ")
	list, _, closed := strings.Cut(list, ")")
	if !ok || !closed {
		t.Fatal("the error of an unknown key does not list the keys")
	}
	var all []mistake
	for _, key := range strings.Split(list, ", ") {
		rest := "cmdline: /bin/app\nfiles: {/bin/app: app}\n"
		switch key {
		case "cmdline":
			rest = "files: {/bin/app: app}\n"
		case "files":
			rest = "cmdline: /bin/app\n"
		}
		for _, v := range wrongValues {
			all = append(all, build(key+" is "+v.name, rest+key+": "+v.yaml+"\n"))
		}
		all = append(all,
			build(key+" is given twice", rest+key+": a\n"+key+": a\n"),
			build(key+" is misspelt", rest+key[:len(key)-1]+": a\n"),
			build(key+" has another case", rest+strings.ToUpper(key)+": a\n"))
	}
	commitAll(t, "keys.golden", all)
}

func TestCapstanfileForm(t *testing.T) {
	bomb := "base: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		bomb += string(c) + ": &" + string(c) + " [" + strings.Repeat("*"+string(c-1)+",", 9) + "]\n"
	}
	commitAll(t, "form.golden", []mistake{
		build("an empty file", ""),
		build("comments alone", "# nothing\n"),
		build("a Dockerfile", "FROM debian\nCMD x\n"),
		build("a list", "- a\n"),
		build("nothing to run", "build: make\n"),
		build("two documents", "cmdline: /a\n---\ncmdline: /b\n"),
		build("a merge key", "cmdline: /a\n<<: {env: {A: b}}\n"),
		build("an unknown key", "cmdline: /a\nzzz: 1\n"),
		build("another tool's key", "cmdline: /a\nports: 80\n"),
		build("rpm-base", "rpm-base: {name: x}\ncmdline: /a\n"),
		build("a tab", "cmdline: /a\n\tenv: a\n"),
		build("an open quote", "cmdline: \"/a\n"),
		build("a second colon", "cmdline: /a: b\n"),
		build("no UTF-8", "cmdline: /a\nbuild: \xff\n"),
		build("UTF-16", "\xff\xfec\x00m\x00d\x00"),
		build("binary", "\x7fELF\x02\x01\x01\x00\x00"),
		build("too large", "cmdline: /a\n"+strings.Repeat("#", 1<<20)),
		build("too deep", "cmdline: "+strings.Repeat("[", 100000)),
		build("a bomb", bomb+"env: *j\n"),
		build("a shell's command line", "cmdline: a; b\n"),
		build("an open quote in the command line", "cmdline: /a 'b\n"),
		build("a guest path that is not absolute", "cmdline: /a\nfiles: {bin/app: app}\n"),
		build("a guest path with ..", "cmdline: /a\nfiles: {/bin/../app: app}\n"),
		build("a whiteout", "cmdline: /a\nfiles: {/bin/.wh.app: app}\n"),
		build("a name of 256 bytes", "cmdline: /a\nfiles: {/"+strings.Repeat("n", 256)+": app}\n"),
		build("a port that is none", "cmdline: /a\nexpose: 65536\n"),
		build("a port of the host", "cmdline: /a\nexpose: 80:80\n"),
		build("a range that is none", "cmdline: /a\nexpose: 90-80\n"),
		build("memory without a unit", "cmdline: /a\nmemory: 512\n"),
		build("memory with a strange unit", "cmdline: /a\nmemory: 512K\n"),
		build("no memory", "cmdline: /a\nmemory: 0M\n"),
		build("no CPU", "cmdline: /a\ncpus: 0\n"),
		build("another architecture", "cmdline: /a\narch: x86_64\n"),
		build("a base that is not there", "base: nothere\n"),
		build("a base that is no name", "base: Not_A/Name\n"),
		build("a user of three parts", "cmdline: /a\nuser: a:b:c\n"),
		build("a build command that fails", "cmdline: /a\nbuild: exit 3\n"),
		build("a build command that is not there", "cmdline: /a\nbuild: exec ./nothere\n"),
	})
}

func TestInputMistakes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no symbolic links for everyone")
	}
	files := func(name, value string) mistake {
		return build(name, "cmdline: /bin/app\nfiles: {/bin/app: '"+value+"'}\n")
	}
	linked := func(m mistake, links map[string]string) mistake {
		m.links = links
		return m
	}
	rootfs := func(name, value string) mistake {
		return build(name, "cmdline: /bin/app\nrootfs: '"+value+"'\n")
	}
	all := []mistake{
		{name: "no Capstanfile", args: []string{"build", "new", "."}},
		{name: "no directory", args: []string{"build", "new", "nothere"}},
		{name: "no file given by -f", args: []string{"build", "-f", "nothere", "new"}},
		{name: "a directory for a Capstanfile", setup: func(w *world) { os.MkdirAll(filepath.Join(w.dir, "src", "Capstanfile"), 0o755) }, args: []string{"build", "new", "src"}},
		{name: "a file for a directory", files: map[string]string{"src": ""}, args: []string{"build", "new", "src"}},
		{name: "a Capstanfile in no directory", files: map[string]string{"c": "cmdline: /a\n"}, args: []string{"build", "-f", "c", "new", "nothere"}},
		{name: "from nothing", args: []string{"build", "--from", "nothere"}},
		{name: "from a text", files: map[string]string{"text": "only words\n"}, args: []string{"build", "--from", "text"}},
		{name: "from an empty file", files: map[string]string{"empty": ""}, args: []string{"build", "--from", "empty"}},
		{name: "from a zip", files: map[string]string{"z.jar": "PK\x03\x04rest"}, args: []string{"build", "--from", "z.jar"}},
		{name: "from a disk of old Capstan", files: map[string]string{"d.qcow2": "QFI\xfbrest"}, args: []string{"build", "--from", "d.qcow2", "d"}},
		{name: "from half a tar", files: map[string]string{"half.tgz": "\x1f\x8b\x08"}, args: []string{"build", "--from", "half.tgz"}},
		{name: "from half an ELF file", files: map[string]string{"half": "\x7fELF\x02\x01\x01"}, args: []string{"build", "--from", "half"}},
		{name: "from a script without an interpreter", files: map[string]string{"run": "#!/nothere/sh\n"}, args: []string{"build", "--from", "./run"}},
		{name: "run of no program", args: []string{"run", "--rm", "./nothere"}},
		{name: "run of a directory without a command", files: map[string]string{"tree/x": ""}, args: []string{"run", "--rm", "./tree"}, leaves: true},
		{name: "a name with blanks", args: []string{"build", "--from", "app", "No Name"}},
		{name: "a name in upper case", args: []string{"tag", "app", "App"}},
		{name: "an empty name", args: []string{"tag", "app", ""}},
		{name: "a URL for a name", args: []string{"tag", "app", "https://example.org/app"}},
		{name: "a bad tag", args: []string{"tag", "app", "app:!"}},
		{name: "a bad digest", args: []string{"tag", "app", "app@sha256:12"}},
		{name: "no image to tag", args: []string{"tag", "nothere", "app:2"}},
		{name: "no image to remove", args: []string{"rmi", "nothere"}},
		{name: "a directory whose name is no image's", files: map[string]string{"___/Capstanfile": "cmdline: /a\n"}, args: []string{"build", "", "___"}},

		files("files: nothing there", "nothere"),
		files("files: a glob of nothing", "*.so"),
		files("files: a bad glob", "[a"),
		files("files: an absolute path", "/etc/passwd"),
		files("files: ..", "../secret"),
		files("files: .. further on", "sub/../../secret"),
		files("files: .. behind a glob", "*/../../secret"),
		files("files: .. through &", "&/../../&"),
		files("files: a home", "~/secret"),
		linked(files("files: an absolute link", "link"), map[string]string{"src/link": "/etc/passwd"}),
		linked(files("files: a link to ..", "link"), map[string]string{"src/link": "../root"}),
		linked(files("files: a link in the way", "link/passwd"), map[string]string{"src/link": "/etc"}),
		linked(files("files: a chain of links", "one"), map[string]string{"src/one": "two", "src/two": "three", "src/three": "$DIR/root"}),
		linked(files("files: a link to a link in the way", "one/x"), map[string]string{"src/one": "two", "src/two": ".."}),
		linked(files("files: a link by &", "&"), map[string]string{"src/app2": "/etc/passwd"}),
		linked(files("files: a link to itself", "loop"), map[string]string{"src/loop": "loop"}),
		linked(files("files: a link to nothing", "dangling"), map[string]string{"src/dangling": "nothere"}),
		linked(files("files: a glob through a link", "link/*"), map[string]string{"src/link": "/etc"}),
		files("files: a file below a file", "app/x"),
		rootfs("rootfs: nothing there", "nothere"),
		rootfs("rootfs: a file", "app"),
		rootfs("rootfs: ..", ".."),
		linked(rootfs("rootfs: a link out", "link"), map[string]string{"src/link": "/etc"}),
		build("two files in one place", "cmdline: /a\nfiles: {/a: app, /a/b: app}\n"),
	}
	ignored := build("a bad .capstanignore", "cmdline: /a\n")
	ignored.files["src/.capstanignore"] = "build\n"
	commitAll(t, "inputs.golden", append(all, ignored))
}

func TestFlagMistakes(t *testing.T) {
	var all []mistake
	for _, line := range []string{
		"runn", "run", "run nothere", "run -p 80 app", "run -p x app", "run -p 127.0.0.1:x:80 app", "run -p 80:0 app",
		"run -p 80:80/icmp app", "run -p 999.1.1.1:80:80 app", "run -p 70000:80 app", "run -p [::1]:80:80 app",
		"run -p 80:80 -p 80:81 app", "run -m 10M app", "run -m 512 app", "run -m much app", "run -m -5M app",
		"run -c 0 app", "run -c -1 app", "run -c x app", "run -c 5000 app", "run --accel kmv app", "run --on moon app",
		"run --restart sometimes app", "run --restart on-failure:x app", "run --rm --restart always app",
		"run --replicas 2 app", "run -d --replicas -1 app", "run --rm --replicas 2 app", "run -d --replicas 2 --on qemu app", "run -d --replicas many app", "run -d --replicas 0 --on gce app",
		"run --count 2 app", "run -d --count 0 app", "run -d --count 2000 app", "run -d --count few app", "run -d --count 2 --replicas 2 --on gce app", "run -d --count 2 -p 80:80 app",
		"run -d --count 2 --on gce -v data:/data app", "run --dry-run app", "run --dry-run --on vsphere app", "run --on gce -i nothere", "run --on gce --restart always nothere", "run --on gce --hostname a_b! nothere", "run --on gce -m 5M nothere", "run --on gce -w here nothere",
		"run --zone us-central1-a --on qemu app", "run --on gce --allow everybody app", "run --on gce -p 8080:80 app", "run --dry-run --on gce -v ./data:/data app", "run --on ec2 --network none nothere", "run --on gce --read-only nothere",
		"run --region eu-central-1 --on qemu app", "run --spot --on qemu app", "run --on ec2 --region mars app", "run --on ec2 --zone europe-west4-a app",
		"run --on ec2 --project p app", "run --on ec2 --service-account a@b app", "run --on gce --region eu-central-1 app", "run --on gce --iam-profile p app",
		"run --on gce --zone europe-west4 app", "run --on ec2 --allow 203.0.113.7 app", "run --on ec2 -p 8080:80 app", "run --on vsphere --region eu-central-1 app",
		"run -v nothere:/x app", "run -v ./:/x:size=1G app", "run --on gce -v Data:/x app", "run --on gce -v data:x app", "run --on gce -v data app", "run --on gce -v data:/d:size=much app", "run --on gce -v data:/d:rx app",
		"run --on gce -v data:/a -v data:/b app", "run --on gce -v a:/data -v b:/data/ app", "run -d --count 2 --on ec2 -v data:/data:ro app", "run --on gce --allow 0.0.0.0/0 nothere", "volume rm", "volume ls x", "volume ls --on qemu", "volume rm --on moon data", "volume ls --on gce --region eu-central-1", "volume rm --region eu-central-1 --zone us-central1-a data", "volume ls --region mars", "volume rm --zone mars data", "run -v ./nothere:/x app", "run -v .:x app", "run -v .:/ app", "run -v app app",
		"run -w here app", "run -e =x app", "run --env-file nothere app", "run -l =x app", "run -u a:b:c app",
		"run --hostname a_b! app", "run --name a/b app", "run --name .. app", "run --stop-timeout -1 app",
		"run --stop-timeout soon app", "run --nmae x app", "run --rm=perhaps app", "run --name", "run -x app",
		"run --entrypoint", "build a b c", "build --from app -f x", "build --from app a b", "images x", "images --bogus", "images --format yaml",
		"images --format {{", "images --format {{.Nope}}", "ps x", "ps --format yaml", "inspect", "inspect nobody", "inspect --format {{.Nope}} app",
		"stop", "stop nobody", "stop -t soon nobody", "kill nobody", "kill -s", "start nobody", "start -a one two", "restart nobody", "scale nobody", "scale nobody 2", "scale nobody many", "scale nobody 0", "scale nobody 1001", "rm", "rm nobody",
		"wait nobody", "wait", "logs", "logs nobody", "logs a b", "stats nobody", "rmi", "tag app", "prune x", "prune --on ec2 --region mars", "prune --on ec2 --instances", "prune --on gce --region eu-central-1", "prune --on gce", "run --on gce app", "run --on ec2 --dry-run app", "prune --on moon", "prune --region eu-central-1", "doctor x", "version x", "version --format yaml",
		"help nothing", "help run more", "completion tcsh", "--nothing", "-x", "ps --root", "config", "exec app sh", "cp a b", "image ls", "top app", "--version", "-v", "import a b", "package push a", "volume create a", "stack push a", "runtime list",
		// What old Capstan's letters meant.
		"run -f 8080:80 app", "run -n nat app", "run -n bridge app", "run -b virbr0 app", "run --mac 52:54:00:12:34:56 app", "run -p qemu app", "run -p vbox app",
		"run -p gce app", "run -i=app", "run --execute /java.so app", "run --boot prod app", "run --persist app", "run --gce-upload-dir gs://b app",
		"build -p vbox app", "build -m 512M app", "build -v app", "-u http://example.org images", "--s3 images", "-r any images", "--release-tag v1 images",
	} {
		all = append(all, mistake{name: line, args: strings.Fields(line)})
	}
	commitAll(t, "flags.golden", append(all,
		mistake{name: "old Capstan's -e", args: []string{"run", "-e", "/java.so -jar app.jar", "app"}},
		mistake{name: "an environment's file without names", files: map[string]string{"env": "A=1\n=x\n"}, args: []string{"run", "--env-file", "env", "app"}},
		mistake{name: "an environment's file of one long line", files: map[string]string{"env": strings.Repeat("x", 1<<17)}, args: []string{"run", "--env-file", "env", "app"}},
		mistake{name: "a directory for an environment's file", args: []string{"run", "--env-file", ".", "app"}},
	))
}

func TestSettingMistakes(t *testing.T) {
	config := func(name, text string, args ...string) mistake {
		return mistake{name: name, files: map[string]string{"root/config.yaml": text}, args: firstLine(args, "ps")}
	}
	env := func(v string, args ...string) mistake {
		return mistake{name: v, env: []string{v}, args: firstLine(args, "ps")}
	}
	commitAll(t, "settings.golden", []mistake{
		config("a text", "just text\n"),
		config("a list", "[a]\n"),
		config("bad YAML", "accel: tcg\na: b: c\n"),
		config("no UTF-8", "memory: \xff\n"),
		config("too large", "memory: 1G\n"+strings.Repeat("#", 1<<20)),
		config("an unknown key", "zzz: 1\n"),
		config("a misspelt key", "memroy: 1G\n"),
		config("a key given twice", "cpus: 1\ncpus: 2\n"),
		config("memory without a unit", "memory: 512\n"),
		config("memory is a list", "memory: [a]\n"),
		config("memory is nothing", "memory:\n"),
		config("too little memory", "memory: 10M\n", "run", "app"),
		config("cpus is a word", "cpus: many\n"),
		config("cpus is 0", "cpus: 0\n"),
		config("cpus is a map", "cpus: {a: b}\n"),
		config("disable_kvm is a word", "disable_kvm: maybe\n"),
		config("log_size is too small", "log_size: 1K\n"),
		config("log_files is 0", "log_files: 0\n"),
		{name: "offline is a word", files: map[string]string{"root/config.yaml": "offline: maybe\n"}, env: []string{"CAPSTAN_OFFLINE="}, args: []string{"ps"}},
		config("an unknown accelerator", "accel: warp\n", "run", "app"),
		config("registries is a word", "registries: docker.io\n"),
		config("a region that is none", "ec2:\n  region: mars\n"),
		config("a section's key given twice", "gce: {zone: a-b1-c, zone: a-b1-d}\n"),
		config("a section's misspelt key", "gce:\n  projekt: p\n"),
		config("a secret", "ec2:\n  secret_access_key: hunter2\n"),
		{name: "a directory for config.yaml", setup: func(w *world) { os.MkdirAll(filepath.Join(w.root, "config.yaml"), 0o755) }, args: []string{"ps"}},
		env("CAPSTAN_MEMORY=x"), env("CAPSTAN_MEMORY=10M", "run", "app"), env("CAPSTAN_CPUS=no"), env("CAPSTAN_CPUS=-1"), env("CAPSTAN_LOG_SIZE=tiny"),
		env("CAPSTAN_DISABLE_KVM=maybe"), env("CAPSTAN_OFFLINE=maybe"), env("CAPSTAN_ACCEL=warp", "run", "app"), env("CAPSTAN_REGISTRIES=!"),
		{name: "a file for a root", files: map[string]string{"file": ""}, args: []string{"--root", "file", "ps"}},
		{name: "a root below a file", files: map[string]string{"file": ""}, args: []string{"--root", "file/root", "ps"}},
	})
}

func firstLine(given []string, usual ...string) []string {
	if len(given) > 0 {
		return given
	}
	return usual
}
