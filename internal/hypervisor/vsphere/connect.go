package vsphere

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/find"
	govmomi "github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/soap"

	"capstan/internal/hypervisor"
)

// session is a connection to a server, logged in.
type session struct {
	*vim25.Client
	host    string // for messages
	manager *govmomi.Manager
	options Options
}

// connect returns the driver's session, and begins it where there is none.
func (d *Driver) connect(ctx context.Context) (*session, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.session == nil {
		s, err := d.options.login(ctx)
		if err != nil {
			return nil, err
		}
		d.session = s
	}
	return d.session, nil
}

// login connects to the server that the options name.
func (o Options) login(ctx context.Context) (*session, error) {
	u, err := o.server()
	if err != nil {
		return nil, err
	}
	insecure := false
	if o.Insecure != "" {
		if insecure, err = strconv.ParseBool(o.Insecure); err != nil {
			return nil, o.wrong("GOVC_INSECURE", "insecure", fmt.Sprintf("%q is neither true nor false", o.Insecure))
		}
	}
	client := soap.NewClient(u, insecure)
	if o.CACerts != "" {
		if err := client.SetRootCAs(o.CACerts); err != nil {
			return nil, o.wrong("GOVC_TLS_CA_CERTS", "ca_certs", err.Error())
		}
	}
	if err := client.LoadThumbprints(o.KnownHosts); err != nil {
		return nil, o.wrong("GOVC_TLS_KNOWN_HOSTS", "known_hosts", err.Error())
	}
	host := u.Hostname()
	vim, err := vim25.NewClient(ctx, client)
	if err != nil {
		return nil, explain(host, "", err)
	}
	s := &session{Client: vim, host: host, manager: govmomi.NewManager(vim), options: o}
	if err := s.manager.Login(ctx, u.User); err != nil {
		return nil, explain(host, "logging in", err)
	}
	return s, nil
}

func (s *session) logout(ctx context.Context) error { return s.manager.Logout(ctx) }

// server is the URL of the server, with who logs in there.
func (o Options) server() (*url.URL, error) {
	if o.URL == "" {
		return nil, &hypervisor.UnavailableError{Platform: Name, Reason: "no server is named", Remedy: "GOVC_URL=esxi.example.com, with GOVC_USERNAME and GOVC_PASSWORD; or url: in the section vsphere: of config.yaml"}
	}
	u, err := soap.ParseURL(o.URL)
	if err != nil || u.Hostname() == "" {
		return nil, o.wrong("GOVC_URL", "url", "it is no URL of a server") // what it is may hold a password
	}
	name, password := u.User.Username(), o.Password
	if p, ok := u.User.Password(); ok && password == "" {
		password = p
	}
	if o.Username != "" {
		name = o.Username
	}
	if password == "" && o.PasswordFile != "" {
		if password, err = readPassword(o.PasswordFile); err != nil {
			return nil, err
		}
	}
	if name == "" || password == "" {
		return nil, &hypervisor.UnavailableError{Platform: Name, Reason: "no user name or no password for " + u.Hostname(), Remedy: "GOVC_USERNAME and GOVC_PASSWORD; or username: and password_file: in the section vsphere: of config.yaml"}
	}
	u.User = url.UserPassword(name, password)
	return u, nil
}

// readPassword reads the first line of a file that is its owner's alone.
func readPassword(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("%s: reading password_file: %w", Name, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("%s: reading password_file: %w", Name, err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return "", &hypervisor.RemoteError{Platform: Name, Err: fmt.Errorf("others can read the password in %s", path), Remedy: "chmod 600 " + path}
	}
	text, err := io.ReadAll(io.LimitReader(f, 4<<10))
	if err != nil {
		return "", fmt.Errorf("%s: reading password_file: %w", Name, err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSuffix(line, "\r"), nil
}

// wrong is a setting that cannot be used.
func (o Options) wrong(variable, key, problem string) error {
	return &hypervisor.RemoteError{
		Platform: Name, Err: errors.New(problem), Doing: variable,
		Remedy: fmt.Sprintf("see %s, or %s: in the section vsphere: of config.yaml", variable, key),
	}
}

// finder looks things up below a datacenter.
func (s *session) finder() *find.Finder { return find.NewFinder(s.Client, true) }
