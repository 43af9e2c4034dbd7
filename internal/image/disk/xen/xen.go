// Package xen writes what the toolstack of Xen, xl, needs to run a guest: a
// folder with its configuration (xl.cfg(5)) and the files that this names.
package xen

import (
	"bytes"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"text/template"
)

// Files in the folder of a guest.
const (
	Kernel  = "kernel"
	Ramdisk = "ramdisk"
	Disk    = "disk.raw"
)

// Guest is a domain of Xen's.
type Guest struct {
	Name   string // of letters, digits and "._-"
	Memory int64  // bytes
	CPUs   int
}

//go:embed xl.cfg
var configText string

var config = template.Must(template.New("xl.cfg").Parse(configText))

// Write writes the guest's files into a folder, but for its disk. The ramdisk
// and the disk hold the application's environment, with any secrets.
func (g Guest) Write(folder string, kernel, ramdisk []byte) error {
	for _, f := range []struct {
		name    string
		content []byte
		mode    os.FileMode
	}{
		{g.ConfigFile(), g.Config(), 0o644},
		{Kernel, kernel, 0o644},
		{Ramdisk, ramdisk, 0o600},
	} {
		if err := os.WriteFile(filepath.Join(folder, f.name), f.content, f.mode); err != nil {
			return err
		}
	}
	return nil
}

// Config is the configuration for xl. The files that it names lie in the folder
// in which xl is called.
func (g Guest) Config() []byte {
	var b bytes.Buffer
	if err := config.Execute(&b, map[string]any{
		"Name": g.Name, "File": g.ConfigFile(), "Memory": (g.Memory + 1<<20 - 1) >> 20, "CPUs": max(g.CPUs, 1),
		"Kernel": Kernel, "Ramdisk": Ramdisk, "Disk": Disk,
	}); err != nil {
		panic(err) // the template and its values are known
	}
	return b.Bytes()
}

// ConfigFile is the name of the configuration in the guest's folder.
func (g Guest) ConfigFile() string { return g.Name + ".cfg" }

// Owns tells whether a folder holds a guest's files and nothing else, so that
// another may take its place.
func Owns(folder string) (bool, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return false, fmt.Errorf("looking for a Xen guest: %w", err)
	}
	configs := 0
	for _, e := range entries {
		switch name := e.Name(); {
		case !e.Type().IsRegular():
			return false, nil
		case filepath.Ext(name) == ".cfg":
			configs++
		case name != Kernel && name != Ramdisk && name != Disk:
			return false, nil
		}
	}
	return len(entries) == 4 && configs == 1, nil
}
