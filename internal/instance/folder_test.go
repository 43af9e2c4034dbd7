package instance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func nothing(string) error { return nil }

// Many make, list, find and remove instances at the same time, in few names.
func TestManyAtOnce(t *testing.T) {
	all := Under(t.TempDir(), nil)
	var wg sync.WaitGroup
	for n := range 16 {
		wg.Go(func() {
			for round := range 25 {
				name := fmt.Sprint("name", (n+round)%10)
				i, err := all.Create(Config{ID: NewID(), Name: name, Created: time.Now()}, nothing)
				if err != nil {
					if !errors.Is(err, ErrExists) {
						t.Errorf("create: %v", err)
					}
					continue
				}
				i.maker.Close()
				if _, err := all.List(); err != nil {
					t.Errorf("list: %v", err)
				}
				if err := i.Remove(t.Context()); err != nil {
					t.Errorf("remove: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if left, err := os.ReadDir(all.dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// An instance that is to be removed when it ends goes with who made it, until
// it is started.
func TestMakerKilled(t *testing.T) {
	all, i := create(t, Config{Name: "one", Remove: true})
	if list, err := all.List(); err != nil || len(list) != 1 {
		t.Fatalf("list %v, %v", list, err)
	}
	i.maker.Close()
	if list, err := all.List(); err != nil || len(list) != 0 {
		t.Errorf("list %v, %v", list, err)
	}
	if _, err := os.Stat(i.Dir); err == nil {
		t.Error("its directory stayed")
	}
}

// A directory whose maker still works on it is not swept, however old it is.
func TestUnfinished(t *testing.T) {
	all := Under(t.TempDir(), nil)
	i, err := all.Create(Config{ID: NewID(), Name: "slow"}, func(dir string) error {
		old := time.Now().Add(-time.Hour)
		if err := os.Chtimes(dir, old, old); err != nil {
			return err
		}
		list, err := all.List()
		if len(list) != 0 {
			t.Errorf("it is to be seen before all is there: %v", list)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := all.Create(Config{ID: NewID(), Name: "bad"}, func(string) error { return errors.New("no") }); err == nil {
		t.Error("no error")
	}
	if left, err := os.ReadDir(all.dir); err != nil || len(left) != 1 || filepath.Join(all.dir, left[0].Name()) != i.Dir {
		t.Errorf("there are %v, %v", left, err)
	}
}

// What was removed cannot be removed again, nor another by its name.
func TestRemovedMeanwhile(t *testing.T) {
	all, old := create(t, Config{Name: "one"})
	if err := old.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := old.Remove(t.Context()); !errors.Is(err, ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
	if _, err := all.Create(Config{ID: NewID(), Name: "one"}, nothing); err != nil {
		t.Fatal(err)
	}
	if err := old.Remove(t.Context()); !errors.Is(err, ErrNotFound) {
		t.Errorf("another was removed: %v", err)
	}
	if _, err := all.Get("one"); err != nil {
		t.Error(err)
	}
}

// A crash of the host may leave files empty. That hides no other instance.
func TestDamaged(t *testing.T) {
	for _, file := range []string{configFile, stateFile} {
		t.Run(file, func(t *testing.T) {
			all, _ := create(t, Config{Name: "good"})
			bad, err := all.Create(Config{ID: NewID(), Name: "bad"}, nothing)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(filepath.Join(bad.Dir, file), 0); err != nil {
				t.Fatal(err)
			}
			list, err := all.List()
			if err != nil || len(list) != 2 {
				t.Fatalf("list %v, %v", list, err)
			}
			i, err := all.Get("bad")
			if err != nil || i.State.Status != Dead || !strings.Contains(i.State.Reason, file) {
				t.Fatalf("got %+v, %v", i, err)
			}
			if _, err := i.Stats(context.Background()); !errors.Is(err, ErrNotRunning) {
				t.Errorf("stats: %v", err)
			}
			if err := i.Remove(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// What a killed supervisor left as running does not look so while the next
// one begins.
func TestClaimAfterKill(t *testing.T) {
	_, i := create(t, Config{Name: "one"})
	if err := writeJSON(filepath.Join(i.Dir, stateFile), State{Status: Running, PID: 1}); err != nil {
		t.Fatal(err)
	}
	_, held, err := claim(t.Context(), i.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := i.Refresh(); err != nil || i.State.Status != Dead || i.State.PID != 0 {
		t.Errorf("state %+v, %v", i.State, err)
	}
}
