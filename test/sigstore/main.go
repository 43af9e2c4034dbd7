// Sigstore copies an image from a registry the way that podman and skopeo do,
// whose library this is: with a policy that decides which signatures it wants,
// and with a key to sign the copy with. Debian's own skopeo has that part taken
// out.
//
//	sigstore POLICY REGISTRIES.D SOURCE DESTINATION [KEY PASSPHRASE-FILE]
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/containers/image/v5/copy"
	"github.com/containers/image/v5/directory"
	"github.com/containers/image/v5/docker"
	"github.com/containers/image/v5/signature"
	"github.com/containers/image/v5/types"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	policy, err := signature.NewPolicyFromFile(args[0])
	if err != nil {
		return err
	}
	wants, err := signature.NewPolicyContext(policy)
	if err != nil {
		return err
	}
	defer wants.Destroy()
	source, err := docker.ParseReference("//" + args[2])
	if err != nil {
		return err
	}
	sys := &types.SystemContext{RegistriesDirPath: args[1], DockerInsecureSkipTLSVerify: types.OptionalBoolTrue}
	opts := &copy.Options{SourceCtx: sys, DestinationCtx: sys}
	if len(args) == 4 {
		to, err := directory.NewReference(args[3])
		if err != nil {
			return err
		}
		_, err = copy.Image(context.Background(), wants, to, source, opts)
		return err
	}
	to, err := docker.ParseReference("//" + args[3])
	if err != nil {
		return err
	}
	opts.SignBySigstorePrivateKeyFile = args[4]
	if opts.SignSigstorePrivateKeyPassphrase, err = os.ReadFile(args[5]); err != nil {
		return err
	}
	_, err = copy.Image(context.Background(), wants, to, source, opts)
	return err
}
