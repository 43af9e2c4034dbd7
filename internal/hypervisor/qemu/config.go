package qemu

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"capstan/guest/api"
	"capstan/internal/image/initramfs"
)

// configFile is the initramfs with the instance's config, in its directory.
const configFile = "config.cpio"

// writeConfig writes the initramfs and returns its path. Only the user may
// read it: environments hold secrets.
func writeConfig(dir string, config api.Config) (string, error) {
	if config.Time == 0 {
		config.Time = time.Now().UnixNano()
	}
	doc, err := json.Marshal(config)
	if err != nil {
		return "", fmt.Errorf("writing the instance's config: %w", err)
	}
	f, err := os.CreateTemp(dir, configFile+".*") // 0600
	if err != nil {
		return "", fmt.Errorf("writing the instance's config: %w", err)
	}
	defer os.Remove(f.Name()) // gone by then, unless something fails
	_, err = f.Write(initramfs.Config(doc))
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	name := filepath.Join(dir, configFile)
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return "", fmt.Errorf("writing the instance's config: %w", err)
	}
	return name, nil
}
