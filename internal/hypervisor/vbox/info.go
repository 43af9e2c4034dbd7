package vbox

import (
	"context"
	"fmt"
	"strings"
)

// parseInfo reads the output of showvminfo --machinereadable: lines of KEY=VALUE,
// of which either may be quoted. What is no such line (warnings of wrappers, the
// headings that some versions print) is passed over, and of two lines for one
// key the first counts: the free text that a user can give a machine comes last.
func parseInfo(output string) map[string]string {
	info := map[string]string{}
	for line := range strings.Lines(output) {
		line = strings.TrimRight(line, "\r\n")
		key, value, ok := cutKey(line)
		if !ok {
			continue
		}
		if _, double := info[key]; !double {
			info[key] = unquote(value)
		}
	}
	return info
}

// cutKey parts a line; the key may have a "=" in its quotes, as paths may.
func cutKey(line string) (key, value string, ok bool) {
	if rest, quoted := strings.CutPrefix(line, `"`); quoted {
		key, value, ok = strings.Cut(rest, `"=`)
	} else {
		key, value, ok = strings.Cut(line, "=")
	}
	return key, value, ok && key != "" && !strings.HasPrefix(key, " ") && !strings.HasPrefix(key, "\t")
}

// unquote takes the quotes off a value, and the backslashes that versions from
// 4.3 on put before quotes and backslashes in it.
func unquote(value string) string {
	inner, ok := strings.CutPrefix(value, `"`)
	if !ok {
		return value
	}
	inner = strings.TrimSuffix(inner, `"`)
	return strings.NewReplacer(`\\`, `\`, `\"`, `"`).Replace(inner)
}

// state is a machine's, in VirtualBox's words: "running", "poweroff".
func (m manager) state(ctx context.Context, uuid string) (string, error) {
	out, err := m.run(ctx, "showvminfo", uuid, "--machinereadable")
	if err != nil {
		return "", err
	}
	state := parseInfo(out)["VMState"]
	if state == "" {
		return "", fmt.Errorf("VBoxManage does not say what state the machine %s is in", uuid)
	}
	return state, nil
}

// ended tells whether a machine in that state has no process any more. The
// words are those of VBoxManage's machineStateToName.
func ended(state string) bool {
	switch state {
	case "poweroff", "aborted", "aborted-saved", "saved":
		return true
	}
	return false
}
