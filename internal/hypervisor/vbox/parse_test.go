package vbox

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"capstan/internal/hypervisor"
)

// recorded is what VirtualBox 7.2.22 once printed.
func recorded(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestParseInfo(t *testing.T) {
	out := recorded(t, "showvminfo.txt")
	for _, out := range []string{out, strings.ReplaceAll(out, "\n", "\r\n")} {
		info := parseInfo(out)
		for key, want := range map[string]string{
			"VMState":       "poweroff", // and not what the description says
			"firmware":      "EFI64",
			"memory":        "512",
			"disk-0-0":      "/home/user/.capstan/instances/web/disk.vdi",
			"Forwarding(0)": "port0,tcp,127.0.0.1,8080,,80",
			"Forwarding(1)": "port1,udp,,5353,,53",
			"uart3":         "0x03e8,5",
			"uartmode3":     "client,/home/user/.capstan/instances/web/vbox-control.sock",
		} {
			if info[key] != want {
				t.Errorf("%s is %q, want %q", key, info[key], want)
			}
		}
	}
	for line, want := range map[string][2]string{
		`"C:\\a=b"="x"`:        {`C:\\a=b`, "x"},
		`path="C:\\Users\\me"`: {"path", `C:\Users\me`},
		`path="C:\Users\me"`:   {"path", `C:\Users\me`},
		`a="say \"x\""`:        {"a", `say "x"`},
		`a=`:                   {"a", ""},
		` rec_screen0`:         {},
		`="x"`:                 {},
		"\tindented=1":         {},
	} {
		info := parseInfo(line)
		if want == [2]string{} && len(info) == 0 {
			continue
		}
		if got, ok := info[want[0]]; !ok || got != want[1] || len(info) != 1 {
			t.Errorf("%s is read as %q", line, info)
		}
	}
}

func FuzzParseInfo(f *testing.F) {
	f.Add(recorded(f, "showvminfo.txt"))
	f.Add("\"a=\"=\"\\\n\"\"=\"\"\n=\n a=b\r\n")
	f.Fuzz(func(t *testing.T, out string) {
		for key, value := range parseInfo(out) {
			if key == "" || strings.ContainsAny(key+value, "\n") {
				t.Errorf("%q=%q", key, value)
			}
		}
		parseRefusal("x", out, out, "")
		parseVersion(out)
	})
}

func TestParseVersion(t *testing.T) {
	for out, want := range map[string]string{
		recorded(t, "version.txt"): "7.2.22",
		"7.0.14r161095\n":          "7.0.14",
		"6.1.50_Debianr161033\r\n": "6.1.50",
		"WARNING: 8.9.10\n":        "",
		"":                         "",
	} {
		if got, _ := parseVersion(out); got != want {
			t.Errorf("%q is version %q, want %q", out, got, want)
		}
	}
	if !withoutModule(recorded(t, "version.txt")) || withoutModule("7.2.22r1\n") {
		t.Error("the wrapper's warning is not known")
	}
}

func TestParseRefusal(t *testing.T) {
	for name, want := range map[string]refusal{
		"notfound.stderr":   {code: "VBOX_E_OBJECT_NOT_FOUND", text: "Could not find a registered machine named 'nosuch'"},
		"notrunning.stderr": {text: "Machine '5f2b7e0c-2c3d-4a7f-9a51-0123456789ab' is not currently running."},
		"startvm.stderr":    {code: "NS_ERROR_FAILURE", text: "The virtual machine 'capstan-web-5f2b7e0c' has terminated unexpectedly during startup with exit code 1 (0x1)"},
	} {
		r := parseRefusal("verb", "", recorded(t, name), "exit status 1")
		if r.code != want.code || r.text != want.text || notFound(r) != (name == "notfound.stderr") || !refused(r) {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if r := parseRefusal("verb", "", "", "exit status 1"); r.Error() != "VBoxManage verb: exit status 1" {
		t.Errorf("without a word: %v", r)
	}
}

// TestExplain: what VirtualBox says of its refusals is one sentence here, with
// the way out.
func TestExplain(t *testing.T) {
	host := filepath.Join(t.TempDir(), "VBoxManage")
	for said, want := range map[string]string{
		recorded(t, "startvm.stdout") + recorded(t, "startvm.stderr"):                                                                                   errNoModule.Error(),
		"VBoxManage: error: AMD-V is disabled in the BIOS (or by the host OS) (VERR_SVM_DISABLED)\nVBoxManage: error: Details: code NS_ERROR_FAILURE\n": "switched off in this host's firmware",
		"VBoxManage: error: VT-x is not available (VERR_VMX_NO_VMX)\n":                                                                                  "offers no hardware virtualization",
		"VBoxManage: error: VirtualBox can't operate in VMX root mode (VERR_VMX_IN_VMX_ROOT_MODE)\n":                                                    "another hypervisor of this host",
		"VBoxManage: error: Call to WHvSetupPartition failed (VERR_NEM_VM_CREATE_FAILED).\n":                                                            "Hyper-V has the processor's virtualization",
		"VBoxManage: error: Nonexistent host networking interface, name 'eth9' (VERR_INTERNAL_ERROR)\n":                                                 "cannot bridge that interface",
		"VBoxManage: error: Something new\nVBoxManage: error: Details: code NS_ERROR_FAILURE\n":                                                         "VirtualBox would not start the machine: Something new",
	} {
		if err := os.WriteFile(host, []byte("#!/bin/sh\necho nothing\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		err := explain(t.Context(), manager{host}, parseRefusal("startvm", said, said, ""))
		var hinted interface{ Hint() string }
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") || !errors.As(err, &hinted) || hinted.Hint() == "" {
			t.Errorf("%.60q is explained as %v", said, err)
		}
	}
	other := errors.New("other")
	if err := explain(t.Context(), manager{host}, other); err != other {
		t.Errorf("an error of another kind: %v", err)
	}
}

func TestSettings(t *testing.T) {
	spec := &hypervisor.Spec{Name: "web", Dir: "/i/web", Bootable: "/i/web/disk.vdi", Memory: 512<<20 - 1, CPUs: 2}
	r := record{UUID: "5f2b7e0c-2c3d-4a7f-9a51-0123456789ab", Name: "capstan-web-5f2b7e0c"}
	addresses := []string{"/i/web/k", "/i/web/c", "/i/web/x"}
	ports, err := choosePorts([]hypervisor.Port{{Guest: 80}, {Guest: 53, Protocol: "udp"}, {Guest: 54, Protocol: "udp"}})
	if err != nil {
		t.Fatal(err)
	}
	if ports[1].HostPort == 0 || ports[1].HostPort == ports[2].HostPort {
		t.Errorf("got %v", ports)
	}
	ports[0].HostPort, ports[1].HostPort = 39999, 5353
	said := func() string {
		var lines []string
		for _, args := range settings(spec, r, addresses, ports[:2]) {
			lines = append(lines, strings.Join(args, " "))
		}
		return strings.Join(lines, "\n") + "\n"
	}
	if got, want := said(), recorded(t, "settings.txt"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	spec.Bridge = "en0: Wi-Fi"
	if got := said(); !strings.Contains(got, "--nic1 bridged --nictype1 virtio --bridgeadapter1 en0: Wi-Fi") || strings.Contains(got, "natpf") {
		t.Errorf("bridged: %s", got)
	}
	spec.Bridge, spec.Guest.Network.None = "", true
	if got := said(); !strings.Contains(got, "--nic1 none") || strings.Contains(got, "natpf") {
		t.Errorf("without a network: %s", got)
	}
}
