//go:build linux

package main

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// none is an argument that no call can do anything with: no file, no address,
// no process.
const none = ^uintptr(0)

// calls are those that the runtimes and servers of the time make, beyond what
// every program does: with arguments that have no effect, so that what comes
// back is an error of the call or "no such call".
var calls = []struct {
	name   string
	number uintptr
	args   [6]uintptr
}{
	// Waiting and events: nginx, Redis, Node, Go, Tokio, Netty.
	{"epoll_create1", unix.SYS_EPOLL_CREATE1, [6]uintptr{none}},
	{"epoll_pwait", unix.SYS_EPOLL_PWAIT, [6]uintptr{none, 0, 1}},
	{"epoll_pwait2", unix.SYS_EPOLL_PWAIT2, [6]uintptr{none, 0, 1}},
	{"eventfd2", unix.SYS_EVENTFD2, [6]uintptr{0, none}},
	{"signalfd4", unix.SYS_SIGNALFD4, [6]uintptr{none, 0, 8}},
	{"timerfd_create", unix.SYS_TIMERFD_CREATE, [6]uintptr{none}},
	{"timer_create", unix.SYS_TIMER_CREATE, [6]uintptr{none}},
	{"inotify_init1", unix.SYS_INOTIFY_INIT1, [6]uintptr{none}},
	{"fanotify_init", unix.SYS_FANOTIFY_INIT, [6]uintptr{none}},
	{"ppoll", unix.SYS_PPOLL, [6]uintptr{none, 1}},
	{"pselect6", unix.SYS_PSELECT6, [6]uintptr{none}},
	// Locks and threads: glibc, musl, the JVM, tcmalloc.
	{"futex", unix.SYS_FUTEX, [6]uintptr{1, 1}},
	{"futex_waitv", unix.SYS_FUTEX_WAITV, [6]uintptr{0, 0, none}},
	{"get_robust_list", unix.SYS_GET_ROBUST_LIST, [6]uintptr{0, none, none}},
	{"membarrier", unix.SYS_MEMBARRIER, [6]uintptr{0}},
	{"rseq", unix.SYS_RSEQ, [6]uintptr{0, 0, none}},
	{"clone3", unix.SYS_CLONE3, [6]uintptr{0, 0}},
	{"sched_setaffinity", unix.SYS_SCHED_SETAFFINITY, [6]uintptr{0, 8, none}},
	{"sched_setattr", unix.SYS_SCHED_SETATTR, [6]uintptr{0, 0, none}},
	{"ioprio_set", unix.SYS_IOPRIO_SET, [6]uintptr{none}},
	{"getcpu", unix.SYS_GETCPU, [6]uintptr{none, none}},
	{"kcmp", unix.SYS_KCMP, [6]uintptr{none, none}},
	// Processes: Python, Go, systemd-like supervisors.
	{"pidfd_open", unix.SYS_PIDFD_OPEN, [6]uintptr{none}},
	{"pidfd_send_signal", unix.SYS_PIDFD_SEND_SIGNAL, [6]uintptr{none}},
	{"pidfd_getfd", unix.SYS_PIDFD_GETFD, [6]uintptr{none}},
	{"waitid", unix.SYS_WAITID, [6]uintptr{none}},
	{"close_range", unix.SYS_CLOSE_RANGE, [6]uintptr{1, 0}},
	{"execveat", unix.SYS_EXECVEAT, [6]uintptr{none, none}},
	{"process_vm_readv", unix.SYS_PROCESS_VM_READV, [6]uintptr{none, 0, 0, 0, 0, none}},
	{"ptrace", unix.SYS_PTRACE, [6]uintptr{none, none}},
	{"prlimit64", unix.SYS_PRLIMIT64, [6]uintptr{0, none}},
	{"seccomp", unix.SYS_SECCOMP, [6]uintptr{none}},
	{"unshare", unix.SYS_UNSHARE, [6]uintptr{1}},
	{"setns", unix.SYS_SETNS, [6]uintptr{none}},
	{"chroot", unix.SYS_CHROOT, [6]uintptr{none}},
	{"capget", unix.SYS_CAPGET, [6]uintptr{none}},
	// Memory: databases, JIT compilers, allocators.
	{"memfd_create", unix.SYS_MEMFD_CREATE, [6]uintptr{none}},
	{"madvise", unix.SYS_MADVISE, [6]uintptr{1}},
	{"process_madvise", unix.SYS_PROCESS_MADVISE, [6]uintptr{none}},
	{"mlock2", unix.SYS_MLOCK2, [6]uintptr{0, 0, none}},
	{"mlockall", unix.SYS_MLOCKALL, [6]uintptr{none}},
	{"mremap", unix.SYS_MREMAP, [6]uintptr{1}},
	{"mincore", unix.SYS_MINCORE, [6]uintptr{1}},
	{"remap_file_pages", unix.SYS_REMAP_FILE_PAGES, [6]uintptr{1}},
	{"userfaultfd", unix.SYS_USERFAULTFD, [6]uintptr{none}},
	{"shmget", unix.SYS_SHMGET, [6]uintptr{0, 0, 0}},
	{"semget", unix.SYS_SEMGET, [6]uintptr{0, none}},
	{"semtimedop", unix.SYS_SEMTIMEDOP, [6]uintptr{none}},
	{"msgget", unix.SYS_MSGGET, [6]uintptr{1}},
	{"mq_open", unix.SYS_MQ_OPEN, [6]uintptr{none}},
	// Files: databases, web servers, package tools.
	{"io_uring_setup", unix.SYS_IO_URING_SETUP, [6]uintptr{0, none}},
	{"io_uring_enter", unix.SYS_IO_URING_ENTER, [6]uintptr{none}},
	{"io_uring_register", unix.SYS_IO_URING_REGISTER, [6]uintptr{none}},
	{"io_setup", unix.SYS_IO_SETUP, [6]uintptr{0}},
	{"io_submit", unix.SYS_IO_SUBMIT, [6]uintptr{0}},
	{"io_pgetevents", unix.SYS_IO_PGETEVENTS, [6]uintptr{0}},
	{"preadv2", unix.SYS_PREADV2, [6]uintptr{none}},
	{"pwritev2", unix.SYS_PWRITEV2, [6]uintptr{none}},
	{"copy_file_range", unix.SYS_COPY_FILE_RANGE, [6]uintptr{none, 0, none}},
	{"sendfile", unix.SYS_SENDFILE, [6]uintptr{none, none}},
	{"splice", unix.SYS_SPLICE, [6]uintptr{none, 0, none, 0, 1}},
	{"tee", unix.SYS_TEE, [6]uintptr{none, none, 1}},
	{"vmsplice", unix.SYS_VMSPLICE, [6]uintptr{none}},
	{"fallocate", unix.SYS_FALLOCATE, [6]uintptr{none}},
	{"sync_file_range", unix.SYS_SYNC_FILE_RANGE, [6]uintptr{none}},
	{"fadvise64", unix.SYS_FADVISE64, [6]uintptr{none}},
	{"readahead", unix.SYS_READAHEAD, [6]uintptr{none}},
	{"statx", unix.SYS_STATX, [6]uintptr{none, none}},
	{"openat2", unix.SYS_OPENAT2, [6]uintptr{none}},
	{"faccessat2", unix.SYS_FACCESSAT2, [6]uintptr{none, none, none}},
	{"fchmodat2", unix.SYS_FCHMODAT2, [6]uintptr{none, none, 0, none}},
	{"renameat2", unix.SYS_RENAMEAT2, [6]uintptr{none, none, none, none}},
	{"name_to_handle_at", unix.SYS_NAME_TO_HANDLE_AT, [6]uintptr{none, none}},
	{"open_by_handle_at", unix.SYS_OPEN_BY_HANDLE_AT, [6]uintptr{none, none}},
	{"flock", unix.SYS_FLOCK, [6]uintptr{none}},
	{"fsetxattr", unix.SYS_FSETXATTR, [6]uintptr{none, none}},
	{"utimensat", unix.SYS_UTIMENSAT, [6]uintptr{none, none}},
	{"cachestat", unix.SYS_CACHESTAT, [6]uintptr{none}},
	{"swapon", unix.SYS_SWAPON, [6]uintptr{none}},
	{"fsopen", unix.SYS_FSOPEN, [6]uintptr{none}},
	{"open_tree", unix.SYS_OPEN_TREE, [6]uintptr{none, none}},
	{"move_mount", unix.SYS_MOVE_MOUNT, [6]uintptr{none, none, none, none}},
	{"mount_setattr", unix.SYS_MOUNT_SETATTR, [6]uintptr{none, none}},
	{"statmount", unix.SYS_STATMOUNT, [6]uintptr{none}},
	// Network and the rest.
	{"accept4", unix.SYS_ACCEPT4, [6]uintptr{none, 0, 0, none}},
	{"recvmmsg", unix.SYS_RECVMMSG, [6]uintptr{none}},
	{"sendmmsg", unix.SYS_SENDMMSG, [6]uintptr{none}},
	{"getrandom", unix.SYS_GETRANDOM, [6]uintptr{none, 1, none}},
	{"adjtimex", unix.SYS_ADJTIMEX, [6]uintptr{none}},
	{"clock_adjtime", unix.SYS_CLOCK_ADJTIME, [6]uintptr{none}},
	{"add_key", unix.SYS_ADD_KEY, [6]uintptr{none}},
	{"keyctl", unix.SYS_KEYCTL, [6]uintptr{none}},
	{"perf_event_open", unix.SYS_PERF_EVENT_OPEN, [6]uintptr{none}},
	{"syslog", unix.SYS_SYSLOG, [6]uintptr{none}},
	// Known to be absent: the test holds the list.
	{"mbind", unix.SYS_MBIND, [6]uintptr{1}},
	{"get_mempolicy", unix.SYS_GET_MEMPOLICY, [6]uintptr{0, 0, 0, 0, none}},
	{"set_mempolicy", unix.SYS_SET_MEMPOLICY, [6]uintptr{none}},
	{"move_pages", unix.SYS_MOVE_PAGES, [6]uintptr{none}},
	{"pkey_alloc", unix.SYS_PKEY_ALLOC, [6]uintptr{none}},
	{"memfd_secret", unix.SYS_MEMFD_SECRET, [6]uintptr{none}},
	{"landlock_create_ruleset", unix.SYS_LANDLOCK_CREATE_RULESET, [6]uintptr{0, 0, 1}},
	{"bpf", unix.SYS_BPF, [6]uintptr{none}},
	{"quotactl", unix.SYS_QUOTACTL, [6]uintptr{none}},
	{"modify_ldt", unix.SYS_MODIFY_LDT, [6]uintptr{none}},
	{"kexec_load", unix.SYS_KEXEC_LOAD, [6]uintptr{0, none}},
	{"init_module", unix.SYS_INIT_MODULE, [6]uintptr{none}},
}

