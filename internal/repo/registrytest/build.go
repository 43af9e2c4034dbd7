package registrytest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/gofrs/flock"
)

// Binary builds the registry, unless it is built already, and returns its path.
func Binary(t testing.TB) string { return build(t, "registry", "registry", ".") }

// Crane builds go-containerregistry's client, which is another one than ours
// on the same library, and returns its path.
func Crane(t testing.TB) string {
	return build(t, "registry", "crane", "github.com/google/go-containerregistry/cmd/crane")
}

// Sigstore builds the program in test/sigstore, which copies images and looks at
// signatures as podman and skopeo do, and returns its path.
func Sigstore(t testing.TB) string {
	return build(t, "sigstore", "sigstore", ".", "-tags=containers_image_openpgp,containers_image_storage_stub,containers_image_docker_daemon_stub")
}

// GoogleCloud builds the program in test/gce, which is Google Cloud for tests,
// and returns its path.
func GoogleCloud(t testing.TB) string { return build(t, "gce", "gce", ".") }

// built has the paths of the programs that this process has built.
var built = struct {
	sync.Mutex
	paths map[string]string
}{paths: map[string]string{}}

// build builds a program of a module in test, into bin/test: another checkout's
// tests, which may run at the same time, have other programs. The go command
// knows whether there is anything to do; it must not do it twice at once.
func build(t testing.TB, module, name, pkg string, flags ...string) string {
	t.Helper()
	built.Lock()
	defer built.Unlock()
	if path := built.paths[name]; path != "" {
		return path
	}
	mod, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		t.Fatalf("finding the module: %v", err)
	}
	root := filepath.Dir(strings.TrimSpace(string(mod)))
	dir := filepath.Join(root, "bin", "test")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	lock := flock.New(filepath.Join(dir, name+".lock"))
	if err := lock.Lock(); err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	bin := filepath.Join(dir, name)
	cmd := exec.Command("go", append(append([]string{"build", "-o", bin}, flags...), pkg)...)
	cmd.Dir = filepath.Join(root, "test", module)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=readonly", "GOOS=", "GOARCH=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", name, err, out)
	}
	built.paths[name] = bin
	return bin
}
