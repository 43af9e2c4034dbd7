//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"golang.org/x/sys/unix"

	"capstan/guest/api"
)

// maxRequest bounds a request's document, in bytes: argv and environment of
// an exec are the longest, and the kernel allows them about 2 MB.
const maxRequest = 4 << 20

// handler is the REST API as guest/api describes it.
func (g *guest) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { reply(w, g.status()) })
	mux.HandleFunc("GET /v1/stats", func(w http.ResponseWriter, _ *http.Request) { reply(w, readStats()) })
	mux.HandleFunc("GET /v1/wait", g.serveWait)
	mux.HandleFunc("POST /v1/stop", g.serveStop)
	mux.HandleFunc("POST /v1/signal", g.serveSignal)
	mux.HandleFunc("POST /v1/resize", g.serveResize)
	mux.HandleFunc("POST /v1/stdin/close", g.serveStdinClose)
	mux.HandleFunc("POST /v1/exec", g.serveExec)
	mux.HandleFunc("GET /v1/files", serveFiles)
	mux.HandleFunc("PUT /v1/files", takeFiles)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotFound, errors.New("the guest knows no "+r.Method+" "+r.URL.Path))
	})
	return mux
}

// reply sends an answer; a host that has gone away needs none.
func reply(w http.ResponseWriter, doc any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(doc)
}

// done answers a request that has no result.
func done(w http.ResponseWriter) { reply(w, struct{}{}) }

func refuse(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(api.Error{Error: err.Error()})
}

// accept decodes a request's document, and answers itself if it cannot.
func accept(w http.ResponseWriter, r *http.Request, doc any) bool {
	err := json.NewDecoder(io.LimitReader(r.Body, maxRequest)).Decode(doc)
	if err != nil && !errors.Is(err, io.EOF) {
		refuse(w, http.StatusBadRequest, errors.New("the request is not valid: "+err.Error()))
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

// serveWait answers when the application has ended. PID 1 powers off only
// after the answer is on its way.
func (g *guest) serveWait(w http.ResponseWriter, r *http.Request) {
	g.waiters.Add(1)
	defer g.waiters.Done()
	select {
	case <-g.state.exited:
	case <-r.Context().Done():
		return
	}
	_, exit := g.state.get()
	reply(w, exit)
	_ = http.NewResponseController(w).Flush() // or the host has gone away
}

func (g *guest) serveStop(w http.ResponseWriter, r *http.Request) {
	req := api.StopRequest{Timeout: -1}
	if !accept(w, r, &req) {
		return
	}
	select {
	case g.stops <- req:
		done(w)
	case <-g.state.exited:
		done(w)
	case <-r.Context().Done():
	}
}

func (g *guest) serveSignal(w http.ResponseWriter, r *http.Request) {
	var req api.SignalRequest
	if !accept(w, r, &req) {
		return
	}
	sig, err := parseSignal(req.Signal)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	if err := g.procs.signal(g.app.process, sig); err != nil {
		refuse(w, http.StatusConflict, errors.New("the application has ended"))
		return
	}
	done(w)
}

func (g *guest) serveResize(w http.ResponseWriter, r *http.Request) {
	var req api.ResizeRequest
	if !accept(w, r, &req) {
		return
	}
	if err := resize(g.app.terminal, req.Rows, req.Cols); err != nil {
		refuse(w, http.StatusConflict, err)
		return
	}
	done(w)
}

func (g *guest) serveStdinClose(w http.ResponseWriter, r *http.Request) {
	var req api.StdinCloseRequest
	if !accept(w, r, &req) {
		return
	}
	if g.app.input == nil {
		refuse(w, http.StatusConflict, errors.New("the application has no standard input"))
		return
	}
	g.app.input.close(req.After)
	done(w)
}
