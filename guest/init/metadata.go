//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"net/textproto"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// metadataHost is the metadata server's address, on every cloud.
	metadataHost = "169.254.169.254"
	// metadataWait bounds all that is asked of it, and so what it can delay a
	// boot by.
	metadataWait = 10 * time.Second
	// metadataTry bounds one request; metadataRetry is the time between two.
	metadataTry   = 3 * time.Second
	metadataRetry = 250 * time.Millisecond
	// maxMetadata bounds an answer, in bytes. GCE allows 256 KiB, EC2 16.
	maxMetadata = 512 << 10
)

// errNoMetadata is the server's word that there is nothing of that name.
var errNoMetadata = errors.New("there is none")

// statusError is an answer other than 200.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("the metadata server answers %d", int(e)) }

// metadata asks a cloud's metadata server.
type metadata struct {
	cloud cloud
	dial  func(limit time.Time) (connection, error)
	token string // once asked for
}

// connection is what an answer comes by.
type connection interface {
	io.ReadWriteCloser
	SetDeadline(time.Time) error
}

// dialMetadata connects to the metadata server.
func dialMetadata(limit time.Time) (connection, error) {
	return dial(unix.SOCK_STREAM, netip.AddrPortFrom(netip.MustParseAddr(metadataHost), 80), "the metadata server", limit)
}

// dial connects to a server, of TCP or UDP, that errors call by name. The net
// package's way, which can resolve names, would make PID 1 360 KB larger.
func dial(kind int, to netip.AddrPort, name string, limit time.Time) (connection, error) {
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	err = unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
	if errors.Is(err, unix.EINPROGRESS) {
		err = connected(fd, limit)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("connecting to %s: %w", to.Addr(), err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// connected waits for the end of a connect(2) that is in progress.
func connected(fd int, limit time.Time) error {
	for {
		left := max(0, time.Until(limit))
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, int(left.Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case n == 0:
			return os.ErrDeadlineExceeded
		}
		errno, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && errno != 0 {
			err = unix.Errno(errno)
		}
		return err
	}
}

// get asks for the value at path until ctx's end, as long as that may help.
func (m *metadata) get(ctx context.Context, path string) ([]byte, error) {
	var last error
	for {
		body, err := m.try(ctx, path)
		if err == nil || !passing(err) {
			return body, err
		}
		if last == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			last = err // an answer says more than a try that ctx's end cut short
		}
		select {
		case <-ctx.Done():
			return nil, last
		case <-time.After(metadataRetry):
		}
	}
}

// passing tells whether the same request may have another answer in a moment.
func passing(err error) bool {
	var status statusError
	if errors.As(err, &status) {
		return status == 429 || status >= 500
	}
	var errno unix.Errno // of the connection, such as that it is refused
	return errors.As(err, &errno) && errno != unix.ENETUNREACH || errors.Is(err, os.ErrDeadlineExceeded) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

func (m *metadata) try(ctx context.Context, path string) ([]byte, error) {
	if m.cloud.token != "" && m.token == "" {
		token, err := m.request(ctx, "PUT", m.cloud.token, "X-aws-ec2-metadata-token-ttl-seconds: 60\r\nContent-Length: 0\r\n")
		if err != nil {
			return nil, err
		}
		m.token = string(token)
		if m.token == "" || strings.ContainsFunc(m.token, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return nil, errors.New("the metadata server's token is not one")
		}
	}
	var lines string
	if m.token != "" {
		lines = "X-aws-ec2-metadata-token: " + m.token + "\r\n"
	}
	if m.cloud.flavor != "" {
		lines = "Metadata-Flavor: " + m.cloud.flavor + "\r\n"
	}
	body, err := m.request(ctx, "GET", path, lines)
	if errors.Is(err, statusError(statusNoSuch)) {
		return nil, errNoMetadata
	}
	return body, err
}

// request makes one request on a connection of its own.
func (m *metadata) request(ctx context.Context, method, path, lines string) ([]byte, error) {
	limit := time.Now().Add(metadataTry)
	if end, ok := ctx.Deadline(); ok && end.Before(limit) {
		limit = end
	}
	conn, err := m.dial(limit)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(limit); err != nil {
		return nil, err
	}
	if _, err := io.WriteString(conn, method+" "+path+" HTTP/1.1\r\nHost: "+metadataHost+"\r\nConnection: close\r\n"+lines+"\r\n"); err != nil {
		return nil, err
	}
	return m.answer(conn)
}

// answer reads an answer. Redirections are not followed: nobody but the cloud
// itself is asked.
func (m *metadata) answer(conn io.Reader) ([]byte, error) {
	limit := &io.LimitedReader{R: conn, N: maxHead}
	in := bufio.NewReader(limit)
	head := textproto.NewReader(in)
	line, err := head.ReadLine()
	if err != nil {
		return nil, err
	}
	protocol, rest, _ := strings.Cut(line, " ")
	code, _, _ := strings.Cut(rest, " ")
	status, err := strconv.Atoi(code)
	if err != nil || !strings.HasPrefix(protocol, "HTTP/1.") {
		return nil, errors.New("the metadata server's answer is not HTTP")
	}
	header, err := head.ReadMIMEHeader()
	if err != nil {
		return nil, err
	}
	if status != 200 {
		return nil, statusError(status)
	}
	if got := header.Get("Metadata-Flavor"); m.cloud.flavor != "" && got != m.cloud.flavor {
		return nil, errors.New("who answers is not the cloud's metadata server")
	}
	limit.N = math.MaxInt64
	body := io.Reader(in)
	if header.Get("Content-Length") != "" || header.Get("Transfer-Encoding") != "" {
		if body, err = requestBody(header, in); err != nil {
			return nil, err
		}
	}
	doc, err := io.ReadAll(io.LimitReader(body, maxMetadata+1))
	if err == nil && len(doc) > maxMetadata {
		err = fmt.Errorf("the metadata server's answer is longer than %d bytes", maxMetadata)
	}
	return doc, err
}
