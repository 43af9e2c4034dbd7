//go:build linux

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
)

// Debian's OVMF, in the place of VirtualBox's own EFI firmware.
const (
	ovmfCode = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	ovmfVars = "/usr/share/OVMF/OVMF_VARS_4M.fd"
)

// parse reads the lines KEY=VALUE, without their quotes.
func parse(info []byte) map[string]string {
	m := map[string]string{}
	for lines := bufio.NewScanner(bytes.NewReader(info)); lines.Scan(); {
		if key, value, ok := strings.Cut(lines.Text(), "="); ok {
			m[strings.Trim(key, `"`)] = strings.Trim(value, `"`)
		}
	}
	return m
}

// arguments are QEMU's for a machine as VirtualBox describes it.
func arguments(uuid string, info map[string]string) ([]string, error) {
	for key, want := range map[string]string{"VMState": "poweroff", "firmware": "EFI64", "chipset": "piix3", "ioapic": "on"} {
		if info[key] != want {
			return nil, fmt.Errorf("the machine's %s is %q", key, info[key])
		}
	}
	disk := info[info["storagecontrollername0"]+"-0-0"]
	if disk == "" || disk == "none" {
		return nil, errors.New("the machine has no disk")
	}
	vars, err := os.ReadFile(ovmfVars)
	if err == nil {
		err = os.WriteFile(file(uuid, "vars"), vars, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: apt-get install ovmf", err)
	}
	args := []string{
		"-name", info["name"], "-machine", "pc", "-accel", "tcg", "-cpu", "max", "-nodefaults", "-no-user-config", "-display", "none",
		"-m", info["memory"] + "M", "-smp", info["cpus"], "-qmp", "unix:" + file(uuid, "qmp") + ",server=on,wait=off",
		"-drive", "if=pflash,format=raw,unit=0,readonly=on,file=" + ovmfCode,
		"-drive", "if=pflash,format=raw,unit=1,file=" + file(uuid, "vars"),
		"-drive", "if=none,id=disk,format=vdi,file=" + escape(disk), "-device", "ich9-ahci,id=sata", "-device", "ide-hd,drive=disk,bus=sata.0",
	}
	reset, _, err := real("getextradata", uuid, "VBoxInternal2/TurnResetIntoPowerOff")
	if err != nil {
		return nil, err
	}
	if bytes.Contains(reset, []byte("Value: 1\n")) {
		args = append(args, "-no-reboot")
	}
	serial, err := serialPorts(info)
	if err != nil {
		return nil, err
	}
	nic, err := network(info)
	return append(append(args, serial...), nic...), err
}

// serialPorts are those that VirtualBox connects to somebody's socket.
func serialPorts(info map[string]string) (args []string, err error) {
	for i := range 4 {
		n := fmt.Sprint(i + 1)
		if info["uart"+n] == "off" {
			continue
		}
		base, irq, _ := strings.Cut(info["uart"+n], ",")
		path, ok := strings.CutPrefix(info["uartmode"+n], "client,")
		if !ok {
			return nil, fmt.Errorf("serial port %s is %q", n, info["uartmode"+n])
		}
		args = append(args, "-chardev", "socket,id=uart"+n+",path="+escape(path),
			"-device", fmt.Sprintf("isa-serial,chardev=uart%s,iobase=%s,irq=%s,index=%d", n, base, irq, i))
	}
	return args, nil
}

// network is the machine's first card, which is behind NAT.
func network(info map[string]string) ([]string, error) {
	switch {
	case info["nic1"] == "none":
		return nil, nil
	case info["nic1"] != "nat", info["nictype1"] != "virtio":
		return nil, fmt.Errorf("the machine's network is %q by %q", info["nic1"], info["nictype1"])
	}
	netdev := "user,id=net"
	for i := 0; info[fmt.Sprintf("Forwarding(%d)", i)] != ""; i++ {
		rule := strings.Split(info[fmt.Sprintf("Forwarding(%d)", i)], ",") // NAME,PROTOCOL,HOST,PORT,GUEST,PORT
		if len(rule) != 6 {
			return nil, fmt.Errorf("a forward is %q", rule)
		}
		netdev += fmt.Sprintf(",hostfwd=%s:%s:%s-%s:%s", rule[1], rule[2], rule[3], rule[4], rule[5])
	}
	return []string{"-netdev", netdev, "-device", "virtio-net-pci,netdev=net,romfile="}, nil
}

// escape doubles the commas of a value in QEMU's key=value syntax.
func escape(value string) string { return strings.ReplaceAll(value, ",", ",,") }
