// Probe is the guest of the end-to-end tests: its first argument says what it
// does, and how it ends.
package main

import (
	"crypto/rand"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Println("hello")
		return
	}
	args := os.Args[2:]
	switch os.Args[1] {
	case "exit": // exit STATUS
		status, err := strconv.Atoi(args[0])
		check(err)
		fmt.Println("exit", status)
		os.Exit(status)
	case "segv":
		segv()
	case "oom":
		oom()
	case "panic": // of the kernel
		check(os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0))
	case "say": // say WORD...
		fmt.Println(strings.Join(args, " "))
	case "env":
		fmt.Println(strings.Join(os.Environ(), "\n"))
	case "where":
		dir, err := os.Getwd()
		check(err)
		host, err := os.Hostname()
		check(err)
		fmt.Printf("dir %s uid %d gid %d host %s\n", dir, os.Getuid(), os.Getgid(), host)
	case "read": // read FILE
		text, err := os.ReadFile(args[0])
		check(err)
		os.Stdout.Write(text)
	case "write": // write FILE TEXT
		check(os.WriteFile(args[0], []byte(args[1]), 0o644))
		fmt.Println("written")
	case "fill": // fill FILE, until there is no room or 64 MiB
		f, err := os.Create(args[0])
		check(err)
		for range 64 {
			noise := make([]byte, 1<<20)
			rand.Read(noise)
			_, err := f.Write(noise)
			check(err)
			check(f.Sync())
		}
	case "--listen": // as run's help has it
		fmt.Println("listening on", strings.Join(args, " "))
	case "count": // count LINES
		count(args[0])
	case "flood": // flood LINES, and stay
		count(args[0])
		stay(nil)
	case "boots": // boots FILE: count them in FILE, and say what its file system has free
		boots(args[0])
	case "stay":
		stay(args)
	default:
		check(fmt.Errorf("no such mode: %q", os.Args[1]))
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
}

func count(to string) {
	lines, err := strconv.Atoi(to)
	check(err)
	for n := range lines {
		fmt.Println("line", n+1)
	}
}

func boots(path string) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	check(err)
	_, err = f.WriteString("x")
	check(err)
	info, err := f.Stat()
	check(err)
	var fs syscall.Statfs_t
	check(syscall.Statfs(path, &fs))
	fmt.Printf("boot %d of %s, %d GiB free\n", info.Size(), os.Getenv("FROM_IMAGE"), fs.Bavail*uint64(fs.Bsize)>>30)
}

// segv makes the kernel end this process with SIGSEGV, for a real fault: the
// runtime's own handler is out of the way first.
func segv() {
	type sigaction struct {
		handler, flags, restorer uintptr
		mask                     uint64
	}
	var byDefault sigaction
	_, _, errno := syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(syscall.SIGSEGV),
		uintptr(unsafe.Pointer(&byDefault)), 0, 8, 0, 0)
	if errno != 0 {
		check(errno)
	}
	address := uintptr(8)
	*(*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&address))) = 1
}

// oom takes memory until there is none.
func oom() {
	var all [][]byte
	for {
		page := make([]byte, 4<<20)
		for n := 0; n < len(page); n += 4096 {
			page[n] = 1
		}
		all = append(all, page)
		if len(all) > 1<<20 {
			return // never: it keeps them in use
		}
	}
}

// stay appends a line to the file, where one is named, and waits for SIGTERM.
func stay(args []string) {
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	if len(args) > 0 {
		f, err := os.OpenFile(args[0], os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o644)
		check(err)
		_, err = fmt.Fprintln(f, "started")
		check(err)
		check(f.Close())
		text, err := os.ReadFile(args[0])
		check(err)
		fmt.Println("times started:", strings.Count(string(text), "\n"))
	}
	fmt.Println("ready")
	select {
	case <-terminated:
		fmt.Println("bye")
	case <-time.After(time.Hour):
	}
}
