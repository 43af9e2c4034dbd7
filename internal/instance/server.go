package instance

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"capstan/guest/api"
)

// serve opens the supervisor's socket. Only this user reaches it: the
// directory is closed to others.
func (s *supervisor) serve() (*http.Server, error) {
	os.Remove(filepath.Join(s.inst.Dir, socketFile)) // of a killed predecessor; the lock is ours
	listener, err := listen(s.inst.Dir)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /console", s.serveConsole)
	mux.HandleFunc("POST /console", s.serveStdin)
	mux.HandleFunc("GET /wait", s.serveWait)
	mux.HandleFunc("GET /up", s.serveUp)
	mux.HandleFunc("POST /stop", s.serveStop)
	mux.HandleFunc("POST /kill", s.serveKill)
	mux.HandleFunc("/guest/", s.serveGuest)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go server.Serve(listener) // ends with the server's Shutdown
	return server, nil
}

func (s *supervisor) serveConsole(w http.ResponseWriter, r *http.Request) {
	offset, err := strconv.ParseInt(r.URL.Query().Get("offset"), 10, 64)
	if err != nil || offset < 0 {
		refuse(w, http.StatusBadRequest, errors.New("offset is no number of bytes"))
		return
	}
	flush := func() { http.NewResponseController(w).Flush() }
	follow := s.console.follow
	if r.URL.Query().Get("all") == "true" {
		follow = s.console.followAll
	}
	follow(r.Context(), w, offset, flush) // its error: the reader is gone
}

// serveStdin passes the body on to the application as its input.
func (s *supervisor) serveStdin(w http.ResponseWriter, r *http.Request) {
	m, g, _ := s.current()
	if m == nil {
		refuse(w, http.StatusConflict, ErrNotRunning)
		return
	}
	n, err := io.Copy(m.Console(), r.Body)
	total := s.sent(n)
	if err != nil {
		refuse(w, http.StatusInternalServerError, err)
		return
	}
	if g == nil {
		return // a serial port has no end
	}
	if err := g.post(r.Context(), "/v1/stdin/close", api.StdinCloseRequest{After: total}); err != nil {
		refuse(w, http.StatusBadGateway, err)
	}
}

func (s *supervisor) serveWait(w http.ResponseWriter, r *http.Request) {
	http.NewResponseController(w).Flush() // who asks is sure of an answer from here on
	select {
	case <-s.over:
		_, _, state := s.current()
		json.NewEncoder(w).Encode(state)
	case <-r.Context().Done():
	}
}

// upBound is how long a guest that says nothing is waited for.
const upBound = 20 * time.Second

func (s *supervisor) serveUp(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), upBound)
	defer cancel()
	m, g, state := s.current()
	if m != nil && g == nil {
		json.NewEncoder(w).Encode(state) // a system of its own: more than that it runs cannot be known
		return
	}
	if g == nil || g.up(ctx) != nil {
		select { // no answer: the machine has ended, or does not come up in time
		case <-s.ended:
		case <-ctx.Done():
		}
	}
	_, _, state = s.current()
	json.NewEncoder(w).Encode(state)
}

func (s *supervisor) serveStop(w http.ResponseWriter, r *http.Request) {
	timeout, err := strconv.Atoi(r.URL.Query().Get("timeout"))
	if err != nil {
		refuse(w, http.StatusBadRequest, errors.New("timeout is no number of seconds"))
		return
	}
	if err := s.stop(r.Context(), timeout); err != nil {
		refuse(w, http.StatusInternalServerError, err)
	}
}

func (s *supervisor) serveKill(w http.ResponseWriter, r *http.Request) {
	if err := s.kill(); err != nil {
		refuse(w, http.StatusInternalServerError, err)
	}
}

// serveGuest hands a request on to the guest's REST API.
func (s *supervisor) serveGuest(w http.ResponseWriter, r *http.Request) {
	m, g, _ := s.current()
	if m == nil {
		refuse(w, http.StatusConflict, ErrNotRunning)
		return
	}
	if g == nil {
		refuse(w, http.StatusNotImplemented, errors.New("it runs a system of its own from a disk image, in which Capstan cannot do this"))
		return
	}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "guest"})
	proxy.Transport = g.client.Transport
	proxy.FlushInterval = -1
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, err error) {
		refuse(w, http.StatusBadGateway, err)
	}
	http.StripPrefix("/guest", proxy).ServeHTTP(w, r)
}

func refuse(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(api.Error{Error: err.Error()})
}
