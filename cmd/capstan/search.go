package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"capstan/internal/repo"
	"capstan/internal/repo/remote"
)

// catalogTime bounds how long a registry's catalog is read.
const catalogTime = 20 * time.Second

// searchResult is a name that was found.
type searchResult struct {
	Name   string `json:"name"`
	Where  string `json:"where"`            // "store", "aliases" or a registry's host
	Target string `json:"target,omitempty"` // what an alias stands for
	Note   string `json:"note,omitempty"`   // why an image is gone
}

func newSearch(a *app) *cobra.Command {
	var old string
	cmd := &cobra.Command{
		Use:   "search [flags] [REGISTRY/][TERM]",
		Short: "Look for images by a part of their name",
		Long: "Look for images whose name has TERM in it: in the local store, in the alias table\n" +
			"and in the catalogs of the configured registries, or of REGISTRY alone. Many\n" +
			"registries have no catalog, Docker Hub among them. An old repository, of old\n" +
			"Capstan's kind, is listed where the setting repo_url or -u names it.",
		Example: "  capstan search redis\n  capstan search registry.example.org/team/\n  capstan search --format json cassandra",
		Args:    atMost(1, "one part of a name"),
	}
	format := formatFlag(cmd)
	cmd.Flags().StringVarP(&old, "repo", "u", "", "look in the old repository at `URL` alone")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		rows, err := a.searchIn(cmd, old, strings.Join(args, ""))
		if old != "" && err != nil {
			return err
		}
		perr := table[searchResult]{
			header: []string{"NAME", "WHERE", "STANDS FOR"},
			cells: func(r searchResult) []string {
				return []string{r.Name, r.Where, r.Target + r.Note}
			},
		}.print(cmd, *format, rows)
		return errors.Join(perr, err)
	}
	return cmd
}

// searchIn looks in an old repository, else in all other places.
func (a *app) searchIn(cmd *cobra.Command, old, term string) ([]searchResult, error) {
	if old != "" {
		return a.searchOld(cmd.Context(), old, strings.ToLower(term))
	}
	return a.search(cmd, term)
}

// search returns what it found even where a registry could not be asked.
func (a *app) search(cmd *cobra.Command, term string) ([]searchResult, error) {
	sources, err := a.sources()
	if err != nil {
		return nil, err
	}
	if host, rest, ok := strings.Cut(term, "/"); ok {
		if host, err := repo.ParseHost(host); err == nil {
			return a.searchRegistry(cmd, host, strings.ToLower(rest))
		}
	}
	term = strings.ToLower(term)
	rows, err := a.searchStore(cmd.Context(), term)
	if err != nil {
		return nil, err
	}
	rows = append(rows, searchAliases(sources.Aliases, term)...)
	var errs []error
	if a.settings.RepoURL != "" && !a.settings.Offline {
		found, err := a.searchOld(cmd.Context(), a.settings.RepoURL, term)
		rows, errs = append(rows, found...), append(errs, err)
	}
	for _, reg := range sources.Registries {
		if reg.FullNamesOnly {
			continue
		}
		found, err := a.searchRegistry(cmd, reg.Host, term)
		rows, errs = append(rows, found...), append(errs, err)
	}
	return rows, errors.Join(errs...)
}

func (a *app) searchStore(ctx context.Context, term string) ([]searchResult, error) {
	store, err := a.store()
	if err != nil {
		return nil, err
	}
	list, err := store.List(ctx)
	if err != nil {
		return nil, err
	}
	var rows []searchResult
	for _, e := range list {
		if !e.Name.IsZero() && strings.Contains(e.Name.String(), term) {
			rows = append(rows, searchResult{Name: e.Name.String(), Where: "store"})
		}
	}
	return rows, nil
}

func searchAliases(aliases repo.Aliases, term string) []searchResult {
	var rows []searchResult
	for _, alias := range aliases.List() {
		if strings.Contains(alias.Name, term) {
			rows = append(rows, searchResult{Name: alias.Name, Where: "aliases", Target: alias.Target, Note: alias.Gone})
		}
	}
	return rows
}

// searchRegistry reads a registry's catalog, if it has one and there is a
// network to be used.
func (a *app) searchRegistry(cmd *cobra.Command, host, term string) ([]searchResult, error) {
	if a.settings.Offline {
		note(cmd, "offline: %s is not asked", host)
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), catalogTime)
	defer cancel()
	var rows []searchResult
	whole, err := a.client().Catalog(ctx, host, func(n repo.Name) {
		if strings.Contains(n.Repository(), term) {
			rows = append(rows, searchResult{Name: n.Repository(), Where: host})
		}
	})
	switch {
	case errors.Is(err, remote.ErrNoCatalog):
		note(cmd, "%s has no catalog to search; capstan pull tells whether it has a name", host)
		return nil, nil
	case ctx.Err() != nil && cmd.Context().Err() == nil:
		note(cmd, "%s took longer than %s: there may be more", host, catalogTime)
		return rows, nil
	case err == nil && !whole:
		note(cmd, "%s has more names than capstan reads: there may be more", host)
	}
	return rows, err
}
