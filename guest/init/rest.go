//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"

	"golang.org/x/sys/unix"

	"capstan/guest/api"
)

// maxRequest bounds a request's document, in bytes: argv and environment of
// an exec are the longest, and the kernel allows them about 2 MB.
const maxRequest = 4 << 20

// serve answers one request of the REST API, as guest/api describes it.
func (g *guest) serve(conn net.Conn) {
	defer conn.Close()
	defer func() {
		// A mistake in an answer must not take the application down.
		if v := recover(); v != nil {
			g.log.warnf("the REST API: %v", v)
		}
	}()
	x, err := readRequest(conn)
	if err != nil {
		x = &exchange{out: conn}
		x.refuse(statusBadRequest, fmt.Errorf("reading the request: %w", err))
		return
	}
	switch x.method + " " + x.path {
	case "GET /v1/status":
		x.reply(g.status())
	case "GET /v1/stats":
		x.reply(readStats())
	case "POST /v1/stop":
		g.serveStop(x)
	case "POST /v1/signal":
		g.serveSignal(x)
	case "POST /v1/resize":
		g.serveResize(x)
	case "POST /v1/stdin/close":
		g.serveStdinClose(x)
	case "POST /v1/exec":
		g.serveExec(x)
	case "GET /v1/files":
		serveFiles(x)
	case "PUT /v1/files":
		takeFiles(x)
	default:
		x.refuse(statusNoSuch, fmt.Errorf("the guest knows no %s %s", x.method, x.path))
	}
}

// accept decodes a request's document, and answers itself if it cannot.
func (x *exchange) accept(doc any) bool {
	err := json.NewDecoder(io.LimitReader(x.body, maxRequest)).Decode(doc)
	if err != nil && !errors.Is(err, io.EOF) {
		x.refuse(statusBadRequest, fmt.Errorf("the request is not valid: %w", err))
		return false
	}
	return true
}

func (g *guest) status() api.Status {
	name, exit := g.state.get()
	s := api.Status{State: name, PID: g.app.pid, Started: g.app.started, Exit: exit}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err == nil {
		s.Kernel = unix.ByteSliceToString(uts.Release[:])
	}
	return s
}

func (g *guest) serveStop(x *exchange) {
	req := api.StopRequest{Timeout: -1}
	if !x.accept(&req) {
		return
	}
	select {
	case g.stops <- req:
		x.done()
	case <-g.state.exited:
		x.done()
	case <-x.gone():
	}
}

func (g *guest) serveSignal(x *exchange) {
	var req api.SignalRequest
	if !x.accept(&req) {
		return
	}
	sig, err := parseSignal(req.Signal)
	if err != nil {
		x.refuse(statusBadRequest, err)
		return
	}
	if err := g.procs.signal(g.app.process, sig); err != nil {
		x.refuse(statusConflict, errors.New("the application has ended"))
		return
	}
	x.done()
}

func (g *guest) serveResize(x *exchange) {
	var req api.ResizeRequest
	if !x.accept(&req) {
		return
	}
	if err := resize(g.app.terminal, req.Rows, req.Cols); err != nil {
		x.refuse(statusConflict, err)
		return
	}
	x.done()
}

func (g *guest) serveStdinClose(x *exchange) {
	var req api.StdinCloseRequest
	if !x.accept(&req) {
		return
	}
	if g.app.input == nil {
		x.refuse(statusConflict, errors.New("the application has no standard input"))
		return
	}
	g.app.input.close(req.After)
	x.done()
}
