package qemu

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"capstan/internal/hypervisor"
)

// firmware is UEFI's code, which is read only, and the instance's variables.
type firmware struct{ code, vars string }

// varsFile holds an instance's UEFI variables, in its directory.
const varsFile = "uefi-vars.fd"

// uefiPlaces are where firmware lies: code, and fresh variables for it. A
// relative path is one of QEMU's own share/qemu.
var uefiPlaces = []firmware{
	{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},                 // Debian, Ubuntu
	{"/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"},                       // older ones
	{"/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"},             // Fedora
	{"/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"},         // Arch
	{"/usr/share/qemu/ovmf-x86_64-4m-code.bin", "/usr/share/qemu/ovmf-x86_64-4m-vars.bin"}, // openSUSE
	{"edk2-x86_64-code.fd", "edk2-i386-vars.fd"},                                           // QEMU's own
}

var uefiRemedies = map[string]string{
	"linux": "apt-get install ovmf (Debian, Ubuntu), dnf install edk2-ovmf (Fedora), pacman -S edk2-ovmf (Arch)",
}

// prepareUEFI finds the firmware and gives the instance variables of its own,
// where it has none yet.
func prepareUEFI(qemu, dir string) (firmware, error) {
	found, err := findUEFI(uefiPlaces, qemu)
	if err != nil {
		return found, err
	}
	own := filepath.Join(dir, varsFile)
	if _, err := os.Stat(own); errors.Is(err, fs.ErrNotExist) {
		if err := copyVars(own, found.vars); err != nil {
			return found, fmt.Errorf("making the instance's UEFI variables: %w", err)
		}
	}
	return firmware{found.code, own}, nil
}

func findUEFI(places []firmware, qemu string) (firmware, error) {
	share := filepath.Join(filepath.Dir(filepath.Dir(qemu)), "share", "qemu")
	if runtime.GOOS == "windows" {
		share = filepath.Join(filepath.Dir(qemu), "share")
	}
	for _, place := range places {
		if !filepath.IsAbs(place.code) {
			place = firmware{filepath.Join(share, place.code), filepath.Join(share, place.vars)}
		}
		if canOpen(place.code, os.O_RDONLY) == nil && canOpen(place.vars, os.O_RDONLY) == nil {
			return place, nil
		}
	}
	remedy, ok := uefiRemedies[runtime.GOOS]
	if !ok {
		remedy = "install a QEMU that brings edk2-x86_64-code.fd"
	}
	return firmware{}, &hypervisor.UnavailableError{
		Platform: Name, Reason: "this disk boots by UEFI only, and there is no UEFI firmware (OVMF) on this host", Remedy: remedy,
	}
}

// copyVars makes the file whole or not at all.
func copyVars(to, from string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.CreateTemp(filepath.Dir(to), varsFile+".*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(out.Name()) // gone by then, unless something fails
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	return os.Rename(out.Name(), to)
}
