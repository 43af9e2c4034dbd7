//go:build e2e

package e2e

import (
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"capstan/internal/hypervisor/vsphere/vspheretest"
)

// TestVSphereFaults: whatever goes wrong while an instance is made, there is a
// sentence that says so, and nothing is left, here or there.
func TestVSphereFaults(t *testing.T) {
	var fault func(w http.ResponseWriter, r *http.Request) bool
	s := vspheretest.Start(t, vspheretest.Options{Upload: func(w http.ResponseWriter, r *http.Request) bool {
		return fault != nil && fault(w, r)
	}})
	c := vsphereCapstan(t, s)
	env := c.env
	half := func(r *http.Request) { io.CopyN(io.Discard, r.Body, 1<<20) } // the client's end decides
	for _, tt := range []struct {
		name, variable, want string
		fault                func(http.ResponseWriter, *http.Request) bool
	}{
		{"wrong password", "GOVC_PASSWORD=wrong", "refuses the user name or the password", nil},
		{"untrusted certificate", "GOVC_TLS_CA_CERTS=", "the certificate of 127.0.0.1 is not trusted", nil},
		{"nobody there", "GOVC_URL=https://127.0.0.1:1/sdk", "127.0.0.1 does not answer", nil},
		{"no such datastore", "GOVC_DATASTORE=nope", "there is no datastore nope", nil},
		{"no room", "", "uploading the disk: the datastore is full\n  try: make room there", func(w http.ResponseWriter, r *http.Request) bool {
			half(r)
			// So that the answer is there before the connection is cut, however
			// late the client looks.
			answer := http.NewResponseController(w)
			if err := answer.EnableFullDuplex(); err != nil {
				t.Error(err)
			}
			http.Error(w, "no room", http.StatusInsufficientStorage)
			if err := answer.Flush(); err != nil {
				t.Error(err)
			}
			io.Copy(io.Discard, r.Body) // until the client ends
			return true
		}},
		{"lost connection", "", "uploading the disk", func(_ http.ResponseWriter, r *http.Request) bool {
			half(r)
			panic(http.ErrAbortHandler)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fault, c.env = tt.fault, append(env[:len(env):len(env)], tt.variable)
			defer func() { fault, c.env = nil, env }()
			r := c.run(t, "run", "--on", "vsphere", "-d", "--name", "x", "redis")
			if r.status != 125 || !strings.Contains(r.stderr, tt.want) || strings.Contains(r.stderr, vspheretest.Password) {
				t.Errorf("%+v; want %q", r, tt.want)
			}
			if left := s.Left(t.Context()); len(left) > 0 {
				t.Errorf("left on the server: %q", left)
			}
			if got := c.must(t, "ps", "-a", "-q"); got != "" {
				t.Errorf("left here: %q", got)
			}
		})
	}
	for name, signal := range map[string]os.Signal{"Ctrl-C": os.Interrupt, "kill -9": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			begun, over := make(chan struct{}), make(chan struct{})
			fault = func(_ http.ResponseWriter, r *http.Request) bool {
				half(r)
				close(begun)
				<-over
				return true
			}
			defer func() { fault = nil }()
			cmd := c.command(t.Context(), "run", "--on", "vsphere", "-d", "--name", "y", "redis")
			ended := start(t, cmd)
			<-begun
			if err := cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			r := ended()
			close(over)
			if signal == os.Interrupt && r.status != 130 {
				t.Errorf("%+v", r)
			}
			if signal == syscall.SIGKILL {
				if got := c.must(t, "ps", "-a", "--format", "{{.Name}} {{.Status}}"); got != "y dead\n" {
					t.Errorf("ps: %q", got)
				}
				c.must(t, "rm", "y")
			}
			if left := s.Left(t.Context()); len(left) > 0 {
				t.Errorf("left on the server: %q", left)
			}
		})
	}
}
