package image

import (
	"os"

	"golang.org/x/sys/unix"
)

// writeBack lets the disk begin with what was written to f, so that syncing it
// at the end does not take as long as all of it. That it cannot is no error.
func writeBack(f *os.File) {
	_ = unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
}
