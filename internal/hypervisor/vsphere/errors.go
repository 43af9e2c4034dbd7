package vsphere

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"reflect"
	"strings"
	"syscall"

	"github.com/vmware/govmomi/nfc"
	"github.com/vmware/govmomi/task"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"capstan/internal/hypervisor"
)

// errFull is said by HTTP, or as one of several faults.
var errFull = errors.New("the datastore is full")

// moreRoom is the way out of it.
const moreRoom = "make room there, or another one: GOVC_DATASTORE=NAME"

// explain puts an error of the server's, or of the way there, into a sentence
// with the way out.
func explain(host, doing string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	var told *hypervisor.RemoteError
	if errors.As(err, &told) {
		return err
	}
	say := func(err error, remedy string) error {
		return &hypervisor.RemoteError{Platform: Name, Doing: doing, Err: err, Remedy: remedy}
	}
	if fault := faultOf(err); fault != nil {
		return explainFault(host, fault, err, say)
	}
	if errors.Is(err, errFull) {
		return say(err, moreRoom)
	}
	if untrusted(err) {
		return say(fmt.Errorf("the certificate of %s is not trusted: %w", host, rootCause(err)),
			"GOVC_TLS_CA_CERTS=FILE names the certificate of its authority, GOVC_TLS_KNOWN_HOSTS=FILE its own thumbprint")
	}
	if unreachable(err) {
		return say(fmt.Errorf("%s does not answer: %w: %w", host, hypervisor.ErrUnreachable, rootCause(err)), "check GOVC_URL, and the way there")
	}
	return say(rootCause(err), "")
}

// faultOf is what the server says is wrong, nil if it is not the server who
// says it.
func faultOf(err error) types.BaseMethodFault {
	var failed task.Error
	var untold *task.Error
	switch {
	case soap.IsVimFault(err):
		return soap.ToVimFault(err)
	case errors.As(err, &failed):
		return failed.Fault()
	case errors.As(err, &untold):
		return untold.Fault()
	case soap.IsSoapFault(err):
		// It is decoded as a value, and only pointers are faults.
		value := reflect.ValueOf(soap.ToSoapFault(err).VimFault())
		if value.IsValid() && value.Kind() != reflect.Pointer {
			p := reflect.New(value.Type())
			p.Elem().Set(value)
			value = p
		}
		if value.IsValid() {
			if f, ok := value.Interface().(types.BaseMethodFault); ok {
				return f
			}
		}
		return &types.MethodFault{}
	}
	if inner := errors.Unwrap(err); inner != nil {
		return faultOf(inner)
	}
	return nil
}

// explainFault knows the faults that people meet.
func explainFault(host string, fault types.BaseMethodFault, err error, say func(error, string) error) error {
	switch f := fault.(type) {
	case *types.InvalidLogin:
		return say(fmt.Errorf("%s refuses the user name or the password", host), "check GOVC_USERNAME and GOVC_PASSWORD")
	case *types.NoPermission:
		return say(fmt.Errorf("the user lacks the privilege %s", f.PrivilegeId), "have an administrator of "+host+" give it to the user")
	case *types.ManagedObjectNotFound:
		return say(fmt.Errorf("%w: %s knows no %s", hypervisor.ErrGone, host, f.Obj.Value), "")
	case *types.NoDiskSpace:
		return say(fmt.Errorf("the datastore %s is full", f.Datastore), moreRoom)
	case *types.InsufficientStorageSpace, *types.OutOfBounds:
		return say(errFull, moreRoom)
	case *types.DuplicateName:
		return say(fmt.Errorf("the name %s is taken", f.Name), "another --name")
	}
	text := strings.TrimPrefix(err.Error(), "ServerFaultCode: ")
	if text == "" {
		text = fmt.Sprintf("%s answers with the fault %s", host, strings.TrimPrefix(fmt.Sprintf("%T", fault), "*types."))
	}
	return say(errors.New(strings.ReplaceAll(text, "\n", " ")), "")
}

// because is why a lease has ended, where the server says that: it tells more
// than err, with which the upload has ended.
func because(ctx context.Context, lease *nfc.Lease, err error) error {
	now, unknown := lease.Properties(ctx, "error")
	if unknown == nil && now.Error != nil {
		return &task.Error{LocalizedMethodFault: now.Error}
	}
	return err
}

func untrusted(err error) bool {
	return soap.IsCertificateUntrusted(err) || errors.As(err, new(x509.UnknownAuthorityError)) ||
		errors.As(err, new(x509.HostnameError)) || errors.As(err, new(x509.CertificateInvalidError)) ||
		errors.As(err, new(*tls.CertificateVerificationError))
}

func unreachable(err error) bool {
	return errors.As(err, new(net.Error)) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// rootCause is an error without the URL that an HTTP client puts before it,
// which may hold what is nobody's business.
func rootCause(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
