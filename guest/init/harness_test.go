//go:build linux && e2e

package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/yamux"

	"capstan/guest/api"
	"capstan/internal/image/erofs"
)

// bootLimit bounds one machine's life. A machine without acceleration takes
// a second to boot; the host may be busy.
const bootLimit = 2 * time.Minute

// virtiofsd is Debian's, of qemu-system-common.
const virtiofsd = "/usr/lib/qemu/virtiofsd"

// kit is what all boots share: the kernel, this package's PID 1, a root, and
// one with nothing but the application.
type kit struct{ kernel, init, root, bare string }

var theKit = sync.OnceValues(makeKit)

func TestMain(m *testing.M) {
	relayMain()
	code := m.Run()
	if k, err := theKit(); err == nil {
		os.RemoveAll(filepath.Dir(k.init))
	}
	os.Exit(code)
}

func makeKit() (kit, error) {
	for tool, pkg := range map[string]string{"qemu-system-x86_64": "qemu-system-x86", virtiofsd: "qemu-system-common", "sgdisk": "gdisk"} {
		if _, err := exec.LookPath(tool); err != nil {
			return kit{}, fmt.Errorf("%w: apt-get install %s", err, pkg)
		}
	}
	kernel := os.Getenv("CAPSTAN_KERNEL")
	if kernel == "" {
		kernel = "../build/guest-amd64"
	}
	if _, err := os.Stat(kernel); err != nil {
		return kit{}, fmt.Errorf("%w: make guest", err)
	}
	dir, err := os.MkdirTemp("", "capstan-init")
	if err != nil {
		return kit{}, err
	}
	k := kit{kernel: kernel, init: filepath.Join(dir, "init"), root: filepath.Join(dir, "root.erofs"), bare: filepath.Join(dir, "bare.erofs")}
	app := filepath.Join(dir, "app")
	for out, pkg := range map[string]string{k.init: ".", app: "./testdata/app"} {
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
		if text, err := cmd.CombinedOutput(); err != nil {
			return kit{}, fmt.Errorf("building %s: %w\n%s", pkg, err, text)
		}
	}
	program, err := os.ReadFile(app)
	if err != nil {
		return kit{}, err
	}
	inside := append([]file{{"bin/app", 0o755, 0, string(program)}}, rootFiles()...)
	return k, errors.Join(makeRoot(k.root, inside), makeRoot(k.bare, inside[:1]))
}

// file is a file of a root.
type file struct {
	name string
	mode fs.FileMode
	id   uint32 // of its user and group
	body string // or a symbolic link's target
}

// rootFiles are what the test's application meets.
func rootFiles() []file {
	return []file{
		{"bin/data", 0o644, 0, "no program"},
		{"bin/garbage", 0o755, 0, "\x01\x02no program"},
		{"bin/script", 0o755, 0, "#!/bin/app args\n"},
		{"bin/orphaned", 0o755, 0, "#!/opt/no/such/interpreter -x\n"},
		{"bin/dynamic", 0o755, 0, string(tinyELF("/lib64/no-such-loader.so"))},
		{"bin/foreign", 0o755, 0, string(foreignELF())},
		{"etc/passwd", 0o644, 0, "root:x:0:0::/root:/bin/sh\nweb:x:33:44:web:/srv/web:/bin/sh\n"},
		{"etc/group", 0o644, 0, "root:x:0:\nwebgroup:x:44:\nextra:x:55:web,other\nlogs:x:66:web\n"},
		{"etc/resolv.conf", fs.ModeSymlink | 0o777, 0, "../run/systemd/resolve/stub-resolv.conf"},
		{"srv/private", fs.ModeDir | 0o700, 33, ""},
		{"srv/dir/file", 0o644, 0, "in the image"},
		{"run/web", fs.ModeDir | 0o750, 33, ""},
		{"run/web/note", 0o640, 33, "kept"},
		{"run/link", fs.ModeSymlink | 0o777, 0, "web/note"},
		{"tmp", fs.ModeDir | fs.ModeSticky | 0o777, 0, ""},
		{"tmp/seed", 0o600, 33, "seed"},
	}
}

func makeRoot(path string, files []file) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := erofs.Create(f, erofs.Options{})
	for _, e := range files {
		entry := &erofs.Entry{Name: e.name, Mode: e.mode, UID: e.id, GID: e.id, Size: int64(len(e.body))}
		if e.mode&fs.ModeSymlink != 0 {
			entry.Target = e.body
		}
		if err := w.Add(entry, strings.NewReader(e.body)); err != nil {
			return err
		}
	}
	_, err = w.Close()
	return err
}

