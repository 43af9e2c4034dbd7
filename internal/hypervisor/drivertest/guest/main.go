//go:build linux

// Command guest is the guest of the drivers' conformance suite, as a PID 1 of
// its own: it needs no root file system. What it does is said in package
// drivertest.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"capstan/guest/api"
)

// patience is how often a device is looked for, every 10 ms: a minute, for a
// machine that shares its host with many.
const patience = 6000

func main() {
	for _, m := range [][2]string{{"devtmpfs", "/dev"}, {"sysfs", "/sys"}, {"proc", "/proc"}} {
		if err := os.MkdirAll(m[1], 0o755); err != nil {
			log.Print(err)
		}
		if err := unix.Mount(m[0], m[1], m[0], 0, ""); err != nil && err != unix.EBUSY {
			log.Printf("mounting %s: %v", m[1], err)
		}
	}
	config, err := readConfig()
	status := 0
	if err == nil {
		err = run(config)
	}
	if err != nil {
		log.Print(err)
		status = 1
	}
	if console, err := channel(config.Console, api.ConsolePort); err == nil {
		console.Write(api.FormatExit(api.Exit{Status: status}))
		unix.IoctlSetInt(int(console.Fd()), unix.TCSBRK, 1) // tcdrain, where it is a serial port
		console.Close()
	}
	unix.Sync()
	how := unix.LINUX_REBOOT_CMD_RESTART // the end, on machines without ACPI
	if config.Control != "" {
		how = unix.LINUX_REBOOT_CMD_POWER_OFF // others may begin anew
	}
	unix.Reboot(how)
}

// readConfig reads the config from the initramfs or the disk.
func readConfig() (config api.Config, err error) {
	doc, err := os.ReadFile(api.ConfigPath)
	if os.IsNotExist(err) {
		var device string
		if device, err = partition(api.ConfigPartition); err != nil {
			return config, err
		}
		doc, err = os.ReadFile(device)
	}
	if err != nil {
		return config, err
	}
	return config, json.Unmarshal(bytes.TrimRight(doc, "\x00"), &config)
}

// partition is the device of a partition of that name.
func partition(name string) (string, error) {
	for range patience {
		found, err := filepath.Glob("/sys/class/block/*/uevent")
		if err != nil {
			return "", err
		}
		for _, path := range found {
			if b, err := os.ReadFile(path); err == nil && strings.Contains(string(b), "PARTNAME="+name+"\n") {
				return "/dev/" + filepath.Base(filepath.Dir(path)), nil
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	return "", fmt.Errorf("there is no partition %s", name)
}

// boots counts the boots in a file on the writable partition.
func boots(upper string) (int, error) {
	device, err := partition(strings.TrimPrefix(upper, "partlabel:"))
	if err != nil {
		return 0, err
	}
	if err := os.MkdirAll("/upper", 0o755); err != nil {
		return 0, err
	}
	if err := unix.Mount(device, "/upper", "ext4", 0, ""); err != nil {
		return 0, err
	}
	defer unix.Unmount("/upper", 0)
	before, err := os.ReadFile("/upper/boots")
	if err != nil && !os.IsNotExist(err) {
		return 0, err
	}
	return len(before) + 1, os.WriteFile("/upper/boots", append(before, '.'), 0o600)
}

func run(config api.Config) error {
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
	control, err := channel(config.Control, api.ControlPort)
	if err != nil {
		return err
	}
	console, err := channel(config.Console, api.ConsolePort)
	if err != nil {
		return err
	}
	defer console.Close()
	button := make(chan os.Signal, 1)
	signal.Notify(button, unix.SIGTERM) // what the kernel makes of it
	if config.Control != "" {
		if _, err := io.WriteString(console, api.ConsoleHello); err != nil {
			return err
		}
		if _, err := io.WriteString(control, api.ControlHello); err != nil {
			return err
		}
	}
	go io.Copy(control, control)
	for _, m := range config.Mounts {
		if err := share(console, m); err != nil {
			return err
		}
	}
	if config.Root.Upper != "" {
		n, err := boots(config.Root.Upper)
		if err != nil {
			return err
		}
		fmt.Fprintf(console, "boot %d\n", n)
	}
	fmt.Fprintf(console, "ready: %s\n", devices())
	lines := bufio.NewScanner(console)
	lines.Buffer(nil, 1<<20)
	quit := make(chan error, 1)
	go func() {
		for lines.Scan() && lines.Text() != "quit" {
			fmt.Fprintf(console, "echo: %s\n", lines.Text())
		}
		quit <- lines.Err()
	}()
	select {
	case err := <-quit:
		return err
	case <-button:
		return nil
	}
}

// channel opens a serial port, or else a virtio-serial port by its name.
func channel(serial, name string) (*os.File, error) {
	if serial == "" {
		return port(name)
	}
	f, err := os.OpenFile(serial, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	t, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return nil, err
	}
	t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
	t.Cflag = unix.CS8 | unix.CREAD | unix.CLOCAL | unix.B115200
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	return f, unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, t)
}

// port opens a virtio-serial port by its name.
func port(name string) (*os.File, error) {
	for range patience {
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
