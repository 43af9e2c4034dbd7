package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/spf13/cobra"

	"capstan/internal/image"
	"capstan/internal/repo"
	"capstan/internal/repo/remote"
)

// What --pull says of images.
const (
	pullMissing = "missing"
	pullAlways  = "always"
	pullNever   = "never"
)

// pullFlags say how an image is obtained.
type pullFlags struct {
	policy    pullPolicy
	verifyKey string
}

// pullPolicy is --pull's value.
type pullPolicy string

func (p *pullPolicy) String() string { return string(*p) }
func (p *pullPolicy) Type() string   { return "policy" }

// Set takes one of the three words.
func (p *pullPolicy) Set(s string) error {
	if s != pullMissing && s != pullAlways && s != pullNever {
		return errors.New("no such policy")
	}
	*p = pullPolicy(s)
	return nil
}

// add adds the flags to a command, in whose words the image is what.
func (f *pullFlags) add(cmd *cobra.Command, what string) {
	f.policy = pullMissing
	cmd.Flags().Var(&f.policy, "pull", "when to pull "+what+": missing, always or never")
	takesOneOf(cmd, "pull", pullMissing, pullAlways, pullNever)
	verifyFlag(cmd, &f.verifyKey, what)
}

// verifyFlag adds --verify-key to a command.
func verifyFlag(cmd *cobra.Command, key *string, what string) {
	cmd.Flags().StringVar(key, "verify-key", "", "take "+what+" only if it is signed with the private half of the key in `FILE`")
	cmd.MarkFlagFilename("verify-key", "pub", "pem")
}

// sources is where images may come from beside the store.
func (a *app) sources() (repo.Sources, error) {
	aliases, err := repo.LoadAliases(filepath.Join(a.settings.Root, "aliases.yaml"))
	return repo.Sources{Aliases: aliases, Registries: a.settings.Registries}, err
}

// find returns ref as the store has it: ref itself, else the first full name
// that it may stand for. Where the store has none of them, found is "".
func (a *app) find(ctx context.Context, store *repo.Store, ref string) (found string, err error) {
	found, err = store.Find(ctx, ref)
	n, named := nameOrDigest(ref)
	if !named && errors.As(err, new(*repo.NameError)) {
		return "", nil
	}
	if err != nil || found != "" || !named {
		return found, err
	}
	sources, err := a.sources()
	if err != nil {
		return "", err
	}
	candidates, err := sources.Candidates(n)
	if errors.As(err, new(*repo.GoneError)) {
		return "", nil
	}
	var refs []string
	for _, c := range candidates {
		refs = append(refs, c.String())
	}
	if err != nil {
		return "", err
	}
	return store.Find(ctx, refs...)
}

// nameOrDigest tells a name from a digest, which is in the store or nowhere,
// and from what is neither.
func nameOrDigest(ref string) (n repo.Name, named bool) {
	n, err := repo.ParseName(ref)
	return n, err == nil && !strings.HasPrefix(ref, "sha256:")
}

// stored is find for commands that need the image: where the store has it
// under no name, it returns ref, of which the store will say so.
func (a *app) stored(ctx context.Context, store *repo.Store, ref string) (string, error) {
	found, err := a.find(ctx, store, ref)
	if err != nil || found != "" {
		return found, err
	}
	if n, named := nameOrDigest(ref); named {
		if img, ok := a.oldTree().Find(n); ok {
			return "", &hinted{fmt.Errorf("%s is in old Capstan's repository, %s, and not in the store", ref, img.Path), fmt.Sprintf("capstan import %s %s, which copies it", ref, img.Path)}
		}
	}
	return ref, nil
}

