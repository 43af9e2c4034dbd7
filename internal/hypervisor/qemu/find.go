package qemu

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"time"

	"capstan/internal/hypervisor"
)

const (
	// guestArch is the architecture of the guest, in Go's words.
	guestArch = "amd64"
	program   = "qemu-system-x86_64"
	// oldest is the first major version with all that the command line
	// needs.
	oldest = 6
	// versionTimeout bounds `qemu --version`, which takes 20 ms.
	versionTimeout = 10 * time.Second
)

// places are where QEMU lies where it is not in the PATH.
var places = map[string][]string{
	"linux":   {"/usr/bin/" + program, "/usr/libexec/qemu-kvm", "/usr/local/bin/" + program},
	"darwin":  {"/opt/homebrew/bin/" + program, "/usr/local/bin/" + program, "/opt/local/bin/" + program},
	"windows": {`C:\Program Files\qemu\` + program + ".exe"},
}

// remedies are how QEMU is installed.
var remedies = map[string]string{
	"linux":   "apt-get install qemu-system-x86 (Debian, Ubuntu), dnf install qemu-kvm (Fedora), pacman -S qemu-base (Arch), or set CAPSTAN_QEMU_PATH",
	"darwin":  "brew install qemu, or set CAPSTAN_QEMU_PATH",
	"windows": "winget install SoftwareFreedomConservancy.QEMU, or set CAPSTAN_QEMU_PATH",
}

// unavailable is the error of a host without a usable QEMU.
func unavailable(reason string) error {
	remedy, ok := remedies[runtime.GOOS]
	if !ok {
		remedy = "install QEMU, or set CAPSTAN_QEMU_PATH"
	}
	return &hypervisor.UnavailableError{Platform: Name, Reason: reason, Remedy: remedy}
}

// find returns the absolute path of QEMU: the one that was asked for, else
// the PATH's, else one of the usual places.
func (d *Driver) find() (string, error) {
	path, err := hypervisor.FindProgram(d.options.Path, append([]string{program}, places[runtime.GOOS]...)...)
	switch {
	case err != nil && d.options.Path != "":
		return "", unavailable(fmt.Sprintf("there is no program %s, which the setting qemu_path names (%v)", d.options.Path, cause(err)))
	case err != nil:
		return "", unavailable(program + " is not installed")
	}
	return path, nil
}

// Installed tells whether there is a QEMU.
func (d *Driver) Installed() error {
	_, err := d.find()
	return err
}

// cause is what is below an error of the packages os and exec, whose own text
// repeats the path.
func cause(err error) error {
	var search *exec.Error
	if errors.As(err, &search) {
		err = search.Err
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return err
}

// Version returns the path of QEMU and its version, such as "7.2.22".
func (d *Driver) Version(ctx context.Context) (path, version string, err error) {
	if path, err = d.find(); err != nil {
		return "", "", err
	}
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--version")
	cmd.WaitDelay = versionTimeout // on a busy host its last bytes take their time
	out, err := cmd.Output()
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return path, "", unavailable(fmt.Sprintf("running %s --version: %v", path, cause(err)))
	}
	version, major := parseVersion(string(out))
	if version == "" {
		return path, "", unavailable(path + " does not say which version it is")
	}
	return path, version, checkVersion(version, major)
}

func checkVersion(version string, major int) error {
	if major < oldest {
		return unavailable(fmt.Sprintf("QEMU %s is too old: %d.0 is needed", version, oldest))
	}
	return nil
}

var versionPattern = regexp.MustCompile(`\bversion ((\d{1,4})\.\d{1,4}(?:\.\d{1,4})?)`)

// parseVersion reads the answer to --version.
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
