package serial

import (
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/Microsoft/go-winio"
)

// Listen makes a named pipe of each name, which are for this user, as their
// owner, and the system alone.
func Listen(_ string, names ...string) (*Lines, error) {
	l := &Lines{}
	group := rand.Text()
	for _, name := range names {
		listener, err := winio.ListenPipe(`\\.\pipe\capstan-`+group+"-"+name, &winio.PipeConfig{SecurityDescriptor: "D:P(A;;GA;;;OW)(A;;GA;;;SY)"})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("listening for a serial port: %w", err), l.Close())
		}
		l.listeners = append(l.listeners, listener)
	}
	return l, nil
}

// IsFolder tells whether a path can be a Lines' Folder.
func IsFolder(string) bool { return false }