// machine is a running virtual machine.
type machine struct {
	t       *testing.T
	cmd     *exec.Cmd
	dir     string
	console net.Conn
	control net.Listener // QEMU connects the control port again where it was closed
	mu      sync.Mutex
	more    *sync.Cond
	output  []byte
	ended   bool
	api     *http.Client
	session *yamux.Session
}

// setup is what of a machine differs from the usual.
type setup struct {
	memory  string // "" is 128M
	machine string // "" is microvm
	cpu     string // "" is max
	netdev  string // "" is QEMU's user-mode network
	bare    bool   // the root has nothing but the application
	disk    string // a disk's arguments in place of the config's archive and the root
	upper   string // an ext4 image
	cloud   string // the name of the one that the machine's firmware tells of
	args    []string
	raw     []byte // a config document in place of the marshalled one
	noPort  bool   // no console port: the kernel's console it is
}

// boot starts a machine with cfg completed by what every config has.
func boot(t *testing.T, cfg api.Config, s setup) *machine {
	t.Helper()
	k, err := theKit()
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, dir: t.TempDir()}
	m.more = sync.NewCond(&m.mu)
	cfg.Version = api.Version
	cfg.Root.Lower = []string{"serial:root"}
	if s.upper != "" {
		cfg.Root.Upper = "serial:upper"
	}
	cfg.Verbose = true
	doc := s.raw
	if doc == nil {
		if doc, err = json.Marshal(cfg); err != nil {
			t.Fatal(err)
		}
	}
	program, err := os.ReadFile(k.init)
	if err != nil {
		t.Fatal(err)
	}
	initrd := filepath.Join(m.dir, "initrd")
	files := map[string][]byte{"init": program, "capstan/config.json": doc}
	if s.disk != "" {
		delete(files, "capstan/config.json")
	}
	if err := os.WriteFile(initrd, cpio(files), 0o600); err != nil {
		t.Fatal(err)
	}
	consoles := m.listen("console")
	m.control = m.listen("control")
	m.cmd = exec.Command("qemu-system-x86_64", m.arguments(k, s, initrd)...)
	m.cmd.Stderr = os.Stderr
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() {
		_ = m.cmd.Wait() // how it ended, the console tells
		close(gone)
		consoles.Close()
		m.control.Close()
	}()
	watchdog := time.AfterFunc(bootLimit, func() { _ = m.cmd.Process.Kill() })
	t.Cleanup(func() {
		watchdog.Stop()
		_ = m.cmd.Process.Kill() // most have ended
		<-gone
		if t.Failed() {
			t.Logf("kernel's console:\n%s", m.kernelLog())
		}
	})
	if m.console, err = consoles.Accept(); err != nil {
		t.Fatalf("QEMU did not start: %v", err)
	}
	go m.follow()
	m.connect()
	return m
}

func (m *machine) arguments(k kit, s setup, initrd string) []string {
	s.machine = cmp.Or(s.machine, "microvm,acpi=off,rtc=on")
	bus := "pci"
	if strings.HasPrefix(s.machine, "microvm") {
		bus = "device"
	}
	args := []string{
		"-accel", "tcg", "-M", s.machine, "-cpu", cmp.Or(s.cpu, "max"), "-m", cmp.Or(s.memory, "128M"), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-kernel", k.kernel, "-initrd", initrd,
		"-append", "console=ttyS0 console=hvc0 quiet loglevel=4 reboot=t panic=-1 noreplace-smp",
		"-serial", "file:" + filepath.Join(m.dir, "serial.log"),
		"-chardev", "socket,id=console,path=" + filepath.Join(m.dir, "console"),
		"-chardev", "socket,id=control,reconnect=1,path=" + filepath.Join(m.dir, "control"),
		"-device", "virtio-serial-" + bus + ",max_ports=3",
	}
	if s.noPort {
		args = append(args, "-device", "virtconsole,chardev=console")
	} else {
		args = append(args,
			"-chardev", "file,id=hvc,path="+filepath.Join(m.dir, "hvc.log"), "-device", "virtconsole,chardev=hvc",
			"-device", "virtserialport,chardev=console,name="+api.ConsolePort)
	}
	root := k.root
	if s.bare {
		root = k.bare
	}
	args = append(args,
		"-device", "virtserialport,chardev=control,name="+api.ControlPort,
		"-netdev", cmp.Or(s.netdev, "user")+",id=net", "-device", "virtio-net-"+bus+",netdev=net",
	)
	if s.disk != "" {
		args = append(args, strings.Fields(s.disk)...)
	} else {
		args = append(args, "-drive", "if=none,id=root,format=raw,readonly=on,file="+root, "-device", "virtio-blk-"+bus+",drive=root,serial=root")
	}
	if s.upper != "" {
		args = append(args, "-drive", "if=none,id=upper,format=raw,file="+s.upper, "-device", "virtio-blk-"+bus+",drive=upper,serial=upper")
	}
	return append(args, s.args...)
}

