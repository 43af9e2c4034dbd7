package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"capstan/internal/image/disk/export"
)

// stdout stands for standard output where a file's name is expected.
const stdout = "-"

// exportEndings are the endings of files' names that say a format.
var exportEndings = []struct {
	ending string
	format export.Format
}{
	{".raw", export.Raw}, {".img", export.Raw}, {".qcow2", export.QCOW2}, {".vmdk", export.VMDK}, {".vdi", export.VDI},
	{".vhd", export.VHD}, {".vhdx", vhdx}, {".ova", export.OVA}, {".tar.gz", export.GCE},
}

// vhdx is the format that is not written.
const vhdx = "vhdx"

func exportFormats() []string {
	var names []string
	for _, f := range export.Formats() {
		names = append(names, string(f))
	}
	return append(names, xenFormat)
}

// formatHelp says which format is for what.
func formatHelp() string {
	var b strings.Builder
	b.WriteString("Formats:\n")
	for _, f := range []struct {
		name export.Format
		what string
	}{
		{export.Raw, "the disk as it is: bhyve, cloud-hypervisor, dd to a real one"},
		{export.QCOW2, "QEMU, KVM, libvirt, Proxmox, OpenStack"},
		{export.VMDK, "VMware Workstation and Fusion, QEMU (monolithicSparse)"},
		{export.VMDKStream, "vSphere and ESXi, to import (streamOptimized, compressed)"},
		{export.VDI, "VirtualBox"},
		{export.VHD, "Hyper-V, whose Convert-VHD makes the VHDX that UEFI machines want"},
		{export.VHDFixed, "Azure"},
		{export.OVA, "a whole machine to import: VMware, VirtualBox, Proxmox"},
		{export.GCE, "Google Compute Engine (disk.raw in a tar.gz, of whole GiB)"},
		{xenFormat, "a folder with xl's configuration, kernel, ramdisk and disk"},
	} {
		fmt.Fprintf(&b, "  %-12s %s\n", f.name, f.what)
	}
	return b.String()
}

// chooseFormat checks --format, or takes the one that the file's name says.
func (f *exportFlags) chooseFormat() error {
	if f.format == "" {
		f.format = string(export.Raw)
		name := strings.ToLower(filepath.Base(f.output))
		for _, e := range exportEndings {
			if strings.HasSuffix(name, e.ending) {
				f.format = string(e.format)
			}
		}
	}
	switch {
	case f.format == vhdx:
		return &hinted{errors.New("a disk in format vhdx cannot be written"),
			"--format vhd, of which Hyper-V's Convert-VHD makes one; or --format raw, and then qemu-img convert -O vhdx FILE NEW.vhdx"}
	case !slices.Contains(exportFormats(), f.format):
		return fmt.Errorf("--format %s: expected %s", f.format, strings.Join(exportFormats(), ", "))
	}
	return nil
}

// checkStdout looks whether the disk can go to standard output.
func (f *exportFlags) checkStdout(cmd *cobra.Command) error {
	if !export.Format(f.format).Sequential() {
		var can []string
		for _, format := range export.Formats() {
			if format.Sequential() {
				can = append(can, string(format))
			}
		}
		return usage(cmd, &hinted{fmt.Errorf("a disk in format %s cannot go to standard output", f.format),
			"-o FILE, or --format " + strings.Join(can, ", ")})
	}
	if term.IsTerminal(int(os.Stdout.Fd())) {
		return usage(cmd, &hinted{errors.New("a disk is not for a terminal"), "-o FILE, or redirect the output"})
	}
	return nil
}
