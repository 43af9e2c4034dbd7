//go:build linux

// Command app is the application of the tests that boot: its first argument
// says what it does.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func main() {
	acts := map[string]func(args []string){
		"hello":    func([]string) { fmt.Println("hello") },
		"clock":    func([]string) { fmt.Println(boottime()) },
		"exit":     func(a []string) { os.Exit(number(a[0])) },
		"segv":     func([]string) { kill(syscall.SIGSEGV) },
		"oom":      func([]string) { eat() },
		"who":      who,
		"env":      func([]string) { fmt.Println(strings.Join(os.Environ(), "\n")) },
		"args":     func(a []string) { fmt.Printf("%q\n", a) },
		"cat":      func(a []string) { cat(a) },
		"put":      func(a []string) { must(os.WriteFile(a[0], []byte(a[1]), 0o644)) },
		"bytes":    func(a []string) { binary(number(a[0])) },
		"order":    func([]string) { order() },
		"reopen":   func([]string) { reopen() },
		"stop":     func(a []string) { stop(a, func() { fmt.Println("ready") }) },
		"orphans":  func([]string) { orphans() },
		"linger":   func([]string) { linger() },
		"ls":       ls,
		"limits":   func([]string) { limits() },
		"tty":      func([]string) { terminal() },
		"net":      func([]string) { network() },
		"mkdir":    func(a []string) { must(os.MkdirAll(a[0], 0o755)); must(os.Rename(a[0], a[1])) },
		"userns":   func([]string) { userns() },
		"time":     func([]string) { now() },
		"timex":    func([]string) { timex() },
		"random":   func(a []string) { random(a) },
		"storm":    func(a []string) { storm(number(a[0])) },
		"victim":   func([]string) { victim() },
		"term":     func([]string) { stop(nil, func() { must(syscall.Kill(1, syscall.SIGTERM)) }) },
		"poweroff": func([]string) { stop(nil, powerOff) },
		"addr":     func([]string) { addresses() },
		"count":    func(a []string) { count(a[0]) },
		"cgroup":   func([]string) { cgroup() },
		"lack":     func([]string) { lack() },
		"room":     func(a []string) { room(uint64(number(a[0]))) },
	}
	act, ok := acts[os.Args[1]]
	if !ok {
		fmt.Println("unknown act", os.Args[1])
		os.Exit(99)
	}
	act(os.Args[2:])
}

func must(err error) {
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(98)
	}
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	must(err)
	return n
}

// now tells the time, and how long ago the boot was then, or a little less:
// the CPU may be taken away between the two.
func now() {
	up := boottime()
	fmt.Println(time.Now().UnixMicro(), up)
}

// boottime is CLOCK_BOOTTIME in microseconds.
func boottime() int64 {
	var ts syscall.Timespec
	const clockBoottime = 7
	_, _, _ = syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockBoottime, uintptr(unsafe.Pointer(&ts)), 0)
	return ts.Nano() / 1000
}

// timex is the clock, the state of what keeps it, and what it still lacks.
func timex() {
	var t unix.Timex
	_, err := unix.Adjtimex(&t)
	must(err)
	fmt.Println(time.Now().UnixMicro(), t.Status, t.Offset)
}

func kill(sig syscall.Signal) {
	signal.Reset(sig)
	// The Go runtime handles SIGSEGV; the kernel's own action is wanted.
	var action struct {
		handler, flags, restorer uintptr
		mask                     uint64
	}
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0)
	must(syscall.Kill(os.Getpid(), sig))
	select {}
}

// room waits until the root's file system has so many GiB.
func room(gib uint64) {
	for {
		var fs syscall.Statfs_t
		must(syscall.Statfs("/", &fs))
		if fs.Blocks*uint64(fs.Bsize)>>30 >= gib {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func eat() {
	var all [][]byte
	for {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		all = append(all, b)
	}
}

func who([]string) {
	wd, err := os.Getwd()
	must(err)
	groups, err := os.Getgroups()
	must(err)
	host, err := os.Hostname()
	must(err)
	fmt.Printf("uid=%d gid=%d groups=%v cwd=%s host=%s ppid=%d pgrp=%v\n", os.Getuid(), os.Getgid(), groups, wd, host, os.Getppid(), syscall.Getpgrp() == os.Getpid())
}

func cat(files []string) {
	if len(files) == 0 {
		_, err := io.Copy(os.Stdout, os.Stdin)
		must(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		must(err)
		os.Stdout.Write(b)
	}
}

// binary writes n bytes of a fixed sequence that contains every byte.
func binary(n int) {
	w := bufio.NewWriterSize(os.Stdout, 1<<16)
	x := uint32(1)
	for range n {
		x = x*1664525 + 1013904223
		w.WriteByte(byte(x >> 24))
	}
	must(w.Flush())
}

func order() {
	for i := range 1000 {
		fmt.Fprintf(os.Stdout, "out %d\n", i)
		fmt.Fprintf(os.Stderr, "err %d\n", i)
	}
}

func reopen() {
	for _, flags := range []int{os.O_WRONLY, os.O_WRONLY | os.O_APPEND, os.O_WRONLY | os.O_CREATE | os.O_TRUNC} {
		for _, name := range []string{"/dev/stdout", "/dev/stderr"} {
			f, err := os.OpenFile(name, flags, 0o644)
			must(err)
			fmt.Fprintln(f, name)
		}
	}
}

// powerOff runs what the kernel runs where its host wants the end.
func powerOff() {
	line, err := os.ReadFile("/proc/sys/kernel/poweroff_cmd")
	must(err)
	words := strings.Fields(string(line))
	must(exec.Command(words[0], words[1:]...).Run())
}

// stop calls ready, waits for a signal, tells its name, and exits with 7,
// unless an argument says that it is to be ignored.
func stop(args []string, ready func()) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals)
	ready()
	for s := range signals {
		if s == syscall.SIGURG || s == syscall.SIGCHLD { // the runtime's own
			continue
		}
		fmt.Println("got", s)
		if len(args) == 0 {
			os.Exit(7)
		}
	}
}

// orphans leaves processes behind and looks whether they are reaped.
func orphans() {
	for range 20 {
		cmd := exec.Command("/bin/app", "linger")
		must(cmd.Run())
	}
	awaitNoZombies()
}

// storm leaves n processes behind at once.
func storm(n int) {
	all := make([]*exec.Cmd, n)
	for i := range all {
		all[i] = exec.Command("/bin/app", "linger")
		must(all[i].Start())
	}
	for _, cmd := range all {
		must(cmd.Wait())
	}
	awaitNoZombies()
}

func awaitNoZombies() {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if zombies() == 0 {
			fmt.Println("no zombies")
			return
		}
	}
	fmt.Println("zombies:", zombies())
}

// linger starts a process that outlives it, and ends.
func linger() {
	cmd := exec.Command("/bin/app", "exit", "3")
	must(cmd.Start())
}

func zombies() int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	n := 0
	for _, f := range stats {
		b, _ := os.ReadFile(f)
		if rest := string(b); strings.Contains(rest, ") Z ") {
			n++
		}
	}
	return n
}