// listen waits for QEMU to connect a port.
func (m *machine) listen(name string) net.Listener {
	l, err := net.Listen("unix", filepath.Join(m.dir, name))
	if err != nil {
		m.t.Fatal(err)
	}
	return l
}

// accept waits until QEMU has connected the control port.
func (m *machine) accept() net.Conn {
	m.t.Helper()
	control, err := m.control.Accept()
	if err != nil {
		m.t.Fatalf("QEMU ended: %v", err)
	}
	return control
}

// connect begins a session of the REST API.
func (m *machine) connect() {
	m.t.Helper()
	control := m.accept()
	cfg := yamux.DefaultConfig()
	cfg.EnableKeepAlive, cfg.LogOutput = false, io.Discard
	session, err := yamux.Client(control, cfg)
	if err != nil {
		m.t.Fatal(err)
	}
	m.session = session
	m.api = &http.Client{Transport: &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return session.Open() },
	}}
}

func (m *machine) follow() {
	buf := make([]byte, 1<<16)
	for {
		n, err := m.console.Read(buf)
		m.mu.Lock()
		m.output = append(m.output, buf[:n]...)
		m.ended = err != nil
		m.more.Broadcast()
		m.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// expect waits until the console has shown text.
func (m *machine) expect(text string) {
	m.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for !bytes.Contains(m.output, []byte(text)) {
		if m.ended {
			m.t.Fatalf("the console ended without %q:\n%s", text, m.output)
		}
		m.more.Wait()
	}
}

// end waits for the machine's end and returns what its console showed.
func (m *machine) end() (string, api.Exit) {
	m.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for !m.ended {
		m.more.Wait()
	}
	out, exit, ok := api.ParseExit(m.output)
	if !ok {
		m.t.Fatalf("no exit report at the end of the console:\n%.4000s", m.output)
	}
	return string(out), exit
}

func (m *machine) kernelLog() string {
	var all []string
	for _, name := range []string{"serial.log", "hvc.log"} {
		b, _ := os.ReadFile(filepath.Join(m.dir, name)) // may not exist
		all = append(all, string(b))
	}
	return strings.Join(all, "---\n")
}

// call makes a request of the REST API and decodes the answer into result.
func (m *machine) call(method, path string, body, result any) int {
	m.t.Helper()
	doc, err := json.Marshal(body)
	if err != nil {
		m.t.Fatal(err)
	}
	req, err := http.NewRequest(method, "http://guest"+path, bytes.NewReader(doc))
	if err != nil {
		m.t.Fatal(err)
	}
	resp, err := m.api.Do(req)
	if err != nil {
		m.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	if result != nil {
		if err := json.NewDecoder(resp.Body).Decode(result); err != nil {
			m.t.Fatalf("%s %s: %v", method, path, err)
		}
	}
	return resp.StatusCode
}

// cpio makes an archive of the newc form (kernel
// Documentation/driver-api/early-userspace/buffer-format.rst).
func cpio(files map[string][]byte) []byte {
	var b bytes.Buffer
	entry := func(name string, mode, links int, body []byte) {
		fmt.Fprintf(&b, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", 0, mode, 0, 0, links, 0, len(body), 0, 0, 0, 0, len(name)+1, 0)
		b.WriteString(name + "\x00")
		pad(&b)
		b.Write(body)
		pad(&b)
	}
	entry("capstan", 0o40755, 2, nil)
	for name, body := range files {
		entry(name, 0o100755, 1, body)
	}
	entry("TRAILER!!!", 0, 1, nil)
	return b.Bytes()
}

func pad(b *bytes.Buffer) {
	for b.Len()%4 != 0 {
		b.WriteByte(0)
	}
}

// tarOf makes a tar stream.
func tarOf(t *testing.T, heads ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range heads {
		body := h.PAXRecords["TEST.body"]
		h.PAXRecords = nil
		h.Size = int64(len(body))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
