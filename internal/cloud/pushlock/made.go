package pushlock

import (
	"os"
	"path/filepath"
	"time"
)

// Fresh is how young an image is that another host may have made for a machine
// that it has not made of it yet: nobody else is to remove it.
const Fresh = time.Hour

const madeSuffix = ".made"

// NoteMade notes that a push of this host makes an image. path is where what is
// known of the push lies, without a suffix. Notes that are too old to matter go.
func NoteMade(path string) error {
	old, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*"+madeSuffix))
	if err != nil {
		return err
	}
	for _, name := range old {
		if info, err := os.Stat(name); err == nil && time.Since(info.ModTime()) > Fresh {
			_ = os.Remove(name) // another process may have
		}
	}
	return os.WriteFile(path+madeSuffix, nil, 0o600)
}

// IsMade tells whether NoteMade was told of a push lately.
func IsMade(path string) bool {
	_, err := os.Stat(path + madeSuffix)
	return err == nil
}
