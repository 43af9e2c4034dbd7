package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"capstan/internal/repo"
)

// Error is what went wrong with a registry, in one sentence.
type Error struct {
	Host   string
	Reason string // completes "registry HOST …"
	Status int    // of its answer; 0 if there was none
	Err    error
	hint   string
	lie    bool // what it gave contradicts what it said
}

func (e *Error) Error() string { return "registry " + e.Host + " " + e.Reason }

// Unwrap returns what lies below.
func (e *Error) Unwrap() error { return e.Err }

// Hint says what may help.
func (e *Error) Hint() string { return e.hint }

// Is makes errors.Is(err, repo.ErrNotFound) true of what a registry does not
// have.
func (e *Error) Is(target error) bool {
	return target == repo.ErrNotFound && e.Status == http.StatusNotFound
}

// explain turns an error of a request at p, for what, into a sentence.
func explain(p place, what string, err error) error {
	var done *Error
	if err == nil || errors.As(err, &done) || errors.Is(err, context.Canceled) {
		return err
	}
	e := &Error{Host: p.host, Err: err}
	var status *transport.Error
	var cert *tls.CertificateVerificationError // then plain HTTP was tried too
	if errors.As(err, &status) && !errors.As(err, &cert) {
		e.Status = status.StatusCode
		e.answer(p, what, status)
		return e
	}
	e.connection(err)
	return e
}

// answer explains a registry's answer: OCI distribution specification v1.1,
// "Error Codes".
func (e *Error) answer(p place, what string, err *transport.Error) {
	said := ""
	if len(err.Errors) > 0 && err.Errors[0].Message != "" {
		said = ": " + oneLine(err.Errors[0].Message)
	}
	switch err.StatusCode {
	case http.StatusUnauthorized:
		e.Reason, e.hint = "wants other credentials, or has no "+p.repo.RepositoryStr(), "capstan login "+p.host
	case http.StatusForbidden:
		e.Reason, e.hint = "denies access to "+p.repo.RepositoryStr()+said, "capstan login "+p.host+" as somebody who may"
	case http.StatusNotFound:
		if what == "" {
			what = p.repo.RepositoryStr()
		}
		e.Reason, e.hint = "has no "+what, "look at the name and the tag"
	case http.StatusTooManyRequests:
		e.Reason, e.hint = "was asked too often", "again later, or capstan login "+p.host+": registries allow more to those they know"
	default:
		e.Reason, e.hint = fmt.Sprintf("answers %d %s%s", err.StatusCode, http.StatusText(err.StatusCode), said), "again later"
	}
}

// connection explains why there was no answer.
func (e *Error) connection(err error) {
	var (
		dns     *net.DNSError
		cert    *tls.CertificateVerificationError
		plain   *plainError
		refused *redirectError
	)
	var large *tooLargeError
	switch {
	case errors.As(err, &large):
		e.Reason, e.hint, e.lie = fmt.Sprintf("gave a manifest of more than %d MiB, which is refused", maxDocument>>20), "another image", true
	case errors.As(err, &refused):
		e.Reason = "cannot be used: " + refused.Error()
	case errors.As(err, &cert):
		e.Reason = "has a certificate that is not trusted: " + oneLine(cert.Err.Error())
		e.hint = "set ca: FILE for it under registries: in config.yaml"
	case errors.As(err, &plain), speaksPlain(err):
		e.Reason = "speaks plain HTTP, which is for registries on this machine"
		e.hint = "set insecure: true for it under registries: in config.yaml"
	case errors.As(err, &dns) && dns.IsNotFound:
		e.Reason, e.hint = "cannot be found: there is no such host", "look at the name, and at the network"
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Reason, e.hint = "cannot be reached: the connection is refused", "look whether it runs, and at its port"
	case errors.Is(err, errStalled):
		e.Reason, e.hint = "does not answer", "again later; HTTPS_PROXY is used where it is set"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		e.Reason, e.hint = "breaks off again and again: "+oneLine(bare(err).Error()), "again later"
	default:
		err = bare(err)
		e.Reason, e.hint = "cannot be reached: "+oneLine(err.Error()), "look at the network; HTTPS_PROXY is used where it is set"
	}
}

// bare returns err without the address that it was of, which the sentence
// around it tells.
func bare(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// oneLine keeps what others say to a line of bearable length.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 300 {
		return strings.ToValidUTF8(s[:300], "") + "…"
	}
	return s
}
