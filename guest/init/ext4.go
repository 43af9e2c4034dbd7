//go:build linux

package main

import (
	"fmt"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// growStep is how many blocks a file system grows at once: 64 GiB, of blocks
// as ours, are a second's work under TCG.
const growStep = 16 << 20

// growth is of the file systems that grow while the application runs.
type growth struct {
	stop chan struct{}
	all  sync.WaitGroup
}

// end ends it after the steps that are being done.
func (gr *growth) end() {
	close(gr.stop)
	gr.all.Wait()
}

// mountExt4 mounts an ext4 device and grows the file system to the device's
// size if that has become larger: by a step at once, and by others beside the
// application. The next boot does what this one does not come to.
func (g *guest) mountExt4(dev, target string, flags uintptr) error {
	if err := (mount{dev, target, "ext4", flags | unix.MS_NOATIME, ""}).do(); err != nil {
		return err
	}
	if flags&unix.MS_RDONLY != 0 {
		return nil
	}
	have, want, err := ext4Blocks(dev)
	if err != nil || have >= want {
		return err
	}
	dir, err := os.Open(target)
	if err != nil {
		return err
	}
	have = min(have+growStep, want)
	if err := resizeExt4(dir, have); err != nil || have == want {
		dir.Close()
		return err
	}
	g.growth.all.Add(1)
	go func() {
		defer g.growth.all.Done()
		defer dir.Close()
		for have < want {
			select {
			case <-g.growth.stop:
				return
			default:
			}
			have = min(have+growStep, want)
			if err := resizeExt4(dir, have); err != nil {
				g.log.warnf("%v", err)
				return
			}
		}
		g.log.debugf("grew the file system on %s", dev)
	}()
	return nil
}

// resizeExt4 grows the mounted file system that dir is of.
func resizeExt4(dir *os.File, blocks uint64) error {
	const resize = 0x40086610 // EXT4_IOC_RESIZE_FS: _IOW('f', 16, __u64)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), resize, uintptr(unsafe.Pointer(&blocks))); errno != 0 {
		return fmt.Errorf("growing the file system on %s to %d blocks: %w", dir.Name(), blocks, errno)
	}
	return nil
}

// ext4Blocks returns how many blocks the file system on dev has and how many
// there is room for.
func ext4Blocks(dev string) (have, want uint64, err error) {
	f, err := os.Open(dev)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	super := make([]byte, 1024)
	if _, err := f.ReadAt(super, 1024); err != nil {
		return 0, 0, fmt.Errorf("reading the superblock of %s: %w", dev, err)
	}
	size, err := f.Seek(0, 2)
	if err != nil {
		return 0, 0, err
	}
	return blockCounts(super, uint64(size))
}
