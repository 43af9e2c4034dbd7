//go:build !windows

package serial

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLines: the sockets of a killed process are replaced, and those whose paths
// would be too long are elsewhere.
func TestLines(t *testing.T) {
	for name, dir := range map[string]string{
		"short": filepath.Join(t.TempDir(), "d"),
		"long":  filepath.Join(t.TempDir(), strings.Repeat("d", maxSocket)),
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if name == "short" {
				left, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: filepath.Join(dir, "b.sock")})
				if err != nil {
					t.Fatal(err)
				}
				left.SetUnlinkOnClose(false)
				left.Close()
			}
			l, err := Listen(dir, "a", "b")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(l.Folder)
			if IsFolder(l.Folder) != (name == "long") {
				t.Errorf("the folder is %q", l.Folder)
			}
			for _, address := range l.Addresses() {
				conn, err := net.Dial("unix", address)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
			}
			if conns, err := l.Accept(t.Context()); err != nil || len(conns) != 2 {
				t.Errorf("%d connections, %v", len(conns), err)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
