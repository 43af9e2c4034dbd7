package qemu

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The ioctls of Linux's Documentation/virt/kvm/api.rst, and sizes of x86's
// asm/kvm.h.
const (
	kvmGetAPIVersion       = 0xae00
	kvmCreateVM            = 0xae01
	kvmGetVCPUMmapSize     = 0xae04
	kvmCreateVCPU          = 0xae41
	kvmSetUserMemoryRegion = 0x4020ae46
	kvmRun                 = 0xae80
	kvmSetRegs             = 0x4090ae82
	kvmGetSregs            = 0x8138ae83
	kvmSetSregs            = 0x4138ae84

	kvmRegsSize   = 0x90
	kvmSregsSize  = 0x138
	kvmExitHLT    = 5
	exitReasonAt  = 8       // in struct kvm_run
	kvmRegsRCX    = 2 * 8   // in struct kvm_regs: rax rbx rcx rdx …
	kvmRegsRIP    = 16 * 8  // then rip
	kvmRegsRFlags = 17 * 8  // and rflags
	probeLoops    = 2000    // about 2 µs on hardware
	probeTries    = 3       // the best counts: the host may be busy
	probeWorst    = 300_000 // ns for probeLoops; emulation needs 800,000
)

// timeKVM runs a short loop in a guest of its own and fails where that takes
// longer than hardware ever would: there are KVMs without hardware behind
// them, which answer every question like real ones.
func timeKVM(device *os.File) error {
	runtime.LockOSThread() // KVM wants a VCPU's ioctls from one thread
	defer runtime.UnlockOSThread()
	vcpu, err := newProbeVCPU(int(device.Fd()))
	if err != nil {
		return fmt.Errorf("KVM does not work: %w", err)
	}
	defer vcpu.close()
	best := time.Duration(1<<63 - 1)
	for range probeTries {
		took, err := vcpu.loop()
		if err != nil {
			return fmt.Errorf("KVM does not work: %w", err)
		}
		if best = min(best, took); best <= probeWorst {
			return nil
		}
	}
	return fmt.Errorf("KVM is there but emulates its guests (%v for %d instructions), which is slower still", best, 2*probeLoops)
}

// probeVCPU is a real-mode processor with one page of memory.
type probeVCPU struct {
	vm, fd      int
	memory, run []byte
}

func newProbeVCPU(kvm int) (v *probeVCPU, err error) {
	if version, err := ioctl(kvm, kvmGetAPIVersion, nil); err != nil || version != 12 {
		return nil, fmt.Errorf("its API version is %d, not 12", version)
	}
	v = &probeVCPU{vm: -1, fd: -1}
	defer func() {
		if err != nil {
			v.close()
		}
	}()
	if v.vm, err = ioctl(kvm, kvmCreateVM, nil); err != nil {
		return nil, fmt.Errorf("making a machine: %w", err)
	}
	if v.memory, err = unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("mapping memory: %w", err)
	}
	// loop: dec ecx; jnz loop; hlt
	copy(v.memory, []byte{0x66, 0x49, 0x75, 0xfc, 0xf4})
	region := struct {
		slot, flags          uint32
		guest, size, address uint64
	}{size: uint64(len(v.memory)), address: uint64(uintptr(unsafe.Pointer(&v.memory[0])))}
	if _, err = ioctl(v.vm, kvmSetUserMemoryRegion, unsafe.Pointer(&region)); err != nil {
		return nil, fmt.Errorf("giving it memory: %w", err)
	}
	if v.fd, err = ioctl(v.vm, kvmCreateVCPU, nil); err != nil {
		return nil, fmt.Errorf("making a processor: %w", err)
	}
	size, err := ioctl(kvm, kvmGetVCPUMmapSize, nil)
	if err != nil {
		return nil, fmt.Errorf("sizing the processor's state: %w", err)
	}
	if v.run, err = unix.Mmap(v.fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("mapping the processor's state: %w", err)
	}
	var sregs [kvmSregsSize]byte
	if _, err = ioctl(v.fd, kvmGetSregs, unsafe.Pointer(&sregs)); err != nil {
		return nil, fmt.Errorf("reading registers: %w", err)
	}
	clear(sregs[:8])    // cs.base
	clear(sregs[12:14]) // cs.selector
	if _, err = ioctl(v.fd, kvmSetSregs, unsafe.Pointer(&sregs)); err != nil {
		return nil, fmt.Errorf("setting registers: %w", err)
	}
	return v, nil
}

// loop runs the loop once.
func (v *probeVCPU) loop() (time.Duration, error) {
	var regs [kvmRegsSize]byte
	binary.LittleEndian.PutUint64(regs[kvmRegsRCX:], probeLoops)
	binary.LittleEndian.PutUint64(regs[kvmRegsRIP:], 0)
	binary.LittleEndian.PutUint64(regs[kvmRegsRFlags:], 2) // a bit that is always set
	if _, err := ioctl(v.fd, kvmSetRegs, unsafe.Pointer(&regs)); err != nil {
		return 0, fmt.Errorf("setting registers: %w", err)
	}
	start := time.Now()
	for {
		_, err := ioctl(v.fd, kvmRun, nil)
		took := time.Since(start)
		if errors.Is(err, unix.EINTR) && took < time.Second {
			continue // one of the Go runtime's own signals
		}
		if err != nil {
			return took, fmt.Errorf("running: %w", err)
		}
		if why := binary.LittleEndian.Uint32(v.run[exitReasonAt:]); why != kvmExitHLT {
			return took, fmt.Errorf("a guest ended for reason %d", why)
		}
		return took, nil
	}
}

func (v *probeVCPU) close() {
	if v.run != nil {
		unix.Munmap(v.run)
	}
	if v.fd >= 0 {
		unix.Close(v.fd)
	}
	if v.vm >= 0 {
		unix.Close(v.vm)
	}
	if v.memory != nil {
		unix.Munmap(v.memory)
	}
}

// ioctl passes a pointer, or zero.
func ioctl(fd int, request uintptr, arg unsafe.Pointer) (int, error) {
	result, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
	if errno != 0 {
		return -1, errno
	}
	return int(result), nil
}
