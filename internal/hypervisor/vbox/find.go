package vbox

import (
	"context"
	"fmt"
	"regexp"
	"runtime"
	"strconv"
	"strings"

	"capstan/internal/hypervisor"
)

const (
	program = "VBoxManage"
	// oldest is the first major version that knows all that is asked of it.
	oldest = 7
)

// places are where VBoxManage lies where it is not in the PATH.
var places = map[string][]string{
	"linux":   {"/usr/bin/" + program, "/opt/VirtualBox/" + program, "/usr/lib/virtualbox/" + program},
	"darwin":  {"/usr/local/bin/" + program, "/Applications/VirtualBox.app/Contents/MacOS/" + program},
	"windows": {`C:\Program Files\Oracle\VirtualBox\` + program + ".exe"},
}

// remedies are how VirtualBox is installed.
var remedies = map[string]string{
	"linux":   "install it from https://www.virtualbox.org/wiki/Linux_Downloads or by your distribution's package manager, or set CAPSTAN_VBOX_PATH to VBoxManage",
	"darwin":  "brew install --cask virtualbox, or set CAPSTAN_VBOX_PATH to VBoxManage",
	"windows": "winget install Oracle.VirtualBox, or set CAPSTAN_VBOX_PATH to VBoxManage.exe",
}

// unavailable is the error of a host without a usable VirtualBox.
func unavailable(reason string) error {
	remedy, ok := remedies[runtime.GOOS]
	if !ok {
		remedy = "install VirtualBox, or set CAPSTAN_VBOX_PATH to VBoxManage"
	}
	return &hypervisor.UnavailableError{Platform: Name, Reason: reason, Remedy: remedy}
}

// find returns the absolute path of VBoxManage: the one that was asked for,
// else the PATH's, else one of the usual places.
func (d *Driver) find() (manager, error) {
	path, err := hypervisor.FindProgram(d.options.Path, append([]string{program}, places[runtime.GOOS]...)...)
	switch {
	case err != nil && d.options.Path != "":
		return manager{}, unavailable(fmt.Sprintf("there is no program %s, which the setting vbox_path names", d.options.Path))
	case err != nil:
		return manager{}, unavailable("VirtualBox is not installed")
	}
	return manager{path}, nil
}

// Installed tells whether there is a VirtualBox. It starts nothing.
func (d *Driver) Installed() error {
	_, err := d.find()
	return err
}

// Version returns the path of VBoxManage and VirtualBox's version, such as
// "7.2.22".
func (d *Driver) Version(ctx context.Context) (path, version string, err error) {
	m, err := d.find()
	if err != nil {
		return "", "", err
	}
	out, err := m.run(ctx, "--version")
	if err != nil {
		return m.path, "", unavailable(fmt.Sprintf("running %s --version: %v", m.path, err))
	}
	version, major := parseVersion(out)
	switch {
	case version == "":
		return m.path, "", unavailable(m.path + " does not say which version it is")
	case major < oldest:
		return m.path, version, unavailable(fmt.Sprintf("VirtualBox %s is too old: %d.0 is needed", version, oldest))
	case withoutModule(out):
		return m.path, version, errNoModule
	}
	return m.path, version, nil
}

// versionPattern is a line such as "7.2.22r175245" or "7.2.22_Debianr175245".
var versionPattern = regexp.MustCompile(`(?m)^((\d{1,4})\.\d{1,4}\.\d{1,4})`)

// parseVersion reads the answer to --version, which follows whatever a
// distribution's wrapper has to say.
func parseVersion(output string) (version string, major int) {
	m := versionPattern.FindStringSubmatch(output)
	if m == nil {
		return "", 0
	}
	major, err := strconv.Atoi(m[2])
	if err != nil {
		return "", 0
	}
	return m[1], major
}

// withoutModule reads the warning of the wrappers on Linux, which they print
// before any command's output.
func withoutModule(output string) bool {
	return strings.Contains(output, "WARNING: The character device /dev/vboxdrv does not exist") ||
		strings.Contains(output, "WARNING: The vboxdrv kernel module is not loaded")
}

// errNoModule is a VirtualBox that cannot start anything.
var errNoModule = &hypervisor.UnavailableError{
	Platform: Name,
	Reason:   "VirtualBox's kernel module is not loaded",
	Remedy:   "modprobe vboxdrv as root; where there is no such module, install virtualbox-dkms and the kernel's headers, or run /sbin/vboxconfig",
}
