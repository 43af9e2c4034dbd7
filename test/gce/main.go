// Gce is Google Cloud for tests, as far as Capstan speaks with it: Cloud
// Storage is fake-gcs-server, with a stricter way of taking uploads in pieces
// before it; Compute Engine decodes what it is asked into the types of Google's
// own client, and unpacks the disks of which images are made with GNU tar. It
// is a module of its own, so that Capstan's has nothing to do with all that.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"

	"cloud.google.com/go/compute/apiv1/computepb"
	"github.com/fsouza/fake-gcs-server/fakestorage"
)

// token is what calls must carry, once it is asked for at /token.
const token = "ya29.not-a-secret"

func main() {
	dir := flag.String("dir", ".", "`folder` for the images' disks")
	address := flag.String("address", "", "`address` of machines, which then boot nothing")
	flag.Parse()
	var err error
	if flag.NArg() == 2 && flag.Arg(0) == relayWord {
		err = relay(flag.Arg(1))
	} else {
		err = serve(*dir, *address)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func serve(dir, address string) error {
	backend, err := fakestorage.NewServerWithOptions(fakestorage.Options{NoListener: true, Scheme: "http", Writer: io.Discard})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", giveToken)
	mux.Handle("/storage/v1/", authorized(&storage{backend: backend.HTTPHandler()}))
	mux.Handle("/upload/", authorized(&uploads{backend: backend.HTTPHandler(), open: map[string]*upload{}}))
	compute := &compute{
		dir: dir, address: address, storage: backend, images: map[string]*made{}, operations: map[string]*work{},
		firewalls: map[string]*computepb.Firewall{}, templates: map[string]*computepb.InstanceTemplate{}, regional: map[string]*computepb.InstanceTemplate{}, machines: map[string]*machine{}, groups: map[string]*computepb.InstanceGroupManager{},
		disks: map[string]*volume{}, lacking: map[string][]*computepb.ManagedInstance{},
	}
	mux.Handle("/compute/v1/projects/", authorized(compute.routes()))
	fmt.Println(l.Addr())
	return http.Serve(l, mux)
}

// giveToken answers a service account (RFC 7523).
func giveToken(w http.ResponseWriter, r *http.Request) {
	if r.FormValue("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" || strings.Count(r.FormValue("assertion"), ".") != 2 {
		http.Error(w, `{"error":"invalid_grant"}`, http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"access_token":%q,"token_type":"Bearer","expires_in":3600}`, token)
}

func authorized(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+token {
			refuse(w, http.StatusUnauthorized, "Invalid Credentials")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// refuse answers as Google's APIs tell errors.
func refuse(w http.ResponseWriter, status int, format string, args ...any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"error":{"code":%d,"message":%q}}`, status, fmt.Sprintf(format, args...))
}
