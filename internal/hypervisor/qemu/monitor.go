package qemu

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/digitalocean/go-qemu/qmp"
)

const (
	// maxMessage bounds one QMP message in bytes; the largest known answer,
	// that of query-qmp-schema, has about 200 KiB.
	maxMessage = 8 << 20
	// eventBacklog is how many events wait for a slow subscriber before the
	// oldest are dropped.
	eventBacklog = 64
)

// errMonitorClosed is what commands get once the connection has ended.
var errMonitorClosed = errors.New("the QMP connection is closed")

// client is a QMP connection (QEMU's docs/interop/qmp-spec): one goroutine
// reads, replies are matched by id, and neither a slow subscriber nor a flood
// of events can hold a reply up.
type client struct {
	conn    net.Conn
	version qmp.Version
	observe func(qmp.Event)
	writing sync.Mutex
	done    chan struct{} // closed when the reader has ended

	mu      sync.Mutex
	nextID  uint64
	waiting map[string]chan message
	subs    map[chan qmp.Event]struct{}
	err     error // why the reader ended
}

// message is anything that QEMU sends.
type message struct {
	QMP *struct {
		Version qmp.Version `json:"version"`
	} `json:"QMP"`
	ID    string `json:"id"`
	Error *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
	qmp.Event
	raw []byte // the whole, owned by the receiver
}

// commandError is QEMU's refusal of a command.
type commandError struct{ command, class, desc string }

func (e *commandError) Error() string { return "QMP command " + e.command + ": " + e.desc }

// newClient negotiates capabilities on conn, which it owns from now on, even
// where it fails. observe gets every event, from the reader, and so must not
// wait for anything.
func newClient(ctx context.Context, conn net.Conn, observe func(qmp.Event)) (*client, error) {
	c := &client{
		conn:    conn,
		observe: observe,
		done:    make(chan struct{}),
		waiting: make(map[string]chan message),
		subs:    make(map[chan qmp.Event]struct{}),
	}
	greeted := make(chan message, 1)
	c.waiting[""] = greeted
	go c.read()
	greeting, err := c.await(ctx, "", greeted)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("waiting for QMP's greeting: %w", err), c.Disconnect())
	}
	c.version = greeting.QMP.Version
	if _, err := c.run(ctx, []byte(`{"execute":"qmp_capabilities"}`)); err != nil {
		return nil, errors.Join(err, c.Disconnect())
	}
	return c, nil
}

// read delivers messages until the connection ends.
func (c *client) read() {
	r := bufio.NewReaderSize(c.conn, 64<<10)
	err := error(nil)
	for err == nil {
		var line []byte
		if line, err = readLine(r); err == nil && len(line) > 0 {
			err = c.deliver(line)
		}
	}
	c.conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
	for ch := range c.subs {
		close(ch)
	}
	clear(c.subs)
	close(c.done)
}

// readLine returns one line of at most maxMessage bytes, without its end. The
// bytes are the caller's.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > maxMessage {
			return nil, fmt.Errorf("a QMP message is longer than %d bytes", maxMessage)
		}
		line = append(line, part...)
		switch {
		case err == nil:
			return bytes.TrimSpace(line), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, errMonitorClosed // in order or by a reset
		}
	}
}

// deliver gives a message to whom it is for.
func (c *client) deliver(line []byte) error {
	m := message{raw: line}
	if err := json.Unmarshal(line, &m); err != nil {
		return fmt.Errorf("reading a QMP message: %w", err)
	}
	if m.Event.Event != "" {
		c.observe(m.Event)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.Event.Event != "" {
		for ch := range c.subs {
			push(ch, m.Event)
		}
		return nil
	}
	if m.ID == "" && m.QMP == nil {
		return fmt.Errorf("a QMP message is neither event nor reply: %.80q", line)
	}
	if ch, ok := c.waiting[m.ID]; ok {
		delete(c.waiting, m.ID)
		ch <- m // has room: each id gets one reply
	}
	return nil
}

// push adds an event, at the price of the oldest where ch is full. The caller
// is the only sender.
func push(ch chan qmp.Event, e qmp.Event) {
	for {
		select {
		case ch <- e:
			return
		default:
		}
		select {
		case <-ch:
		default:
		}
	}
}

// run sends a command and returns the whole reply, which is the caller's.
func (c *client) run(ctx context.Context, command []byte) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(command, &fields); err != nil {
		return nil, fmt.Errorf("reading a QMP command: %w", err)
	}
	reply := make(chan message, 1)
	c.mu.Lock()
	c.nextID++
	id := strconv.FormatUint(c.nextID, 10)
	c.waiting[id] = reply
	c.mu.Unlock()
	fields["id"] = json.RawMessage(strconv.Quote(id))
	line, err := json.Marshal(fields)
	if err != nil {
		return nil, fmt.Errorf("writing a QMP command: %w", err)
	}
	if err := c.write(ctx, append(line, '\n')); err != nil {
		return nil, fmt.Errorf("QMP command %s: %w", fields["execute"], err)
	}
	m, err := c.await(ctx, id, reply)
	if err != nil {
		return nil, fmt.Errorf("QMP command %s: %w", fields["execute"], err)
	}
	if m.Error != nil {
		return nil, &commandError{string(fields["execute"]), m.Error.Class, m.Error.Desc}
	}
	return m.raw, nil
}

// write sends a line. A line of which only a part was sent ends the
// connection.
func (c *client) write(ctx context.Context, line []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { c.conn.SetWriteDeadline(time.Unix(1, 0)) })
	_, err := c.conn.Write(line)
	if !stop() && err == nil {
		// The deadline may come yet, in the middle of another's line.
		err = ctx.Err()
	}
	if err != nil {
		c.conn.Close()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return errMonitorClosed
	}
	return nil
}

// await waits for the reply to id.
func (c *client) await(ctx context.Context, id string, reply chan message) (message, error) {
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.waiting, id)
	}()
	select {
	case m := <-reply:
		return m, nil
	case <-ctx.Done():
		return message{}, ctx.Err()
	case <-c.done:
	}
	select {
	case m := <-reply: // came with the connection's last bytes
		return m, nil
	default:
		return message{}, c.err
	}
}

// Disconnect ends the connection and its goroutine.
func (c *client) Disconnect() error {
	c.conn.Close()
	<-c.done
	return nil
}

// monitor is the client as go-qemu's interface, with ctx as the bound of every
// command.
type monitor struct {
	*client
	ctx context.Context
}

var _ qmp.Monitor = monitor{}

// Connect does nothing: a client is connected from the start.
func (m monitor) Connect() error { return nil }

// Run sends a command and returns QEMU's whole reply.
func (m monitor) Run(command []byte) ([]byte, error) { return m.run(m.ctx, command) }

// Events returns the events from now until ctx or the connection ends, which
// closes the channel. Of a backlog of more than 64 the oldest are dropped.
func (m monitor) Events(ctx context.Context) (<-chan qmp.Event, error) {
	ch := make(chan qmp.Event, eventBacklog)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return nil, m.err
	}
	m.subs[ch] = struct{}{}
	context.AfterFunc(ctx, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if _, ok := m.subs[ch]; ok {
			delete(m.subs, ch)
			close(ch)
		}
	})
	return ch, nil
}
