package dockerconfig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"

	"github.com/docker/docker-credential-helpers/client"
	"github.com/docker/docker-credential-helpers/credentials"
)

// program runs a credential helper, whose protocol is secrets by standard
// input, until ctx ends.
func program(ctx context.Context, name string) client.ProgramFunc {
	return func(args ...string) client.Program {
		return &process{exec.CommandContext(ctx, name, args...)}
	}
}

type process struct{ *exec.Cmd }

func (p *process) Input(in io.Reader) { p.Stdin = in }

func store(ctx context.Context, path, helper, key, user, secret string) error {
	err := client.Store(program(ctx, helper), &credentials.Credentials{ServerURL: key, Username: user, Secret: secret})
	return helperError(ctx, path, helper, err)
}

// erase reports whether the helper had something.
func erase(ctx context.Context, path, helper, key string) (bool, error) {
	_, err := client.Get(program(ctx, helper), key)
	if credentials.IsErrCredentialsNotFound(err) {
		return false, nil
	}
	if err == nil {
		err = client.Erase(program(ctx, helper), key)
	}
	return err == nil, helperError(ctx, path, helper, err)
}

func helperError(ctx context.Context, path, helper string, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	if _, lerr := exec.LookPath(helper); lerr != nil && errors.Is(lerr, exec.ErrNotFound) {
		return &Error{path, fmt.Errorf("leaves the credentials to %s, which is not installed", helper),
			"install it, or take credsStore and credHelpers out of the file"}
	}
	return &Error{path, fmt.Errorf("leaves the credentials to %s, which failed: %s", helper, strings.Join(strings.Fields(err.Error()), " ")),
		"what " + helper + " needs, such as an unlocked keyring"}
}
