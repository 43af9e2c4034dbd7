package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"capstan/internal/repo"
	"capstan/internal/repo/registrytest"
)

func TestCatalog(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	const many = 1500 // of which the registry gives 1000 at once
	for i := range many {
		dir := filepath.Join(reg.Dir, "docker", "registry", "v2", "repositories", "team", fmt.Sprintf("app%04d", i), "_manifests")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{}
	whole, err := New(Options{}).Catalog(t.Context(), reg.Host, func(n repo.Name) { seen[n.Repository()] = true })
	if err != nil || !whole || len(seen) != many || !seen[reg.Host+"/team/app0000"] || !seen[fmt.Sprintf("%s/team/app%04d", reg.Host, many-1)] {
		t.Errorf("%d names, whole %v, %v", len(seen), whole, err)
	}
}

func TestNoCatalog(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{Auth: true})
	_, err := New(Options{}).Catalog(t.Context(), reg.Host, func(repo.Name) { t.Error("a name was found") })
	if !errors.Is(err, ErrNoCatalog) || err.Error() != "registry "+reg.Host+" has no catalog" {
		t.Errorf("a registry that wants a login: %v", err)
	}
}

// lyingCatalog serves what page returns for each request of the catalog, with
// where the next page is.
func lyingCatalog(t *testing.T, page func(n int) (body, next string)) (host string) {
	t.Helper()
	n := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/v2/_catalog") {
			return
		}
		body, next := page(n)
		n++
		if next != "" {
			w.Header().Set("Link", fmt.Sprintf(`<%s>; rel="next"`, next))
		}
		fmt.Fprint(w, body)
	}))
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

// What a catalog must not do: go on without end, lead elsewhere, fill memory.
func TestLyingCatalogs(t *testing.T) {
	for _, c := range []struct {
		name  string
		page  func(n int) (body, next string)
		found int
		want  string // an error; "" for none, with more than was read
	}{
		{"the same again and again", func(int) (string, string) { return `{"repositories":["a","b"]}`, "/v2/_catalog?last=b" }, 2, ""},
		{"without end", func(n int) (string, string) {
			names := make([]string, 5000)
			for i := range names {
				names[i] = fmt.Sprintf(`"r%d-%d"`, n, i)
			}
			return `{"repositories":[` + strings.Join(names, ",") + `]}`, "/v2/_catalog?last=x"
		}, maxCatalog, ""},
		{"elsewhere", func(int) (string, string) { return `{"repositories":["a"]}`, "http://127.0.0.1:1/v2/_catalog" }, 0, "the next page is said to be at"},
		{"too large", func(int) (string, string) { return `{"repositories":["` + strings.Repeat("a", maxPage), "" }, 0, "reading the catalog"},
		{"no JSON", func(int) (string, string) { return `<html>`, "" }, 0, "reading the catalog"},
	} {
		found := 0
		host := lyingCatalog(t, c.page)
		whole, err := New(Options{}).Catalog(t.Context(), host, func(repo.Name) { found++ })
		if whole || found != c.found || (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %d names, whole %v, %v", c.name, found, whole, err)
		}
	}
	var got []string
	host := lyingCatalog(t, func(int) (string, string) {
		return `{"repositories":["ok","../up","UP","a/../b","x:1","` + strings.Repeat("a", 300) + `"]}`, ""
	})
	whole, err := New(Options{}).Catalog(t.Context(), host, func(n repo.Name) { got = append(got, n.String()) })
	if err != nil || !whole || len(got) != 2 || got[0] != host+"/ok:latest" {
		t.Errorf("odd names: %v, %v, %v", got, whole, err)
	}
}

// The end of the time that a caller gives leaves what was found.
func TestSlowCatalog(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	host := lyingCatalog(t, func(n int) (string, string) { return fmt.Sprintf(`{"repositories":["r%d"]}`, n), "/v2/_catalog?last=x" })
	found := 0
	whole, err := New(Options{Pause: time.Millisecond}).Catalog(ctx, host, func(repo.Name) {
		if found++; found == 3 {
			cancel()
		}
	})
	if whole || found != 3 || !errors.Is(err, context.Canceled) {
		t.Errorf("%d names, whole %v, %v", found, whole, err)
	}
}
