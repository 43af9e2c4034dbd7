//go:build linux

package ec2test

import (
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

// serveMetadata is a machine's metadata server, until l is closed: version 2
// only, which wants a token in each request ("Use the Instance Metadata
// Service to access instance metadata").
func (m *machine) serveMetadata(l net.Listener) {
	values := map[string]string{
		"/latest/user-data": string(m.userData), "/latest/meta-data/local-hostname": m.hostname,
		"/latest/meta-data/instance-id": m.id, "/latest/meta-data/instance-type": m.kind, "/latest/meta-data/public-ipv4": m.address,
	}
	var tokens sync.Map
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /latest/api/token", func(w http.ResponseWriter, r *http.Request) {
		const longest = 21600 // seconds
		ttl, err := strconv.Atoi(r.Header.Get("X-aws-ec2-metadata-token-ttl-seconds"))
		switch {
		case err != nil || ttl < 1 || ttl > longest:
			http.Error(w, "Bad Request", http.StatusBadRequest)
		case r.Header.Get("X-Forwarded-For") != "":
			http.Error(w, "Forbidden", http.StatusForbidden)
		default:
			token := rand.Text()
			tokens.Store(token, time.Now().Add(time.Duration(ttl)*time.Second))
			_, _ = io.WriteString(w, token) // the guest may be gone
		}
	})
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		until, ok := tokens.Load(r.Header.Get("X-aws-ec2-metadata-token"))
		value := values[r.URL.Path]
		switch {
		case !ok || time.Now().After(until.(time.Time)):
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
		case value == "":
			http.NotFound(w, r)
		default:
			_, _ = io.WriteString(w, value) // the guest may be gone
		}
	})
	_ = http.Serve(l, mux) // ends with l
}

const relayWord = "ec2test-relay-to"

// QEMU starts the test's own program for every connection of a machine to its
// metadata server, with relayWord and where that is.
func init() {
	if len(os.Args) == 3 && os.Args[1] == relayWord {
		if err := relay(os.Args[2]); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// relay carries a connection, which is this process's standard input and
// output, to an address.
func relay(address string) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(conn, os.Stdin)
		os.Exit(0) // the machine has closed its end
	}()
	_, err = io.Copy(os.Stdout, conn)
	return errors.Join(err, conn.Close())
}
