package vmware

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"capstan/internal/hypervisor"
)

// newUUID makes a random UUID: RFC 9562, section 5.4.
func newUUID() (b [16]byte) {
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return b
}

// settings are a machine's .vmx file. VMware publishes no list of its keys;
// testdata/keys.txt says where each is known from.
func settings(spec *hypervisor.Spec, uuid [16]byte, lines []string) ([]byte, error) {
	all := [][2]string{
		{".encoding", "UTF-8"},
		{"config.version", "8"},
		{"virtualHW.version", "16"}, // Workstation 15.5, Fusion 11.5
		{"virtualHW.productCompatibility", "hosted"},
		{"displayName", fmt.Sprintf("capstan-%.40s-%x", spec.Name, uuid[:4])},
		{"guestOS", "other4xlinux-64"},
		{"uuid.bios", vmwareUUID(uuid)},
		{"uuid.action", "keep"},
		{"msg.autoAnswer", "TRUE"}, // nobody sees a question
		{"firmware", "efi"},
		{"uefi.secureBoot.enabled", "FALSE"},
		{"nvram", "machine.nvram"},
		{"memsize", strconv.FormatInt((spec.Memory+4<<20-1)>>22<<2, 10)}, // MiB, of whole fours
		{"numvcpus", strconv.Itoa(max(spec.CPUs, 1))},
		{"tools.syncTime", "FALSE"},
		{"floppy0.present", "FALSE"},
		{"sound.present", "FALSE"},
		{"usb.present", "FALSE"},
		{"pciBridge0.present", "TRUE"},
	}
	for _, n := range []string{"4", "5", "6", "7"} { // for what is on PCI Express
		all = append(all, [2]string{"pciBridge" + n + ".present", "TRUE"}, [2]string{"pciBridge" + n + ".virtualDev", "pcieRootPort"},
			[2]string{"pciBridge" + n + ".functions", "8"})
	}
	all = append(all, [2]string{"sata0.present", "TRUE"}, [2]string{"sata0:0.present", "TRUE"}, [2]string{"sata0:0.fileName", spec.Bootable})
	if !spec.Guest.Network.None {
		all = append(all, [2]string{"ethernet0.present", "TRUE"}, [2]string{"ethernet0.virtualDev", "vmxnet3"},
			[2]string{"ethernet0.connectionType", "nat"}, [2]string{"ethernet0.addressType", "generated"})
	}
	for n, line := range lines {
		port := "serial" + strconv.Itoa(n) + "."
		all = append(all, [2]string{port + "present", "TRUE"}, [2]string{port + "fileType", "pipe"}, [2]string{port + "fileName", line},
			[2]string{port + "pipe.endPoint", "client"}, [2]string{port + "startConnected", "TRUE"},
			[2]string{port + "tryNoRxLoss", "TRUE"}, // the other end is a program
			[2]string{port + "yieldOnMsrRead", "TRUE"})
	}
	return write(all)
}

// write writes the lines of a .vmx file.
func write(all [][2]string) ([]byte, error) {
	var b bytes.Buffer
	for _, kv := range all {
		value, err := quote(kv[1])
		if err != nil {
			return nil, fmt.Errorf("writing %s of a .vmx file: %w", kv[0], err)
		}
		fmt.Fprintf(&b, "%s = %s\n", kv[0], value)
	}
	return b.Bytes(), nil
}

// quote is a value in quotation marks, in which "|" and two digits stand for a
// byte that cannot stand for itself.
func quote(value string) (string, error) {
	if !utf8.ValidString(value) {
		return "", fmt.Errorf("%q is not UTF-8", value)
	}
	if strings.ContainsFunc(value, unicode.IsControl) {
		return "", errors.New("a line's end, or another control character, cannot be in it")
	}
	return `"` + strings.NewReplacer(`|`, `|7C`, `"`, `|22`).Replace(value) + `"`, nil
}

// vmwareUUID is a UUID as .vmx files have it: "56 4d … ee-ff …".
func vmwareUUID(b [16]byte) string { return fmt.Sprintf("% x-% x", b[:8], b[8:]) }
