package vmware

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"capstan/internal/hypervisor"
	"capstan/internal/hypervisor/serial"
)

// The machine's serial ports, in their order.
const (
	lineKernel = iota
	lineConsole
	lineControl
)

// machine is a machine that VMware runs.
type machine struct {
	vmrun   vmrun
	folder  folder
	kernel  net.Conn
	console *serial.Console
	control *serial.Control

	killed atomic.Bool
	done   chan struct{} // closed when end is set
	end    hypervisor.End
}

// run starts what keeps the machine company until its end, which closes done.
func (m *machine) run(ctx context.Context, log *serial.KernelLog) {
	stop := context.AfterFunc(ctx, func() { m.Kill() })
	go func() {
		defer close(m.done)
		var ending sync.WaitGroup
		end := sync.OnceFunc(func() { ending.Go(func() { m.powerOff() }) })
		log.Relay(&untilPanic{conn: m.kernel, log: log, end: end}) // to the end of VMware's process
		m.kernel.Close()
		ending.Wait()
		stop()
		ctx := context.WithoutCancel(ctx)
		err := m.vmrun.awaitEnd(ctx, m.folder.vmx())
		m.end = m.verdict(err, log.Panic())
		if err := m.folder.discard(ctx, m.vmrun); err != nil && m.end.Detail == "" {
			m.end.Detail = err.Error() // what is left goes with the next start, or rm
		}
		m.control.Close()
	}()
}

// untilPanic reads what the kernel says. A machine of VMware's begins anew where
// its kernel has panicked, which is to be its end.
type untilPanic struct {
	conn net.Conn
	log  *serial.KernelLog // which has all that was read before
	end  func()            // returns at once: the rest is read meanwhile
}

func (r *untilPanic) Read(b []byte) (int, error) {
	if r.log.Panic() != "" {
		r.end()
	}
	return r.conn.Read(b)
}

// verdict is the end of a machine that VMware runs no more, or err is why that
// is not known. VMware does not say why a machine ended.
func (m *machine) verdict(err error, panicked string) hypervisor.End {
	switch {
	case panicked != "":
		return hypervisor.End{Cause: hypervisor.PoweredOff, Detail: "kernel panic: " + panicked}
	case m.killed.Load():
		return hypervisor.End{Cause: hypervisor.Killed}
	case err != nil:
		return hypervisor.End{Cause: hypervisor.Died, Detail: err.Error()}
	}
	return hypervisor.End{Cause: hypervisor.PoweredOff}
}

// Console is the application's console.
func (m *machine) Console() io.ReadWriter { return m.console }

// Control is the channel of the guest's REST API. The caller closes it.
func (m *machine) Control() io.ReadWriteCloser { return m.control }

// Ports are none.
func (m *machine) Ports() []hypervisor.Port { return nil }

// Accel is VMware itself: it runs no machine without acceleration.
func (m *machine) Accel() (name, why string) { return "vmware", "" }

// PID is 0: the machine's process is VMware's.
func (m *machine) PID() int { return 0 }

// Powerdown is not to be had: vmrun asks VMware's tools, which the guest has not.
func (m *machine) Powerdown(context.Context) error {
	return fmt.Errorf("vmrun has no power button: %w", errors.ErrUnsupported)
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

func (m *machine) powerOff() error {
	return m.vmrun.stop(context.Background(), m.folder.vmx())
}

// Wait returns how the machine ended. The console may still hold bytes to read.
func (m *machine) Wait() hypervisor.End {
	<-m.done
	return m.end
}
