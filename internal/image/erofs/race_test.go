//go:build race

package erofs_test

// The race detector multiplies a process's memory and its time a byte.
const (
	memoryFactor  = 4
	memoryEntries = 5600
	memoryContent = 190e6
)
