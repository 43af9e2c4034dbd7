// Package qemu runs instances on QEMU: it finds the emulator and the best
// accelerator that really works, turns a hypervisor.Spec into a command line,
// owns the process and speaks QMP with it.
//
// The kernel is booted directly, on the machine "microvm" where the devices
// fit its eight virtio-mmio slots and on "q35" otherwise. The network is
// QEMU's user-mode one (slirp). QEMU is reached through inherited sockets
// that have no name, so that nobody else can connect to them.
//
// QEMU dies with its parent on Linux (PR_SET_PDEATHSIG) and Windows (a job
// object). macOS has no such thing: there a QEMU whose parent was killed runs
// on until its guest ends.
package qemu
