//go:build !race

package erofs_test

// What TestMemoryIsBounded demands: a tree of 2 GB, nothing added.
const (
	memoryFactor  = 1
	memoryEntries = 56000
	memoryContent = 2e9
)
