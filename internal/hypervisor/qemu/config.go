package qemu

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"time"

	"capstan/guest/api"
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
	_, err = f.Write(initramfs(api.ConfigPath, doc))
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

// initramfs is an archive of one file and the directory that it lies in.
func initramfs(name string, content []byte) []byte {
	return newArchive().directory(path.Dir(name)[1:], 0o700).file(name[1:], 0o600, content).end()
}

// archive is a cpio archive in the "newc" format of Linux's
// Documentation/driver-api/early-userspace/buffer-format.rst.
type archive struct {
	bytes.Buffer
	entries int
}

func newArchive() *archive { return &archive{} }

func (a *archive) directory(name string, permissions int) *archive {
	return a.entry(name, 0o040000|permissions, nil)
}

func (a *archive) file(name string, permissions int, content []byte) *archive {
	return a.entry(name, 0o100000|permissions, content)
}

func (a *archive) end() []byte { return a.entry("TRAILER!!!", 0, nil).Bytes() }

func (a *archive) entry(name string, mode int, content []byte) *archive {
	a.entries++
	fmt.Fprintf(a, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		a.entries, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0)
	for _, part := range [][]byte{append([]byte(name), 0), content} {
		a.Write(part)
		a.Write(make([]byte, -a.Len()&3))
	}
	return a
}
