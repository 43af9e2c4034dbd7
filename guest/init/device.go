//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// deviceWait bounds the wait for a device that the config names.
const deviceWait = 10 * time.Second

// waitDevice returns the path of the block device that name means, in the
// forms that api.Root describes.
func waitDevice(name string) (string, error) {
	var path string
	if !until(deviceWait, func() bool { path = findDevice("/sys", name); return path != "" }) {
		return "", fmt.Errorf("the machine has no disk %q", name)
	}
	return path, nil
}

// waitAttached is waitDevice for a disk that may be attached to the machine while
// it is waited for. The kernel has no driver that would be told of that, for the
// sake of all the starts where nothing is: so it looks through the PCI buses now
// and then.
func waitAttached(name string, limit time.Duration) (string, error) {
	const pause = time.Second
	var path string
	for deadline := time.Now().Add(limit); ; {
		if until(pause, func() bool { path = findDevice("/sys", name); return path != "" }) {
			return path, nil
		}
		if time.Now().After(deadline) {
			return "", fmt.Errorf("the machine has no disk %q, and got none within %v", name, limit)
		}
		if err := setAttribute("/sys/bus/pci/rescan", "1"); err != nil {
			return "", fmt.Errorf("looking for the disk %q: %w", name, err)
		}
	}
}

// findDevice looks name up in the sysfs at sys; "" means not there (yet).
func findDevice(sys, name string) string {
	key, value, ok := strings.Cut(name, ":")
	if strings.HasPrefix(name, "/") || !ok {
		if _, err := os.Stat(name); err != nil {
			return ""
		}
		return name
	}
	class := filepath.Join(sys, "class/block")
	entries, _ := os.ReadDir(class) // none yet: the caller waits
	for _, e := range entries {
		dir := filepath.Join(class, e.Name())
		switch key {
		case "serial":
			if value == "" || !slices.Contains(diskNames(dir), value) {
				continue
			}
		case "partlabel":
			if !hasLine(attribute(dir, "uevent"), "PARTNAME="+value) {
				continue
			}
		default:
			return ""
		}
		return filepath.Join("/dev", e.Name())
	}
	return ""
}

// diskNames are what a disk, at dir in sysfs, is called: its serial number, an
// attribute of virtio's disks and NVMe's, and the names that its vendor gives.
func diskNames(dir string) []string {
	names := []string{attribute(dir, "serial"), attribute(dir, "device/serial")}
	names = append(names, scsiNames(filepath.Join(dir, "device"))...)
	if strings.HasPrefix(attribute(dir, "device/model"), "nvme_card") {
		names = append(names, googleName(dir))
	}
	return names
}

// scsiNames reads a SCSI disk's vital product data (SPC-4, 7.8): the serial
// number, and the identifiers that the vendor assigns. Compute Engine's
// persistent disks have their device names there.
func scsiNames(dir string) (names []string) {
	const head = 4 // of a page, and of each identifier
	if page, err := os.ReadFile(filepath.Join(dir, "vpd_pg80")); err == nil && len(page) > head {
		names = append(names, text(page[head:]))
	}
	page, err := os.ReadFile(filepath.Join(dir, "vpd_pg83"))
	if err != nil || len(page) < head {
		return names
	}
	for rest := page[head:]; len(rest) > head && len(rest) >= head+int(rest[3]); rest = rest[head+int(rest[3]):] {
		const ofDisk, vendorSpecific, byVendor = 0, 0, 1
		id := rest[head : head+int(rest[3])]
		switch association, kind := rest[1]>>4&3, rest[1]&15; {
		case association != ofDisk:
		case kind == vendorSpecific:
			names = append(names, text(id))
		case kind == byVendor:
			if name, ok := strings.CutPrefix(string(id), "Google  PersistentDisk  "); ok {
				names = append(names, text([]byte(name)))
			}
		}
	}
	return names
}

// text is a field of fixed length without what fills it.
func text(field []byte) string { return strings.Trim(string(field), " \x00") }

// adminCommand is linux/nvme_ioctl.h's struct nvme_passthru_cmd.
type adminCommand struct {
	opcode, flags       uint8
	_                   uint16
	namespace           uint32
	_                   [2]uint32
	metadata            uint64
	data                *[4096]byte
	metadataLen, length uint32
	command             [6]uint32
	timeout, result     uint32
}

// googleName asks Compute Engine's NVMe disk at dir, in sysfs, for its device
// name; "" if it has none.
func googleName(dir string) string {
	const (
		adminIoctl = 0xc0484e41 // _IOWR('N', 0x41, struct nvme_passthru_cmd)
		identify   = 0x06       // NVM Express 1.4, 5.15; command 0: a namespace
	)
	namespace, err := strconv.ParseUint(attribute(dir, "nsid"), 10, 32)
	if err != nil {
		return ""
	}
	fd, err := unix.Open(filepath.Join("/dev", filepath.Base(dir)), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	var answer [4096]byte
	c := adminCommand{opcode: identify, namespace: uint32(namespace), data: &answer, length: uint32(len(answer))}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), adminIoctl, uintptr(unsafe.Pointer(&c)))
	if errno != 0 {
		return ""
	}
	return nameInNamespace(answer[:])
}

// nameInNamespace reads the device name that Compute Engine writes, in a JSON
// document, where NVMe leaves room for vendors.
func nameInNamespace(identity []byte) string {
	const vendors = 384
	var said struct {
		Name string `json:"device_name"`
	}
	doc, _, _ := bytes.Cut(identity[vendors:], []byte{0})
	if json.Unmarshal(doc, &said) != nil {
		return ""
	}
	return said.Name
}

func hasLine(text, line string) bool {
	for l := range strings.Lines(text) {
		if strings.TrimRight(l, "\n") == line {
			return true
		}
	}
	return false
}
