// Package registrytest starts a real registry for tests: the reference
// implementation, built from the module in test/registry, on a loopback
// address of its own.
package registrytest

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// User and Password are what a registry with Options.Auth wants.
const (
	User     = "capstan"
	Password = "not-a-secret"

	// Name is another name that the certificate of a registry with
	// Options.TLS is for, beside its address and localhost.
	Name = "registry.example.org"

	// passwordFile has Password by bcrypt, the one scheme that the registry
	// takes.
	passwordFile = User + ":$2a$04$siXFxgJ/gYPPCE3Btnzwwuf5tgF.1odXhJyulkidbcTQLj1IvAZ86\n"
)

// Options say what a registry is like. The zero value is an open one that
// speaks plain HTTP.
type Options struct {
	Auth bool // wants User and Password
	TLS  bool // speaks HTTPS, with a certificate of a CA of its own
	// Other starts another implementation, go-containerregistry's, which has
	// neither of these.
	Other bool
	// Dir is where it keeps its data; "" is a temporary directory. A registry
	// that was stopped can be started again on the same data.
	Dir string
}

// Registry is one that runs.
type Registry struct {
	Host   string // 127.0.0.1:PORT
	CAFile string // of its CA, where it speaks HTTPS
	Dir    string

	cmd  *exec.Cmd
	gone chan struct{} // closed when its process is
}

// Start starts a registry, which ends with the test.
func Start(t testing.TB, opts Options) *Registry {
	t.Helper()
	r := &Registry{Dir: opts.Dir, gone: make(chan struct{})}
	tmp := t.TempDir()
	if r.Dir == "" {
		r.Dir = filepath.Join(tmp, "data")
	}
	if opts.Other {
		if err := os.MkdirAll(r.Dir, 0o700); err != nil {
			t.Fatal(err)
		}
		r.cmd = exec.Command(Crane(t), "registry", "serve", "--address=127.0.0.1:0", "--disk="+r.Dir)
	} else {
		config := filepath.Join(tmp, "config.yaml")
		write(t, config, r.config(t, tmp, opts))
		r.cmd = exec.Command(Binary(t), "serve", config)
	}
	r.cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	endWithParent(r.cmd)
	// A pipe of the system's, not of package exec's: the process ends when it
	// ends, not when its log does.
	log, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.cmd.Stdout, r.cmd.Stderr = w, w
	err = r.cmd.Start()
	w.Close()
	if err != nil {
		t.Fatalf("starting the registry: %v", err)
	}
	t.Cleanup(r.Stop)
	host, said := listens(log)
	go func() {
		io.Copy(io.Discard, log)
		log.Close()
		r.cmd.Wait()
		close(r.gone)
	}()
	if host == "" {
		t.Fatalf("the registry did not start:\n%s", said)
	}
	r.Host = host
	return r
}

// Stop ends the registry's process. It may be called again.
func (r *Registry) Stop() {
	r.cmd.Process.Kill()
	<-r.gone
}

// URL is where it is reached.
func (r *Registry) URL() string {
	if r.CAFile != "" {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// config is its configuration: distribution.github.io, "Configuring a
// registry".
func (r *Registry) config(t testing.TB, tmp string, opts Options) string {
	t.Helper()
	text := fmt.Sprintf(`version: 0.1
log: {level: info, formatter: text}
storage:
  filesystem: {rootdirectory: %q}
  delete: {enabled: true}
http:
  addr: 127.0.0.1:0
`, r.Dir)
	if opts.TLS {
		cert, key := certificate(t, tmp)
		r.CAFile = filepath.Join(tmp, caFile)
		text += fmt.Sprintf("  tls: {certificate: %q, key: %q}\n", cert, key)
	}
	if opts.Auth {
		path := filepath.Join(tmp, "htpasswd")
		write(t, path, passwordFile)
		text += fmt.Sprintf("auth:\n  htpasswd: {realm: test, path: %q}\n", path)
	}
	return text
}

var listening = regexp.MustCompile(`(?:listening on 127\.0\.0\.1:|serving on port )([0-9]+)`)

// listens reads a registry's log up to the line that tells its address. If
// there is none, said is the log.
func listens(log io.Reader) (host, said string) {
	var b strings.Builder
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		if m := listening.FindStringSubmatch(lines.Text()); m != nil {
			return "127.0.0.1:" + m[1], ""
		}
		b.WriteString(lines.Text() + "\n")
	}
	return "", b.String()
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
