package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"capstan/internal/image"
	"capstan/internal/image/disk"
	"capstan/internal/image/opaque"
	"capstan/internal/repo"
	"capstan/internal/repo/legacy"
)

// Old Capstan's images: those in the folder repository of the root are listed
// and run as if they were in the store, where their first use copies them to;
// others come from its kind of bucket by pull -u.

func (a *app) oldTree() legacy.Tree { return legacy.TreeUnder(a.settings.Root) }

// oldImages are those of old Capstan's repository in the root that the store
// does not have, as entries without a digest.
func (a *app) oldImages(stored []repo.Entry) ([]repo.Entry, error) {
	list, err := a.oldTree().List()
	if err != nil {
		return nil, err
	}
	have := map[string]bool{}
	for _, e := range stored {
		have[e.Name.String()] = true
	}
	var entries []repo.Entry
	for _, img := range list {
		name, err := repo.ParseName(img.Name)
		if err != nil || have[name.String()] {
			continue
		}
		e := repo.Entry{Name: name, Size: img.Size, Created: img.Index.Created, Path: img.Path}
		if e.Disk, err = formatOf(img.Path); err != nil {
			e.Problem = err.Error()
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// formatOf is the format of the disk in a file.
func formatOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	head := make([]byte, disk.HeadSize)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return "", err
	}
	format, err := disk.Recognise(head[:n])
	return string(format), err
}

// obtainOld returns n as the store has it, after copying it there from old
// Capstan's repository in the root; "" where neither has it under that name.
func (a *app) obtainOld(cmd *cobra.Command, store *repo.Store, n repo.Name) (string, error) {
	img, ok := a.oldTree().Find(n)
	if !ok {
		return "", nil
	}
	if found, err := store.Find(cmd.Context(), n.String()); err != nil || found != "" {
		return found, err
	}
	entry, err := a.adoptOld(cmd, img)
	if err != nil {
		return "", err
	}
	return entry.Name.String(), nil
}

// adoptOld copies an image of old Capstan's repository into the store.
func (a *app) adoptOld(cmd *cobra.Command, img legacy.Image) (repo.Entry, error) {
	name, err := repo.ParseName(img.Name)
	if err != nil {
		return repo.Entry{}, err
	}
	entry, config, err := a.importFile(cmd, name, img.Path, oldOptions(img.Index))
	if err == nil {
		note(cmd, "imported %s from %s (%s)", entry.Name, img.Path, describeDisk(config))
	}
	return entry, err
}

func oldOptions(index legacy.Index) opaque.Options {
	return opaque.Options{Version: index.Version, Description: index.Description, Build: index.Build, Created: index.Created}
}

// importAll copies all images of an old root or repository into the store, but
// for those that it has.
func (a *app) importAll(cmd *cobra.Command, dir string) error {
	tree := a.oldTree()
	if dir != "" {
		tree = legacy.TreeAt(dir)
	}
	list, err := tree.List()
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return &hinted{fmt.Errorf("%s holds no images of old Capstan's", tree), "capstan import --all DIR, where DIR is old Capstan's root"}
	}
	store, err := a.store()
	if err != nil {
		return err
	}
	var errs []error
	for _, img := range list {
		if _, _, err := store.Image(cmd.Context(), img.Name); err == nil {
			note(cmd, "%s is in the store already", img.Name)
			continue
		}
		entry, err := a.adoptOld(cmd, img)
		if cmd.Context().Err() != nil {
			return cmd.Context().Err()
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintln(cmd.OutOrStdout(), entry.Digest)
	}
	return errors.Join(errs...)
}

// oldRepository opens the repository at a URL.
func (a *app) oldRepository(address string) (*legacy.Remote, error) {
	from, err := legacy.Open(address, func(host string) bool { return a.settings.Registries.Get(host).Insecure })
	if err == nil && a.settings.Offline {
		err = &offlineError{from.String()}
	}
	return from, err
}

// offlineError is an old repository that is not to be asked.
type offlineError struct{ where string }

func (e *offlineError) Error() string {
	return "offline: the old repository " + e.where + " is not asked"
}

// Hint is the way out.
func (e *offlineError) Hint() string { return "--offline=false, or a name that the local store has" }

// pullSet brings an image from the old repository of the settings, if there is
// one and it has the image; else it notes in nowhere that it has not.
func (a *app) pullSet(cmd *cobra.Command, n repo.Name, opts image.PullOptions, nowhere *repo.NotFoundError) (repo.Entry, error) {
	if a.settings.RepoURL == "" || !legacy.Has(n) {
		return repo.Entry{}, nil
	}
	if opts.Verify != nil {
		nowhere.Looked = append(nowhere.Looked, "the old repository of the setting repo_url (which has no signatures)")
		return repo.Entry{}, nil
	}
	entry, err := a.pullOld(cmd, a.settings.RepoURL, n, opts)
	var offline *offlineError
	switch {
	case errors.As(err, &offline):
		nowhere.Unasked = append(nowhere.Unasked, offline.where)
		return repo.Entry{}, nil
	case errors.Is(err, repo.ErrNotFound):
		nowhere.Looked = append(nowhere.Looked, "the old repository of the setting repo_url")
		return repo.Entry{}, nil
	case err != nil:
		// The same name elsewhere may be somebody else's image: so this is the
		// end of the search.
		hint := "remove the setting repo_url, or give the name its registry"
		if own := hintFor(err); own != "" {
			hint = own + "; or " + hint
		}
		return repo.Entry{}, &hinted{err, hint}
	}
	return entry, nil
}

// searchOld lists the images of an old repository.
func (a *app) searchOld(ctx context.Context, address, term string) ([]searchResult, error) {
	from, err := a.oldRepository(address)
	if err != nil {
		return nil, err
	}
	names, err := from.List(ctx)
	if err != nil {
		return nil, err
	}
	var rows []searchResult
	for _, name := range names {
		if strings.Contains(name, term) {
			rows = append(rows, searchResult{Name: name, Where: from.String()})
		}
	}
	return rows, nil
}

// pullOld brings an image from an old repository into the store.
func (a *app) pullOld(cmd *cobra.Command, address string, n repo.Name, opts image.PullOptions) (repo.Entry, error) {
	if opts.Verify != nil {
		return repo.Entry{}, usage(cmd, fmt.Errorf("--verify-key: old repositories have no signatures"))
	}
	from, err := a.oldRepository(address)
	if err != nil {
		return repo.Entry{}, err
	}
	found, err := from.Image(cmd.Context(), n)
	if err != nil {
		return repo.Entry{}, err
	}
	defer found.Body.Close()
	note(cmd, "%s is an old repository, without checksums or signatures: nobody can tell whether %s is what was put there", from, n.Repository())
	store, err := a.store()
	if err != nil {
		return repo.Entry{}, err
	}
	in := io.Reader(found.Body)
	if found.Size > 0 && opts.Progress != nil {
		in = &counted{found.Body, found.Key, 0, found.Size, opts.Progress}
	}
	entry, _, err := opaque.Import(cmd.Context(), store, n, in, oldOptions(found.Index))
	if err != nil {
		return repo.Entry{}, fmt.Errorf("pulling %s: %w", found.Key, err)
	}
	return entry, nil
}

// counted tells how far a download is.
type counted struct {
	io.Reader
	what        string
	done, total int64
	progress    image.Progress
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.done += int64(n)
	if c.done < c.total || errors.Is(err, io.EOF) {
		c.progress.Update(c.what, c.done, c.total)
	}
	return n, err
}
