package erofs_test

import (
	"fmt"
	"testing"
)

// A tree of 2 GB must be written in 64 MB, the whole process counted, and what
// the package comment says of each entry.
func TestMemoryIsBounded(t *testing.T) {
	const entries = memoryEntries
	out, err := writer(t, envTar+"=-", envImage+"=-", fmt.Sprint(envEntries, "=", entries)).Output()
	if err != nil {
		t.Fatal(err)
	}
	content, peak := field(out, "content: %d"), field(out, "VmHWM: %d kB")
	if content < memoryContent {
		t.Errorf("the tree has %d bytes, want %d", content, int64(memoryContent))
	}
	if limit := int64(64<<20+entries*220) * memoryFactor; peak == 0 || peak<<10 > limit {
		t.Errorf("took %d bytes, want at most %d", peak<<10, limit)
	}
	t.Logf("%d entries of %d bytes took %d bytes", entries, content, peak<<10)
}
