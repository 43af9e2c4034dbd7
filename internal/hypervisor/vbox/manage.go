package vbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"
)

const (
	// commandTimeout bounds each command but startvm, which take a fraction of
	// a second where nothing else runs.
	commandTimeout = time.Minute
	// startTimeout bounds startvm.
	startTimeout = 2 * time.Minute
	// maxOutput bounds what is kept of a command's output, in bytes.
	maxOutput = 1 << 20
)

// manager runs VBoxManage.
type manager struct{ path string }

// run runs a command and returns what it printed. Its error may be a *refusal.
func (m manager) run(ctx context.Context, args ...string) (string, error) {
	limit := commandTimeout
	if args[0] == "startvm" {
		limit = startTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, m.path, args...)
	// Its messages are translated; and a service of VirtualBox's that it
	// starts must not stand in a folder that may be deleted.
	cmd.Env = append(os.Environ(), "LC_ALL=C", "LANG=C")
	cmd.Dir = os.TempDir()
	cmd.WaitDelay = time.Second // for the service, should it hold our pipes
	stdout, stderr := &bounded{limit: maxOutput}, &bounded{limit: maxOutput}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("VBoxManage %s: %w", args[0], ctx.Err())
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return stdout.String(), nil
	case errors.As(err, new(*exec.ExitError)):
		return "", parseRefusal(args[0], stdout.String(), stderr.String(), cmd.ProcessState.String())
	}
	return "", fmt.Errorf("running %s: %w", m.path, err)
}

// bounded keeps the beginning of what is written to it.
type bounded struct {
	limit int
	held  bytes.Buffer
}

func (b *bounded) Write(p []byte) (int, error) {
	b.held.Write(p[:min(len(p), b.limit-b.held.Len())])
	return len(p), nil
}

func (b *bounded) String() string { return b.held.String() }

// refusal is what VBoxManage said of a command that failed.
type refusal struct {
	command string
	code    string // "VBOX_E_OBJECT_NOT_FOUND"; may be empty
	text    string // its first line
	all     string // everything that it printed
}

func (r *refusal) Error() string { return fmt.Sprintf("VBoxManage %s: %s", r.command, r.text) }

// codePattern is the line of an error that programs are to look at.
var codePattern = regexp.MustCompile(`Details: code (\w+)`)

// parseRefusal reads what a failed command printed:
//
//	VBoxManage: error: Could not find a registered machine named 'x'
//	VBoxManage: error: Details: code VBOX_E_OBJECT_NOT_FOUND (0x80bb0001), …
//	VBoxManage: error: Context: "FindMachine(…)" at line 3248 of file …
//
// Windows' program is called VBoxManage.exe.
func parseRefusal(command, stdout, stderr, status string) *refusal {
	r := &refusal{command: command, text: status, all: stdout + stderr}
	if m := codePattern.FindStringSubmatch(stderr); m != nil {
		r.code = m[1]
	}
	for line := range strings.Lines(stderr) {
		if _, text, ok := strings.Cut(line, "error: "); ok {
			r.text = strings.TrimSpace(text)
			break
		}
	}
	return r
}

// notFound tells whether err says that there is no such machine.
func notFound(err error) bool {
	var r *refusal
	return errors.As(err, &r) && (r.code == "VBOX_E_OBJECT_NOT_FOUND" || strings.HasPrefix(r.text, "Could not find a registered machine"))
}