// obtain returns ref as the store has it, after pulling it where the flags and
// the store's content ask for that. Where it must be signed, it is, and what is
// returned is its digest: a name might mean another image by the time of its use.
func (a *app) obtain(cmd *cobra.Command, store *repo.Store, ref string, f pullFlags) (string, error) {
	verify, err := a.verifier(f.verifyKey)
	if err != nil {
		return "", err
	}
	n, named := nameOrDigest(ref)
	if f.policy != pullAlways && named && verify == nil { // nobody signed what old Capstan had
		if found, err := a.obtainOld(cmd, store, n); err != nil || found != "" {
			return found, err
		}
	}
	if f.policy != pullAlways || !named {
		found, err := a.find(cmd.Context(), store, ref)
		if found != "" && err == nil && verify != nil {
			found, err = a.verifyStored(cmd.Context(), store, found, verify)
		}
		if err != nil || found != "" {
			return found, err
		}
	}
	if f.policy == pullNever || !named {
		return ref, nil // of which the store says that it is not there
	}
	progress := newProgress(cmd, false)
	entry, err := a.pull(cmd, n, image.PullOptions{Progress: progress, Verify: verify})
	progress.close()
	if err != nil {
		return "", err
	}
	if verify != nil {
		return entry.Digest.String(), nil
	}
	return entry.Name.String(), nil
}

// pull brings the image that name stands for into the store: the first that is
// found of those that it may stand for.
func (a *app) pull(cmd *cobra.Command, n repo.Name, opts image.PullOptions) (repo.Entry, error) {
	store, err := a.store()
	if err != nil {
		return repo.Entry{}, err
	}
	sources, err := a.sources()
	if err != nil {
		return repo.Entry{}, err
	}
	nowhere := &repo.NotFoundError{Ref: strings.TrimSuffix(n.String(), ":"+repo.DefaultTag), Looked: []string{store.Place()}}
	if entry, err := a.pullSet(cmd, n, opts, nowhere); err != nil || !entry.Name.IsZero() {
		return entry, err
	}
	candidates, err := sources.Candidates(n)
	if err != nil {
		return repo.Entry{}, err
	}
	if len(candidates) == 0 {
		nowhere.Looked = append(nowhere.Looked, "any registry, as none is configured for short names")
	}
	// An interrupt ends the download, not the process: nothing is to be left.
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
	defer stop()
	for _, c := range candidates {
		if a.settings.Offline {
			nowhere.Unasked = append(nowhere.Unasked, c.String())
			continue
		}
		entry, err := a.pullOne(ctx, cmd, store, c, opts)
		if err == nil {
			return entry, nil
		}
		why, absent := a.absent(ctx, c, err)
		if !absent || why != "" && n.Registry != "" {
			return repo.Entry{}, interrupted(ctx, err)
		}
		if why != "" {
			nowhere.Login = c.Registry
		}
		nowhere.Looked = append(nowhere.Looked, c.String()+why)
	}
	return repo.Entry{}, interrupted(ctx, nowhere)
}

// absent tells that a registry does not have an image from other reasons not
// to get it, which end the search: the same name in the next registry may be
// somebody else's image. Registries that nobody is logged in to refuse also
// what they do not have.
func (a *app) absent(ctx context.Context, n repo.Name, err error) (why string, absent bool) {
	if errors.Is(err, repo.ErrNotFound) {
		return "", true
	}
	var answer *remote.Error
	if !errors.As(err, &answer) || answer.Status != http.StatusUnauthorized && answer.Status != http.StatusForbidden {
		return "", false
	}
	reg, err := name.NewRegistry(n.Registry)
	if err != nil {
		return "", false
	}
	auth, err := authn.Resolve(ctx, authn.DefaultKeychain, reg)
	return " (which wants a login)", err == nil && auth == authn.Anonymous
}

// pullOne pulls one image, and says if its tag has moved since last time.
func (a *app) pullOne(ctx context.Context, cmd *cobra.Command, store *repo.Store, n repo.Name, opts image.PullOptions) (repo.Entry, error) {
	_, before, berr := store.Image(ctx, n.String())
	entry, err := image.Pull(ctx, store, a.client(), n, opts)
	if err != nil || berr != nil || before.Origin == nil || entry.Origin == nil {
		return entry, err
	}
	if was, is := before.Origin.Digest, entry.Origin.Digest; was != is {
		if bars, ok := opts.Progress.(*progress); ok {
			bars.close() // the last ones would take the note's place
		}
		note(cmd, "%s has moved: it was %s %s, and is %s now", n, was.Hex[:12], ago(before.Origin.Pulled), is.Hex[:12])
	}
	return entry, nil
}
