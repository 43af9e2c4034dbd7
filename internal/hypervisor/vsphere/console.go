package vsphere

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"

	"github.com/vmware/govmomi/nfc"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"capstan/internal/hypervisor"
)

// The machine's serial ports are files in its directory: the first is the
// kernel's, the second the application's.
const (
	kernelLog, consoleLog = "kernel.log", "console.log"

	consolePort = "/dev/ttyS1"
)

// Console reads one of the files.
func (d *Driver) Console(ctx context.Context, doc hypervisor.Handle, part hypervisor.ConsolePart) (*hypervisor.Console, error) {
	h, err := parseHandle(doc)
	if err != nil {
		return nil, err
	}
	s, err := d.connect(ctx)
	if err != nil {
		return nil, err
	}
	if h.Home == "" {
		return silent(part.Offset), nil // never started
	}
	file := consoleLog
	if part.Kernel {
		file = kernelLog
	}
	return s.read(ctx, h, file, part.Offset)
}

// silent is a console that has said nothing from an offset on.
func silent(offset int64) *hypervisor.Console {
	return &hypervisor.Console{ReadCloser: io.NopCloser(strings.NewReader("")), Offset: max(offset, 0)}
}

// read reads a file in a machine's directory, from an offset. Servers that
// know no ranges send it from the beginning.
func (s *session) read(ctx context.Context, h handle, file string, offset int64) (*hypervisor.Console, error) {
	var at object.DatastorePath
	at.FromString(h.Home)
	base := s.URL()
	u := object.NewDatastoreURL(*base, h.Datacenter, at.Datastore, path.Join(at.Path, file))
	param := soap.DefaultDownload
	switch {
	case offset > 0:
		param.Headers = map[string]string{"Range": fmt.Sprintf("bytes=%d-", offset)}
	case offset < 0:
		param.Headers = map[string]string{"Range": fmt.Sprintf("bytes=%d", offset)}
	}
	res, err := s.DownloadRequest(ctx, u, &param)
	if err != nil {
		return nil, explain(s.host, "reading the console", err)
	}
	switch res.StatusCode {
	case http.StatusPartialContent:
		c := &hypervisor.Console{ReadCloser: res.Body, Offset: offset}
		if _, err := fmt.Sscanf(res.Header.Get("Content-Range"), "bytes %d-", &c.Offset); err != nil && offset < 0 {
			res.Body.Close()
			return nil, &hypervisor.RemoteError{Platform: Name, Doing: "reading the console", Err: errors.New("the server does not say which part of the file it sends")}
		}
		return c, nil
	case http.StatusOK:
		return whole(res.Body, offset, res.ContentLength)
	case http.StatusNotFound, http.StatusRequestedRangeNotSatisfiable: // nothing (more) was said
		res.Body.Close()
		return silent(offset), nil
	}
	res.Body.Close()
	return nil, &hypervisor.RemoteError{Platform: Name, Doing: "reading the console", Err: errors.New(res.Status)}
}

// whole is the end of a file that came from its beginning.
func whole(body io.ReadCloser, offset, size int64) (*hypervisor.Console, error) {
	if offset < 0 {
		offset = max(0, size+offset)
	}
	if _, err := io.CopyN(io.Discard, body, offset); err != nil && !errors.Is(err, io.EOF) {
		body.Close()
		return nil, &hypervisor.RemoteError{Platform: Name, Doing: "reading the console", Err: rootCause(err)}
	}
	return &hypervisor.Console{ReadCloser: body, Offset: offset}, nil
}

// abandon ends the lease of an upload that a killed process has begun: while
// there is one, the machine cannot be removed. The server ends it by itself
// some minutes after the last it heard.
func (s *session) abandon(ctx context.Context, h handle) error {
	if h.Lease == "" {
		return nil
	}
	err := nfc.NewLease(s.Client, types.ManagedObjectReference{Type: "HttpNfcLease", Value: h.Lease}).Abort(ctx, nil)
	err = explain(s.host, "ending the upload", err)
	if errors.Is(err, hypervisor.ErrGone) || faultOf(err) != nil {
		return nil // it has ended, or is another session's: what follows says more
	}
	return err
}
