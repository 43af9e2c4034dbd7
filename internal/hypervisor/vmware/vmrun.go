package vmware

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

const (
	// commandTimeout bounds each command.
	commandTimeout = 2 * time.Minute
	// endTimeout bounds the time between a machine's end and VMware's knowing.
	endTimeout = time.Minute
	// maxOutput bounds what is kept of a command's output, in bytes.
	maxOutput = 1 << 20
)

// vmrun is the program and the product that it is to talk to.
type vmrun struct{ program, product string }

// refusal is what vmrun said of a command that failed.
type refusal struct{ command, text string }

func (r *refusal) Error() string { return fmt.Sprintf("vmrun %s: %s", r.command, r.text) }

// run runs a command and returns what it printed. Its error may be a *refusal.
func (v vmrun) run(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, v.program, append([]string{"-T", v.product}, args...)...)
	// A process of VMware's that it starts must not stand in a folder that may
	// be deleted, nor hold our pipes for as long as the machine runs.
	cmd.Dir = os.TempDir()
	cmd.WaitDelay = time.Second
	out := &bounded{}
	cmd.Stdout, cmd.Stderr = out, out
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("vmrun %s: %w", args[0], ctx.Err())
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return out.held.String(), nil
	case errors.As(err, new(*exec.ExitError)):
		return "", &refusal{args[0], complaint(out.held.String(), cmd.ProcessState.String())}
	}
	return "", fmt.Errorf("running %s: %w", v.program, err)
}

// complaint is the line of vmrun's output that says what is wrong.
func complaint(output, status string) string {
	for line := range strings.Lines(output) {
		if text, ok := strings.CutPrefix(line, "Error: "); ok {
			return strings.TrimSpace(text)
		}
	}
	return status
}

// bounded keeps the beginning of what is written to it.
type bounded struct{ held bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	b.held.Write(p[:min(len(p), maxOutput-b.held.Len())])
	return len(p), nil
}

// list returns the .vmx files of the machines that run:
//
//	Total running VMs: 1
//	/home/me/vm/machine.vmx
func (v vmrun) list(ctx context.Context) ([]string, error) {
	out, err := v.run(ctx, "list")
	if err != nil {
		return nil, err
	}
	return parseList(out)
}

func parseList(output string) ([]string, error) {
	first, rest, _ := strings.Cut(output, "\n")
	if !strings.HasPrefix(first, "Total running VMs:") {
		return nil, fmt.Errorf("vmrun list: not understood: %.200q", first)
	}
	var all []string
	for line := range strings.Lines(rest) {
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			all = append(all, line)
		}
	}
	return all, nil
}

// runs tells whether the machine of a .vmx file runs.
func (v vmrun) runs(ctx context.Context, vmx string) (bool, error) {
	all, err := v.list(ctx)
	for _, other := range all {
		if samePath(vmx, other) {
			return true, nil
		}
	}
	return false, err
}

// samePath tells whether two paths are of the same file, which need not exist.
func samePath(a, b string) bool {
	if a == b || runtime.GOOS == "windows" && strings.EqualFold(filepath.Clean(a), filepath.Clean(b)) {
		return true
	}
	one, err := os.Stat(a)
	if err != nil {
		return false
	}
	other, err := os.Stat(b)
	return err == nil && os.SameFile(one, other)
}

// stop cuts a machine's power, and waits until VMware says that it has ended.
func (v vmrun) stop(ctx context.Context, vmx string) error {
	running, err := v.runs(ctx, vmx)
	if err != nil || !running {
		return err
	}
	// It may have ended by itself meanwhile.
	if _, err := v.run(ctx, "stop", vmx, "hard"); err != nil && !errors.As(err, new(*refusal)) {
		return fmt.Errorf("switching the machine off: %w", err)
	}
	return v.awaitEnd(ctx, vmx)
}

// awaitEnd waits until VMware says that a machine has ended.
func (v vmrun) awaitEnd(ctx context.Context, vmx string) error {
	ctx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		running, err := v.runs(ctx, vmx)
		if err != nil || !running {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return fmt.Errorf("waiting for the machine's end: VMware runs it still: %w", ctx.Err())
		}
	}
}