func ls(paths []string) {
	for _, p := range paths {
		info, err := os.Lstat(p)
		if err != nil {
			fmt.Println(p, "missing")
			continue
		}
		st := info.Sys().(*syscall.Stat_t)
		fmt.Println(p, info.Mode(), st.Uid, st.Gid)
	}
}

func limits() {
	for name, what := range map[string]int{"nofile": 7, "core": 4, "memlock": 8, "nproc": 6} {
		var l [2]uint64
		_, _, errno := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, 0, uintptr(what), 0, uintptr(unsafe.Pointer(&l)), 0, 0)
		if errno != 0 {
			must(errno)
		}
		fmt.Println(name, int64(l[0]), int64(l[1]))
	}
	oom, err := os.ReadFile("/proc/self/oom_score_adj")
	must(err)
	fmt.Print("oom ", string(oom))
	status, err := os.ReadFile("/proc/self/status")
	must(err)
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "Sig") || strings.HasPrefix(line, "Umask") {
			fmt.Print(strings.ReplaceAll(line, "\t", " "))
		}
	}
	fds, err := os.ReadDir("/proc/self/fd")
	must(err)
	for _, fd := range fds {
		target, err := os.Readlink("/proc/self/fd/" + fd.Name())
		if err == nil && number(fd.Name()) > 2 && !strings.Contains(target, "anon_inode") && !strings.HasPrefix(target, "/proc/") {
			fmt.Println("stray fd", fd.Name(), target)
		}
	}
}

func terminal() {
	var size [4]uint16
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, 0, syscall.TIOCGWINSZ, uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		must(errno)
	}
	fmt.Println("size", size[0], size[1])
	winch := make(chan os.Signal, 1)
	signal.Notify(winch, syscall.SIGWINCH)
	_, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	must(err)
	in := bufio.NewReader(os.Stdin)
	line, err := in.ReadString('\n')
	must(err)
	fmt.Printf("line %q\n", line)
	<-winch
	_, _, _ = syscall.Syscall(syscall.SYS_IOCTL, 0, syscall.TIOCGWINSZ, uintptr(unsafe.Pointer(&size)))
	fmt.Println("size", size[0], size[1])
	if _, err := in.ReadString('\n'); err == io.EOF {
		fmt.Println("end of input")
	}
}

func network() {
	addresses()
	// QEMU's user-mode network answers TCP to its own DNS address with a
	// refusal or a connection, never with silence.
	c, err := net.DialTimeout("udp", "10.0.2.3:53", time.Second)
	must(err)
	fmt.Println("route", c.LocalAddr().(*net.UDPAddr).IP)
}

func addresses() {
	ifaces, err := net.Interfaces()
	must(err)
	for _, i := range ifaces {
		addrs, err := i.Addrs()
		must(err)
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil {
				fmt.Println(i.Name, i.Flags&net.FlagUp != 0, a)
			}
		}
	}
}

func userns() {
	cmd := exec.Command("/bin/app", "hello")
	cmd.Stdout = os.Stdout
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER}
	must(cmd.Run())
}

// random reads more than a pool holds, without waiting unless it may.
func random(mayWait []string) {
	flags := unix.GRND_NONBLOCK
	if len(mayWait) > 0 {
		flags = 0
	}
	n, err := unix.Getrandom(make([]byte, 1<<10), flags)
	must(err)
	fmt.Println("random", n)
}

// victim has a child eat the machine's memory, and dies by the same signal
// that this child does.
func victim() {
	must(os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0))
	cmd := exec.Command("/bin/app", "oom")
	must(cmd.Start())
	must(os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", cmd.Process.Pid), []byte("1000"), 0))
	fmt.Println("child:", cmd.Wait())
	kill(syscall.SIGKILL)
}

// cgroup mounts control groups where the JVM, Node and Go look for limits.
func cgroup() {
	fmt.Println("before", entries("/sys/fs/cgroup"))
	must(syscall.Mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, ""))
	b, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers")
	must(err)
	fmt.Print("controllers ", string(b))
}

func entries(dir string) int {
	list, err := os.ReadDir(dir)
	must(err)
	return len(list)
}

// count tells how many times it has been run with this file.
func count(file string) {
	b, _ := os.ReadFile(file) // not there the first time
	b = append(b, '.')
	must(os.WriteFile(file, b, 0o644))
	fmt.Println("boot", len(b))
}
