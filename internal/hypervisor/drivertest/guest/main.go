//go:build linux

// Command guest is the guest of the drivers' conformance suite, as a PID 1 of
// its own: it needs no root file system. What it does is said in package
// drivertest.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"capstan/guest/api"
)

func main() {
	for _, m := range [][2]string{{"devtmpfs", "/dev"}, {"sysfs", "/sys"}, {"proc", "/proc"}} {
		if err := os.MkdirAll(m[1], 0o755); err != nil {
			log.Print(err)
		}
		if err := unix.Mount(m[0], m[1], m[0], 0, ""); err != nil && err != unix.EBUSY {
			log.Printf("mounting %s: %v", m[1], err)
		}
	}
	status := 0
	if err := run(); err != nil {
		log.Print(err)
		status = 1
	}
	if console, err := port(api.ConsolePort); err == nil {
		console.Write(api.FormatExit(api.Exit{Status: status}))
		console.Close()
	}
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}

func run() error {
	doc, err := os.ReadFile(api.ConfigPath)
	if err != nil {
		return err
	}
	var config api.Config
	if err := json.Unmarshal(doc, &config); err != nil {
		return err
	}
	if len(config.Args) > 0 && config.Args[0] == "panic" {
		os.Exit(3)
	}
	if !config.Network.None {
		if err := network(config.Network); err != nil {
			return err
		}
		if err := serve(); err != nil {
			return err
		}
	}
	if control, err := port(api.ControlPort); err != nil {
		return err
	} else {
		go io.Copy(control, control)
	}
	console, err := port(api.ConsolePort)
	if err != nil {
		return err
	}
	defer console.Close()
	for _, m := range config.Mounts {
		if err := share(console, m); err != nil {
			return err
		}
	}
	fmt.Fprintf(console, "ready: %s\n", devices())
	lines := bufio.NewScanner(console)
	for lines.Scan() && lines.Text() != "quit" {
		fmt.Fprintf(console, "echo: %s\n", lines.Text())
	}
	return lines.Err()
}

// port opens a virtio-serial port by its name.
func port(name string) (*os.File, error) {
	for range 100 {
		found, err := filepath.Glob("/sys/class/virtio-ports/*/name")
		if err != nil {
			return nil, err
		}
		for _, path := range found {
			if b, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(b)) == name {
				return os.OpenFile("/dev/"+filepath.Base(filepath.Dir(path)), os.O_RDWR, 0)
			}
		}
		time.Sleep(10 * time.Millisecond) // the host's answers to the driver come when they come
	}
	return nil, fmt.Errorf("there is no port %s", name)
}

// devices are the block devices' serial numbers and modes: "root:ro upper:rw".
func devices() string {
	found, err := filepath.Glob("/sys/block/*/serial")
	if err != nil {
		return err.Error()
	}
	var words []string
	for _, path := range found {
		serial, err := os.ReadFile(path)
		if err != nil {
			return err.Error()
		}
		mode := "rw"
		if ro, err := os.ReadFile(filepath.Join(filepath.Dir(path), "ro")); err != nil || strings.TrimSpace(string(ro)) == "1" {
			mode = "ro"
		}
		words = append(words, string(serial)+":"+mode)
	}
	return strings.Join(words, " ")
}

// network sets eth0 up by ioctls (netdevice(7)).
func network(config api.Network) error {
	prefix, err := netip.ParsePrefix(config.Address)
	if err != nil {
		return err
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	for _, set := range []struct {
		request uintptr
		address netip.Addr
	}{
		{unix.SIOCSIFADDR, prefix.Addr()},
		{unix.SIOCSIFNETMASK, netip.AddrFrom4([4]byte{255, 255, 255, 0})},
	} {
		r, err := unix.NewIfreq("eth0")
		if err != nil {
			return err
		}
		if err := r.SetInet4Addr(set.address.AsSlice()); err != nil {
			return err
		}
		if err := ioctl(s, set.request, r); err != nil {
			return fmt.Errorf("ioctl %#x: %w", set.request, err)
		}
	}
	r, err := unix.NewIfreq("eth0")
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return ioctl(s, unix.SIOCSIFFLAGS, r)
}

func ioctl(fd int, request uintptr, r *unix.Ifreq) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(r))); errno != 0 {
		return errno
	}
	return nil
}

// serve answers on port 80 what comes there, by TCP and UDP.
func serve() error {
	l, err := net.Listen("tcp", "0.0.0.0:80")
	if err != nil {
		return err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				io.Copy(conn, conn)
			}()
		}
	}()
	u, err := net.ListenPacket("udp", "0.0.0.0:80")
	if err != nil {
		return err
	}
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := u.ReadFrom(buf)
			if err != nil {
				return
			}
			u.WriteTo(buf[:n], from)
		}
	}()
	return nil
}

// share mounts a directory of the host, tells what it holds, and leaves a
// file there.
func share(console io.Writer, m api.Mount) error {
	if err := os.MkdirAll(m.Target, 0o755); err != nil {
		return err
	}
	flags := uintptr(0)
	if m.ReadOnly {
		flags = unix.MS_RDONLY
	}
	if err := unix.Mount(m.Source, m.Target, m.Type, flags, "trans=virtio,version=9p2000.L,msize="+strconv.Itoa(512<<10)); err != nil {
		return fmt.Errorf("mounting %s: %w", m.Source, err)
	}
	content, err := os.ReadFile(filepath.Join(m.Target, "from-host"))
	fmt.Fprintf(console, "share %s: %q %v\n", m.Source, content, err)
	if m.ReadOnly { // for the host to refuse
		if err := unix.Mount("", m.Target, "", unix.MS_REMOUNT, ""); err != nil {
			return fmt.Errorf("remounting %s: %w", m.Source, err)
		}
	}
	err = os.WriteFile(filepath.Join(m.Target, "from-guest"), []byte("of the guest"), 0o640)
	fmt.Fprintf(console, "wrote %s: %v\n", m.Source, err == nil)
	return nil
}
