//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"capstan/guest/api"
)

// portWait bounds the wait for the names of the virtio-serial ports, which
// the host tells in messages of their own after the device has appeared.
const portWait = 3 * time.Second

// port is a character device that is read and written without blocking a
// thread: a virtio-serial port or a terminal.
type port struct {
	*os.File
	// serial is set for a virtio-serial port, where reading nothing means
	// that the host's end is closed now and may be opened again.
	serial bool
}

// console is the application's console.
type console struct{ *port }

// piece is how much the console is given at once: what a serial port takes in
// less than a second, so that it is seen to move.
func (c *console) piece() int {
	if c.serial {
		return relayBuffer
	}
	return 4 << 10
}

// openSerial opens a serial port by its device's path, as fast as it goes, with
// nothing in it that came before.
func openSerial(path string) (*port, error) {
	if !until(portWait, func() bool { return exists(path) }) {
		return nil, fmt.Errorf("the machine has no serial port %s", path)
	}
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the serial port %s: %w", path, err)
	}
	setRaw(f)
	return &port{File: f}, nil
}

// openConsole opens the console port, or the kernel's console on machines
// without one.
func openConsole() (*console, error) {
	p, err := openPort(api.ConsolePort)
	if err != nil {
		return nil, err
	}
	if p != nil {
		return &console{p}, nil
	}
	f, err := os.OpenFile("/dev/console", os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the console: %w", err)
	}
	setRaw(f) // not every console is a terminal
	return &console{&port{File: f}}, nil
}

// openPort opens the virtio-serial port of that name; nil means that this
// machine has none.
func openPort(name string) (*port, error) {
	var path string
	find := func() bool { path = findPort("/sys", name); return path != "" }
	if !find() && (!hasPorts("/sys") || !until(portWait, find)) {
		return nil, nil
	}
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the port %s: %w", name, err)
	}
	return &port{File: f, serial: true}, nil
}

// findPort looks a virtio-serial port up in the sysfs at sys.
func findPort(sys, name string) string {
	class := filepath.Join(sys, "class/virtio-ports")
	ports, _ := os.ReadDir(class) // none yet: the caller waits
	for _, p := range ports {
		if attribute(class, p.Name(), "name") == name {
			return filepath.Join("/dev", p.Name())
		}
	}
	return ""
}

// hasPorts tells whether a virtio console device with named ports exists:
// device 3 with feature 1 (VIRTIO 1.2, 5.3.3, VIRTIO_CONSOLE_F_MULTIPORT).
func hasPorts(sys string) bool {
	bus := filepath.Join(sys, "bus/virtio/devices")
	devices, _ := os.ReadDir(bus) // none without virtio
	for _, d := range devices {
		features := attribute(bus, d.Name(), "features") // one character a bit, bit 0 first
		if attribute(bus, d.Name(), "device") == "0x0003" && len(features) > 1 && features[1] == '1' {
			return true
		}
	}
	return false
}

// Read waits for bytes. It does not end where the host's end of a
// virtio-serial port closes: the host may come back.
func (p *port) Read(b []byte) (int, error) { return p.read(b, false) }

// read reads what there is, waiting for the first byte. With eof, a closed
// host's end is io.EOF.
func (p *port) read(b []byte, eof bool) (n int, err error) {
	raw, err := p.SyscallConn()
	if err != nil {
		return 0, err
	}
	var rerr error
	err = raw.Read(func(fd uintptr) bool {
		for {
			n, rerr = unix.Read(int(fd), b)
			switch {
			case rerr == unix.EINTR:
			case rerr == unix.EAGAIN:
				return false
			case n == 0 && rerr == nil && p.serial && !eof:
				return false
			default:
				return true
			}
		}
	})
	if err == nil {
		err = rerr
	}
	if err != nil {
		return 0, err
	}
	if n == 0 && len(b) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// awaitHost waits until the kernel knows that the host's end of a virtio-serial
// port is open. That word comes on a queue of its own, maybe after the first
// bytes; before it, a read that finds nothing looks as if the end were closed.
// A host that is gone again is no error: the next read tells.
func (p *port) awaitHost(limit time.Duration) error {
	raw, err := p.SyscallConn()
	if err != nil {
		return err
	}
	if err := p.SetWriteDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	err = raw.Write(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd)}}
		_, err := unix.Poll(fds, 0)
		return err == nil && fds[0].Revents&unix.POLLHUP == 0
	})
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return p.SetWriteDeadline(time.Time{})
}

// writeLast writes b and returns once the host has taken it, or after limit.
func (p *port) writeLast(b []byte, limit time.Duration) error {
	_ = p.SetWriteDeadline(time.Now().Add(limit)) // where that is not possible, it waits
	defer p.SetWriteDeadline(time.Time{})         // what the application says later has all the time
	raw, err := p.SyscallConn()
	if err != nil {
		return err
	}
	if !p.serial {
		if _, err := p.Write(b); err != nil {
			return err
		}
		return raw.Control(func(fd uintptr) {
			_ = unix.IoctlSetInt(int(fd), unix.TCSBRK, 1) // tcdrain; not every console is a terminal
		})
	}
	// The kernel only says that a port can be written, which it nearly always
	// can. But it says so again whenever the host gives a buffer back.
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(epoll)
	var event [1]unix.EpollEvent
	cerr := raw.Control(func(fd uintptr) {
		err = unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, int(fd), &unix.EpollEvent{Events: unix.EPOLLOUT | unix.EPOLLET})
	})
	if err := errors.Join(cerr, err); err != nil {
		return err
	}
	_, _ = unix.EpollWait(epoll, event[:], 0) // what was before
	if _, err := p.Write(b); err != nil {
		return err
	}
	for {
		if _, err := unix.EpollWait(epoll, event[:], int(limit.Milliseconds())); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// setRaw makes a terminal pass all bytes as they are.
func setRaw(f *os.File) {
	raw, err := f.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		t, err := unix.IoctlGetTermios(int(fd), unix.TCGETS)
		if err != nil {
			return
		}
		t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
		t.Oflag &^= unix.OPOST
		t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
		// Where a serial port is emulated, its other end sets no carrier, and
		// its speed may count.
		t.Cflag = t.Cflag&^(unix.CSIZE|unix.PARENB|unix.CBAUD|unix.HUPCL) | unix.CS8 | unix.CLOCAL | unix.CREAD | unix.B115200
		t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
		_ = unix.IoctlSetTermios(int(fd), unix.TCSETS, t)
	})
}
