//go:build !linux && !darwin

package source

import (
	"io/fs"
	"os"
	"path/filepath"
)

const openFlags = os.O_RDONLY

// metaOf gives everything the mode 0755, because the host has none.
func metaOf(info fs.FileInfo) meta {
	m := meta{mode: info.Mode(), size: info.Size(), mtime: info.ModTime().UnixNano()}
	m.mode = m.mode.Type() | 0o755
	return m
}

func deviceNumbers(uint64) (major, minor int64) { return 0, 0 }

// capability returns nil: only Linux has file capabilities.
func capability(*os.File) ([]byte, error) { return nil, nil }

// slashed returns a host path with slashes.
func slashed(s string) string { return filepath.ToSlash(s) }
