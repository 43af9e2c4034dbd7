package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/digitalocean/go-qemu/qmp"
	"github.com/digitalocean/go-qemu/qmp/raw"

	"capstan/internal/hypervisor"
	"capstan/internal/hypervisor/serial"
)

// quitTimeout is how long Kill lets QEMU close its files by itself.
const quitTimeout = 500 * time.Millisecond

// machine is a QEMU process that passed the handshake.
type machine struct {
	proc        *process
	qmp         *client
	console     *console
	control     net.Conn
	ports       []hypervisor.Port
	accel, why  string
	powerButton bool

	reason atomic.Pointer[string] // of QEMU's first SHUTDOWN event
	killed atomic.Bool
	done   chan struct{} // closed when end is set
	end    hypervisor.End
}

// run starts what keeps the machine company until its end, which closes done.
func (m *machine) run(ctx context.Context, log *serial.KernelLog, kernel net.Conn) {
	stop := context.AfterFunc(ctx, func() { m.Kill() })
	relayed := make(chan struct{})
	go func() {
		defer close(relayed)
		log.Relay(kernel)
		kernel.Close()
	}()
	go func() {
		<-m.proc.done
		stop()
		<-relayed    // to the end: QEMU's side is closed
		<-m.qmp.done // likewise
		reason := ""
		if r := m.reason.Load(); r != nil {
			reason = *r
		}
		m.end = m.verdict(reason, log.Panic())
		close(m.done)
	}()
}

// observe keeps why QEMU ends.
func (m *machine) observe(e qmp.Event) {
	if e.Event == "SHUTDOWN" {
		reason, _ := e.Data["reason"].(string)
		m.reason.CompareAndSwap(nil, &reason)
	}
}

// verdict is the end of a machine whose process is gone.
func (m *machine) verdict(reason, panicked string) hypervisor.End {
	end := hypervisor.End{Cause: hypervisor.Died}
	failure := m.proc.failure()
	switch {
	case reason == "guest-shutdown", reason == "guest-reset", reason == "guest-panic":
		end.Cause = hypervisor.PoweredOff // whatever happened to QEMU next
	case m.killed.Load():
		end.Cause = hypervisor.Killed
	case failure != "":
		end.Detail = "QEMU ended with " + failure
	case reason != "":
		end.Detail = "QEMU was ended: " + reason
	default:
		end.Detail = "QEMU ended without a reason"
	}
	if end.Cause == hypervisor.Died {
		if line := m.proc.stderr.lastLine(); line != "" {
			end.Detail = line + " (" + end.Detail + ")"
		}
	}
	if panicked != "" {
		end.Detail = "kernel panic: " + panicked
	}
	return end
}

// Console is the application's console.
func (m *machine) Console() io.ReadWriter { return m.console }

// Control is the channel of the guest's REST API. The caller closes it.
func (m *machine) Control() io.ReadWriteCloser { return m.control }

// Ports are the forwards in force.
func (m *machine) Ports() []hypervisor.Port { return m.ports }

// Accel is the accelerator in use.
func (m *machine) Accel() (name, why string) { return m.accel, m.why }

// PID is QEMU's.
func (m *machine) PID() int { return m.proc.cmd.Process.Pid }

// Powerdown presses the power button. The machine microvm has none: the error
// wraps errors.ErrUnsupported.
func (m *machine) Powerdown(ctx context.Context) error {
	if !m.powerButton {
		return fmt.Errorf("the machine has no power button: %w", errors.ErrUnsupported)
	}
	return raw.NewMonitor(monitor{m.qmp, ctx}).SystemPowerdown()
}

// Kill has QEMU quit, or kills it where it does not at once, and returns when
// the process is gone.
func (m *machine) Kill() error {
	select {
	case <-m.proc.done:
		return nil
	default:
	}
	m.killed.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), quitTimeout)
	defer cancel()
	// That QEMU does not answer is what the signal is for.
	if raw.NewMonitor(monitor{m.qmp, ctx}).Quit() == nil {
		select {
		case <-m.proc.done:
		case <-ctx.Done():
		}
	}
	if err := m.proc.kill(); err != nil {
		return fmt.Errorf("killing QEMU: %w", err)
	}
	return nil
}

// Wait returns how the machine ended. The console may still hold bytes to
// read.
func (m *machine) Wait() hypervisor.End {
	<-m.done
	return m.end
}

// console ends with io.EOF whichever way QEMU ended, and is closed by then.
type console struct{ net.Conn }

func (c *console) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil {
		// The end of QEMU is the only reason: a socket whose peer left
		// bytes unread is reset, another has come to its end.
		c.Close()
		err = io.EOF
	}
	return n, err
}
