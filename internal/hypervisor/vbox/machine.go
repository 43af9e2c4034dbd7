package vbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"capstan/internal/hypervisor"
	"capstan/internal/hypervisor/serial"
)

// watchInterval is how often a machine is asked how it fares while nothing is
// heard of its end: VirtualBox keeps one that it cannot run on, to be looked at.
const watchInterval = 30 * time.Second

// machine is a machine that VirtualBox runs.
type machine struct {
	vbox    manager
	record  record
	dir     string
	ports   []hypervisor.Port
	kernel  net.Conn
	console *serial.Console
	control *serial.Control

	killed atomic.Bool
	stuck  atomic.Bool
	done   chan struct{} // closed when end is set
	end    hypervisor.End
}

// run starts what keeps the machine company until its end, which closes done.
func (m *machine) run(ctx context.Context, log *serial.KernelLog) {
	stop := context.AfterFunc(ctx, func() { m.Kill() })
	silent := make(chan struct{})
	go func() {
		defer close(silent)
		log.Relay(m.kernel) // until VirtualBox hangs up: its process has ended
		m.kernel.Close()
	}()
	go func() {
		defer close(m.done)
		m.watch(silent)
		stop()
		ctx := context.WithoutCancel(ctx)
		state, err := m.vbox.awaitEnd(ctx, m.record.UUID)
		m.end = m.verdict(state, err, log.Panic())
		if err := m.record.discard(ctx, m.vbox, m.dir); err != nil && m.end.Detail == "" {
			m.end.Detail = err.Error() // what is left goes with the next start, or rm
		}
		m.control.Close()
	}()
}

// watch waits until the machine has ended, and ends one that is stuck.
func (m *machine) watch(silent <-chan struct{}) {
	look := time.NewTicker(watchInterval)
	defer look.Stop()
	for {
		select {
		case <-silent:
			return
		case <-look.C:
			state, err := m.vbox.state(context.Background(), m.record.UUID)
			if err == nil && (state == "gurumeditation" || state == "stuck") && !m.stuck.Swap(true) {
				m.powerOff()
			}
		}
	}
}

// verdict is the end of a machine whose last state is known, or why not.
func (m *machine) verdict(state string, err error, panicked string) hypervisor.End {
	end := hypervisor.End{Cause: hypervisor.Died}
	switch {
	case m.killed.Load():
		end.Cause = hypervisor.Killed
	case m.stuck.Load():
		end.Detail = "VirtualBox could not run the machine on (guru meditation)"
	case err != nil:
		end.Detail = err.Error()
	case state == "poweroff":
		end.Cause = hypervisor.PoweredOff
	case state == "saved":
		end.Detail = "somebody saved its state in VirtualBox, which ends it"
	default:
		end.Detail = "VirtualBox ended the machine: " + state
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

// Accel is VirtualBox itself: it runs no machine without acceleration.
func (m *machine) Accel() (name, why string) { return "virtualbox", "" }

// PID is 0: the machine's process is VirtualBox's.
func (m *machine) PID() int { return 0 }

// Powerdown presses the power button, which the guest takes for a request to
// stop.
func (m *machine) Powerdown(ctx context.Context) error {
	_, err := m.vbox.run(ctx, "controlvm", m.record.UUID, "acpipowerbutton")
	return err
}

// Kill cuts the power, and returns when the machine is gone.
func (m *machine) Kill() error {
	select {
	case <-m.done:
		return nil
	default:
	}
	m.killed.Store(true)
	if err := m.powerOff(); err != nil {
		return err
	}
	<-m.done
	return nil
}

// powerOff cuts the power of a machine that may have ended by itself.
func (m *machine) powerOff() error {
	_, err := m.vbox.run(context.Background(), "controlvm", m.record.UUID, "poweroff")
	if err == nil || refused(err) {
		return nil
	}
	return fmt.Errorf("switching the machine off: %w", err)
}

// refused tells whether VBoxManage ran, and would not do what it was asked.
func refused(err error) bool { return errors.As(err, new(*refusal)) }

// Wait returns how the machine ended. The console may still hold bytes to
// read.
func (m *machine) Wait() hypervisor.End {
	<-m.done
	return m.end
}
