package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"capstan/internal/repo"
	"capstan/internal/repo/cosign"
)

func newSign(a *app) *cobra.Command {
	var key string
	cmd := &cobra.Command{
		Use:   "sign --key FILE NAME",
		Short: "Sign an image in its registry",
		Long: "Sign an image that lies in a registry. The signature is stored beside it, where\n" +
			"cosign, podman, skopeo and --verify-key look for it. The key is an ECDSA P-256 one\n" +
			"in PEM; the passphrase of a key that has one is $COSIGN_PASSWORD, or asked for.\n" +
			"What is signed is a digest, which goes to standard output: the one that the local\n" +
			"store has by this name, if it has one, and that the registry must have too.",
		Example: "  capstan sign --key cosign.key registry.example.org/team/app:1.2\n" +
			"  capstan run --verify-key cosign.pub registry.example.org/team/app:1.2",
		Args:              exactly(1, "the name of an image"),
		ValidArgsFunction: a.completeImages,
	}
	cmd.Flags().StringVar(&key, "key", "", "the private key's `FILE`")
	cmd.MarkFlagFilename("key", "key", "pem")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if key == "" {
			return usage(cmd, errors.New("capstan sign needs --key"))
		}
		n, err := repo.ParseName(args[0])
		if err != nil {
			return err
		}
		n = n.At(a.settings.Registries.Default())
		if a.settings.Offline {
			return errOffline("signing " + n.String())
		}
		private, err := cosign.ReadPrivateKey(key, func() ([]byte, error) { return passphrase(cmd, key) })
		if err != nil {
			return err
		}
		digest, err := a.toSign(cmd.Context(), n)
		if err != nil {
			return err
		}
		signature, err := cosign.Sign(n.Repository(), digest, private)
		if err != nil {
			return err
		}
		if err := a.client().AddSignature(cmd.Context(), n, digest, signature); err != nil {
			return err
		}
		note(cmd, "signed %s", n)
		fmt.Fprintln(cmd.OutOrStdout(), digest)
		return nil
	}
	return cmd
}

// toSign returns the digest that n stands for in its registry, which must not
// be another than the one that the store has by this name: nobody should sign
// what somebody else has pushed meanwhile.
func (a *app) toSign(ctx context.Context, n repo.Name) (v1.Hash, error) {
	there, err := a.client().Digest(ctx, n)
	if err != nil {
		return v1.Hash{}, err
	}
	store, err := a.store()
	if err != nil {
		return v1.Hash{}, err
	}
	_, entry, err := store.Image(ctx, n.String())
	if errors.Is(err, repo.ErrNotFound) {
		return there, nil
	}
	if err != nil {
		return v1.Hash{}, err
	}
	here := entry.Digest
	if entry.Origin != nil {
		here = entry.Origin.Digest
	}
	if here != there && entry.Digest != there {
		return v1.Hash{}, &hinted{
			fmt.Errorf("%s is %s in the registry, and %s in the local store", n, there.Hex[:12], here.Hex[:12]),
			fmt.Sprintf("capstan push it first, or name what to sign: %s@%s", n.Repository(), there),
		}
	}
	return there, nil
}

// passphrase returns what a private key is encrypted with.
func passphrase(cmd *cobra.Command, key string) ([]byte, error) {
	if secret, ok := os.LookupEnv("COSIGN_PASSWORD"); ok {
		return []byte(secret), nil
	}
	fd := int(os.Stdin.Fd())
	if !term.IsTerminal(fd) {
		return nil, &hinted{errors.New("there is no terminal to ask for it at"), "COSIGN_PASSWORD in the environment"}
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "Passphrase of %s: ", key)
	secret, err := readPassword(cmd.Context(), fd)
	fmt.Fprintln(cmd.ErrOrStderr())
	return []byte(secret), err
}

// verifier returns what checks that an image was signed with the private half
// of the key in a file, or nil where no file is named.
func (a *app) verifier(key string) (func(context.Context, repo.Name, v1.Hash) error, error) {
	if key == "" {
		return nil, nil
	}
	public, err := cosign.ReadPublicKey(key)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, n repo.Name, digest v1.Hash) error {
		signatures, err := a.client().Signatures(ctx, n, digest)
		if err != nil {
			return err
		}
		if err := cosign.Verify(signatures, digest, public); err != nil {
			return &hinted{
				fmt.Errorf("%s is not signed with the key %s: of %d signatures beside %s none fits", n, key, len(signatures), digest.Hex[:12]),
				"do not use it, unless you know where it comes from; capstan sign signs an image of your own",
			}
		}
		return nil
	}, nil
}

// verifyStored checks an image that the store has already, and returns its
// digest.
func (a *app) verifyStored(ctx context.Context, store *repo.Store, ref string, verify func(context.Context, repo.Name, v1.Hash) error) (string, error) {
	_, entry, err := store.Image(ctx, ref)
	if err != nil {
		return "", err
	}
	if entry.Origin == nil {
		return "", &hinted{
			fmt.Errorf("%s came from no registry, where signatures are", ref),
			"capstan push and sign it and pull it again, or leave out --verify-key",
		}
	}
	if a.settings.Offline {
		return "", errOffline("looking for the signatures of " + ref)
	}
	return entry.Digest.String(), verify(ctx, entry.Origin.Name, entry.Origin.Digest)
}
