//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"

	"capstan/guest/api"
)

// HTTP/1.1 (RFC 9112) for the REST API, one request a connection, which on a
// yamux stream costs nothing. net/http would make PID 1 4 MB larger, all of it
// memory that the application lacks, and its dependence on crypto/tls brings
// 32 MiB of zeroed data (crypto/internal/fips140/drbg.memory, Go 1.26), for
// which a kernel with 48 MB refuses to execute the program at all.

// maxHead bounds a request's head, in bytes.
const maxHead = 64 << 10

const (
	statusBadRequest = 400
	statusForbidden  = 403
	statusNoSuch     = 404
	statusConflict   = 409
	statusNoSpace    = 507
)

// reasons are the phrases of the statuses in use.
var reasons = map[int]string{
	200: "OK", statusBadRequest: "Bad Request", statusForbidden: "Forbidden",
	statusNoSuch: "Not Found", statusConflict: "Conflict", statusNoSpace: "Insufficient Storage",
}

// exchange is one request and its answer.
type exchange struct {
	method string
	path   string
	query  url.Values
	body   io.Reader
	in     *bufio.Reader
	out    net.Conn
}

// readRequest reads a request up to its body.
func readRequest(conn net.Conn) (*exchange, error) {
	limit := &io.LimitedReader{R: conn, N: maxHead}
	in := bufio.NewReader(limit)
	head := textproto.NewReader(in)
	line, err := head.ReadLine()
	if err != nil {
		return nil, err
	}
	fields := strings.Split(line, " ")
	if len(fields) != 3 || !strings.HasPrefix(fields[2], "HTTP/1.") {
		return nil, fmt.Errorf("%.100q is not an HTTP request", line)
	}
	target, err := url.ParseRequestURI(fields[1])
	if err != nil {
		return nil, err
	}
	query, err := url.ParseQuery(target.RawQuery)
	if err != nil {
		return nil, err
	}
	header, err := head.ReadMIMEHeader()
	if err != nil {
		return nil, err
	}
	limit.N = math.MaxInt64
	x := &exchange{method: fields[0], path: target.Path, query: query, in: in, out: conn}
	if x.body, err = requestBody(header, in); err != nil {
		return nil, err
	}
	if strings.EqualFold(header.Get("Expect"), "100-continue") {
		if _, err := io.WriteString(conn, "HTTP/1.1 100 Continue\r\n\r\n"); err != nil {
			return nil, err
		}
	}
	return x, nil
}

// requestBody is the body that the header announces (RFC 9112, 6.3).
func requestBody(header textproto.MIMEHeader, in *bufio.Reader) (io.Reader, error) {
	if coding := header.Get("Transfer-Encoding"); coding != "" {
		if !strings.EqualFold(coding, "chunked") {
			return nil, fmt.Errorf("the transfer coding %q is not known", coding)
		}
		return &chunkReader{in: in}, nil
	}
	length := header.Get("Content-Length")
	if length == "" {
		return strings.NewReader(""), nil
	}
	n, err := strconv.ParseInt(length, 10, 64)
	if err != nil || n < 0 {
		return nil, fmt.Errorf("the content length %q is not a number", length)
	}
	return &sizedReader{in: in, left: n}, nil
}

// sizedReader reads a body of known size. A stream that ends before is an
// error.
type sizedReader struct {
	in   *bufio.Reader
	left int64
}

func (s *sizedReader) Read(b []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	n, err := s.in.Read(b[:min(int64(len(b)), s.left)])
	s.left -= int64(n)
	if errors.Is(err, io.EOF) && s.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// chunkReader reads a chunked body (RFC 9112, 7.1).
type chunkReader struct {
	in   *bufio.Reader
	left int64 // of the chunk
	more bool  // a chunk has been read, whose end is still to come
	err  error
}

func (c *chunkReader) Read(b []byte) (int, error) {
	if c.left == 0 && c.err == nil {
		c.err = c.next()
	}
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.in.Read(b[:min(int64(len(b)), c.left)])
	if c.left -= int64(n); err != nil {
		c.err = unexpected(err)
	}
	return n, c.err
}

// next reads the size of the next chunk; the last is empty.
func (c *chunkReader) next() error {
	if c.more {
		if line, err := c.line(); err != nil || line != "" {
			return errors.Join(errors.New("a chunk is longer than announced"), err)
		}
	}
	line, err := c.line()
	if err != nil {
		return err
	}
	size, _, _ := strings.Cut(line, ";") // extensions mean nothing here
	n, err := strconv.ParseUint(strings.TrimSpace(size), 16, 63)
	if err != nil {
		return fmt.Errorf("the chunk size %.20q is not a number", size)
	}
	if c.left, c.more = int64(n), true; n > 0 {
		return nil
	}
	for line != "" { // trailers
		if line, err = c.line(); err != nil {
			return err
		}
	}
	return io.EOF
}

// line reads a line, at most as long as the reader's buffer.
func (c *chunkReader) line() (string, error) {
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return "", unexpected(err)
	}
	return strings.TrimRight(string(line), "\r\n"), nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// gone is closed when the host closes the connection, or sends more than its
// request. What is left of the body is read and dropped.
func (x *exchange) gone() <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if _, err := io.Copy(io.Discard, x.body); err == nil {
			_, _ = x.in.Peek(1) // whatever comes, it is over
		}
	}()
	return ended
}

// reply answers with a document. A host that has gone away needs no answer.
func (x *exchange) reply(doc any) { x.answer(200, doc) }

// done answers a request that has no result.
func (x *exchange) done() { x.answer(200, struct{}{}) }

func (x *exchange) refuse(status int, err error) {
	x.answer(status, api.Error{Error: err.Error()})
}

func (x *exchange) answer(status int, doc any) {
	body, err := json.Marshal(doc)
	if err != nil {
		return // the API's types always marshal
	}
	_, _ = fmt.Fprintf(x.out, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s\n",
		status, reasons[status], len(body)+1, body)
}

// stream begins an answer of unknown length.
func (x *exchange) stream(contentType string) (*chunkWriter, error) {
	_, err := fmt.Fprintf(x.out, "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n", contentType)
	out := &chunkWriter{to: x.out}
	out.buf = bufio.NewWriterSize(chunks{x.out}, 32<<10)
	return out, err
}

// upgrade ends HTTP on the connection.
func (x *exchange) upgrade(protocol string) error {
	_, err := fmt.Fprintf(x.out, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", protocol)
	return err
}

// chunkWriter writes a chunked body. Without Close the body has no end, which
// tells the host that it is not complete.
type chunkWriter struct {
	buf *bufio.Writer
	to  io.Writer
}

func (c *chunkWriter) Write(b []byte) (int, error) { return c.buf.Write(b) }

func (c *chunkWriter) Close() error {
	if err := c.buf.Flush(); err != nil {
		return err
	}
	_, err := io.WriteString(c.to, "0\r\n\r\n")
	return err
}

// chunks makes a chunk of every write.
type chunks struct{ to io.Writer }

func (c chunks) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if _, err := fmt.Fprintf(c.to, "%x\r\n", len(b)); err != nil {
		return 0, err
	}
	n, err := c.to.Write(b)
	if err == nil {
		_, err = io.WriteString(c.to, "\r\n")
	}
	return n, err
}
