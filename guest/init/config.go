//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"capstan/guest/api"
)

// maxConfig bounds the config document, in bytes.
const maxConfig = 4 << 20

// loadConfig reads the config from the initramfs, or from the partition that
// carries it on a disk.
func loadConfig() (cfg api.Config, onDisk bool, err error) {
	doc, err := readBounded(api.ConfigPath)
	if errors.Is(err, fs.ErrNotExist) {
		onDisk = true
		var path string
		if !until(deviceWait, func() bool { path = findDevice("/sys", "partlabel:"+api.ConfigPartition); return path != "" }) {
			return cfg, onDisk, errors.New("the machine has no instance config")
		}
		doc, err = readBounded(path)
	}
	if err != nil {
		return cfg, onDisk, fmt.Errorf("reading the instance config: %w", err)
	}
	cfg, err = parseConfig(doc)
	return cfg, onDisk, err
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	doc, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, err
	}
	// Zero bytes after the document, as a partition has them, are not part of it.
	doc = bytes.TrimRight(doc, "\x00")
	switch {
	case len(doc) > maxConfig:
		return nil, fmt.Errorf("it is larger than %d MiB", maxConfig>>20)
	case len(doc) == 0:
		return nil, errors.New("it is empty")
	}
	return doc, nil
}

// parseConfig decodes and checks a config.
func parseConfig(doc []byte) (api.Config, error) {
	cfg, ok := decodeConfig(doc)
	if !ok {
		cfg = api.Config{}
		if err := json.Unmarshal(doc, &cfg); err != nil {
			return cfg, fmt.Errorf("the instance config is not valid: %w", err)
		}
	}
	if cfg.Version != api.Version {
		return cfg, fmt.Errorf("the instance config has version %d, this guest knows version %d", cfg.Version, api.Version)
	}
	if len(cfg.Args) == 0 || cfg.Args[0] == "" {
		return cfg, errors.New("the instance config names no program to run")
	}
	if len(cfg.Root.Lower) == 0 {
		return cfg, errors.New("the instance config names no root disk")
	}
	for _, s := range append(append([]string{cfg.Workdir, cfg.User}, cfg.Args...), cfg.Env...) {
		if strings.ContainsRune(s, 0) {
			return cfg, errors.New("the instance config has a zero byte in an argument, the environment, the user or the working directory")
		}
	}
	if cfg.StopSignal != "" {
		if _, err := parseSignal(cfg.StopSignal); err != nil {
			return cfg, fmt.Errorf("the instance config is not valid: %w", err)
		}
	}
	return cfg, nil
}
