package pushlock

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// What this host has made is known for as long as that matters.
func TestMade(t *testing.T) {
	dir := t.TempDir()
	first, second := filepath.Join(dir, "first"), filepath.Join(dir, "second")
	if err := NoteMade(first); err != nil || !IsMade(first) || IsMade(second) {
		t.Fatalf("the first is noted: %t, and the second: %t, %v", IsMade(first), IsMade(second), err)
	}
	old := time.Now().Add(-Fresh - time.Minute)
	if err := os.Chtimes(first+madeSuffix, old, old); err != nil {
		t.Fatal(err)
	}
	if err := NoteMade(second); err != nil || IsMade(first) || !IsMade(second) {
		t.Errorf("the first is noted: %t, and the second: %t, %v", IsMade(first), IsMade(second), err)
	}
}