// sockets are the kinds that programs open, as pairs of family and type with
// a protocol.
var sockets = []struct {
	name                   string
	family, kind, protocol int
}{
	{"tcp", unix.AF_INET, unix.SOCK_STREAM, 0},
	{"tcp6", unix.AF_INET6, unix.SOCK_STREAM, 0},
	{"udp", unix.AF_INET, unix.SOCK_DGRAM, 0},
	{"udp6", unix.AF_INET6, unix.SOCK_DGRAM, 0},
	{"ping", unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP},
	{"ping6", unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_ICMPV6},
	{"raw", unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP},
	{"unix", unix.AF_UNIX, unix.SOCK_SEQPACKET, 0},
	{"packet", unix.AF_PACKET, unix.SOCK_RAW, 0},
	{"vsock", unix.AF_VSOCK, unix.SOCK_STREAM, 0},
	{"route", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE},
	{"diag", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_SOCK_DIAG},
	{"uevent", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_KOBJECT_UEVENT},
	{"generic", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_GENERIC},
	// Known to be absent.
	{"sctp", unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP},
	{"mptcp", unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP},
	{"alg", unix.AF_ALG, unix.SOCK_SEQPACKET, 0},
	{"netfilter", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER},
}

// lack prints what of all that the kernel does not know.
func lack() {
	for _, c := range calls {
		_, _, errno := syscall.Syscall6(c.number, c.args[0], c.args[1], c.args[2], c.args[3], c.args[4], c.args[5])
		if errno == syscall.ENOSYS {
			fmt.Println("call", c.name)
		}
	}
	for _, s := range sockets {
		fd, err := unix.Socket(s.family, s.kind, s.protocol)
		if err != nil {
			fmt.Println("socket", s.name)
			continue
		}
		unix.Close(fd)
	}
	fmt.Println("end")
}
