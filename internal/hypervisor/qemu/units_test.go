package qemu

import (
	"net/netip"
	"strings"
	"testing"

	"capstan/internal/hypervisor"
)

func TestParseForwards(t *testing.T) {
	got := parseForwards(`Hub -1 (n):
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
  TCP[HOST_FORWARD]  11       127.0.0.1 38237       10.0.2.15    80     0     0
  TCP[HOST_FORWARD]   3               * 45527       10.0.2.15    81     0     0
  TCP[ESTABLISHED]   12       127.0.0.1 38237       10.0.2.15    80     0     0
  UDP[HOST_FORWARD]  10       127.0.0.1 43884       10.0.2.15    53     0     0
  UDP[HOST_FORWARD]  10       nonsense 43884       10.0.2.15    53     0     0
`)
	var words []string
	for _, p := range got {
		words = append(words, p.String())
	}
	if got := strings.Join(words, " "); got != "127.0.0.1:38237->80/tcp 0.0.0.0:45527->81/tcp 127.0.0.1:43884->53/udp" {
		t.Errorf("got %s", got)
	}
}

func FuzzParseForwards(f *testing.F) {
	f.Add("  TCP[HOST_FORWARD]  11       127.0.0.1 38237       10.0.2.15    80     0     0\n")
	f.Fuzz(func(t *testing.T, table string) {
		for _, p := range parseForwards(table) {
			if !p.Host.IsValid() {
				t.Errorf("got %v", p)
			}
		}
	})
}

func TestExplainForward(t *testing.T) {
	p := hypervisor.Port{Host: netip.MustParseAddr("127.0.0.1"), HostPort: 80, Guest: 8, Protocol: "tcp"}
	err := explainForward("Could not set up host forwarding rule 'tcp:127.0.0.2:80-:8'", []hypervisor.Port{p})
	if err == nil || !strings.Contains(err.Error(), "127.0.0.2:80") {
		t.Errorf("got %v", err)
	}
}

func TestTail(t *testing.T) {
	for name, c := range map[string]struct {
		writes []string
		held   string
		line   string
	}{
		"nothing":        {nil, "", ""},
		"short":          {[]string{"qemu-kvm: a\n", "\n"}, "qemu-kvm: a\n\n", "a"},
		"long":           {[]string{strings.Repeat("x", 100)}, strings.Repeat("x", 16), strings.Repeat("x", 16)},
		"piece by piece": {[]string{"0123456789", "0123456789"}, "4567890123456789", "4567890123456789"},
		"no name":        {[]string{"a qemu b: c"}, "a qemu b: c", "a qemu b: c"},
	} {
		tl := &tail{limit: 16}
		for _, w := range c.writes {
			if n, err := tl.Write([]byte(w)); n != len(w) || err != nil {
				t.Errorf("%s: %d, %v", name, n, err)
			}
		}
		if tl.String() != c.held || tl.lastLine() != c.line {
			t.Errorf("%s: got %q, %q", name, tl, tl.lastLine())
		}
	}
}

func TestWithoutOption(t *testing.T) {
	args := []string{"qemu", "-device", "a: b", "-S"}
	for line, want := range map[string]string{"-device a: b: bad": "bad", "-device c: bad": "-device c: bad", "": ""} {
		if got := withoutOption(line, args); got != want {
			t.Errorf("%q: got %q", line, got)
		}
	}
}
