//go:build !windows

package serial

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// maxSocket is how long a socket's path can be everywhere (unix(7): 108 bytes on
// Linux, 104 on macOS, with a zero byte).
const maxSocket = 100

// socketFolder begins the names of folders of sockets.
const socketFolder = "/tmp/capstan-"

// Listen makes a socket of each name, in place of one that a killed process has
// left, in dir where their paths are not too long for that. Only this user
// reaches them.
func Listen(dir string, names ...string) (*Lines, error) {
	l := &Lines{}
	longest := 0
	for _, name := range names {
		longest = max(longest, len(filepath.Join(dir, name+".sock")))
	}
	if longest > maxSocket {
		short, err := os.MkdirTemp("/tmp", filepath.Base(socketFolder)) // 0700
		if err != nil {
			return nil, fmt.Errorf("making a folder for sockets: %w", err)
		}
		dir, l.Folder = short, short
	}
	for _, name := range names {
		path := filepath.Join(dir, name+".sock")
		var listener net.Listener
		err := os.Remove(path)
		if err == nil || errors.Is(err, os.ErrNotExist) {
			listener, err = net.Listen("unix", path)
		}
		if err != nil {
			err = errors.Join(fmt.Errorf("listening for a serial port: %w", err), l.Close())
			if l.Folder != "" {
				err = errors.Join(err, os.RemoveAll(l.Folder))
			}
			return nil, err
		}
		l.listeners = append(l.listeners, listener)
	}
	return l, nil
}

// IsFolder tells whether a path can be a Lines' Folder.
func IsFolder(path string) bool {
	rest, ok := strings.CutPrefix(path, socketFolder)
	return ok && filepath.IsLocal(rest) && !strings.ContainsRune(rest, '/')
}
