package vmware

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"

	"capstan/internal/hypervisor"
)

// places are where vmrun lies where it is not in the PATH.
var places = map[string][]string{
	"linux":  {"/usr/bin/vmrun", "/usr/local/bin/vmrun"},
	"darwin": {"/Applications/VMware Fusion.app/Contents/Library/vmrun", "/Applications/VMware Fusion.app/Contents/Public/vmrun"},
	"windows": {
		`C:\Program Files (x86)\VMware\VMware Workstation\vmrun.exe`, `C:\Program Files\VMware\VMware Workstation\vmrun.exe`,
		`C:\Program Files (x86)\VMware\VMware VIX\vmrun.exe`,
	},
}

// remedies are how there comes to be a vmrun.
var remedies = map[string]string{
	"linux":   "install VMware Workstation, or set CAPSTAN_VMRUN_PATH to vmrun",
	"darwin":  "install VMware Fusion, or set CAPSTAN_VMRUN_PATH to vmrun",
	"windows": "install VMware Workstation, or set CAPSTAN_VMRUN_PATH to vmrun.exe",
}

// unavailable is the error of a host without a usable VMware.
func unavailable(reason string) error {
	remedy, ok := remedies[runtime.GOOS]
	if !ok {
		remedy = "VMware's programs are for Linux, macOS and Windows"
	}
	return &hypervisor.UnavailableError{Platform: Name, Reason: reason, Remedy: remedy}
}

// find returns vmrun: the one that was asked for, else the PATH's, else one of
// the usual places.
func (d *Driver) find() (vmrun, error) {
	path, err := hypervisor.FindProgram(d.options.Path, append([]string{"vmrun"}, places[runtime.GOOS]...)...)
	switch {
	case err != nil && d.options.Path != "":
		return vmrun{}, unavailable(fmt.Sprintf("there is no program %s, which the setting vmrun_path names", d.options.Path))
	case err != nil:
		return vmrun{}, unavailable("neither VMware Workstation nor Fusion is installed")
	}
	return vmrun{path, product(runtime.GOOS, path)}, nil
}

// product is what vmrun's -T takes: the product that lies beside it.
func product(goos, path string) string {
	if goos == "darwin" {
		return "fusion"
	}
	has := func(name string) bool {
		_, err := exec.LookPath(filepath.Join(filepath.Dir(path), name))
		return err == nil
	}
	if !has("vmware") && has("vmplayer") {
		return "player"
	}
	return "ws"
}

// Program is where vmrun lies.
func (d *Driver) Program() (string, error) {
	v, err := d.find()
	return v.program, err
}

// Installed tells whether there is a vmrun. It starts nothing.
func (d *Driver) Installed() error {
	_, err := d.find()
	return err
}
