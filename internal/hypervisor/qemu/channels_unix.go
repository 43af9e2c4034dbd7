//go:build !windows

package qemu

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"
)

// inheritedChannels are socket pairs: they have no name, and so nobody else
// can connect to them, and no path that could be too long.
func inheritedChannels() (*channels, error) {
	c := &channels{}
	for i, id := range channelIDs {
		ours, theirs, err := socketPair(id)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("making a socket pair: %w", err), c.close())
		}
		c.ours[i] = ours
		c.theirs = append(c.theirs, theirs)
		c.backends[i] = "socket,fd=" + strconv.Itoa(3+i)
	}
	return c, nil
}

func socketPair(name string) (net.Conn, *os.File, error) {
	syscall.ForkLock.RLock() // not every system can make a pair close-on-exec at once
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, err
	}
	mine, theirs := os.NewFile(uintptr(fds[0]), name), os.NewFile(uintptr(fds[1]), name)
	defer mine.Close()
	conn, err := net.FileConn(mine)
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return conn, theirs, nil
}
