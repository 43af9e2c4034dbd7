package repo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// BuildRecord returns the image that was recorded for key, the fingerprint of
// a build's inputs, if the store still has it under any name. It takes no
// lock.
func (s *Store) BuildRecord(ctx context.Context, key string) (v1.Hash, bool, error) {
	if err := ctx.Err(); err != nil {
		return v1.Hash{}, false, err
	}
	digest, err := readRecord(s.recordPath(key))
	if errors.Is(err, fs.ErrNotExist) || digest == (v1.Hash{}) {
		return v1.Hash{}, false, nil
	}
	if err != nil {
		return v1.Hash{}, false, fmt.Errorf("reading a build record: %w", err)
	}
	idx, err := s.readIndex()
	if err != nil {
		return v1.Hash{}, false, err
	}
	return digest, hasDigest(idx, digest), nil
}

// PutBuildRecord records that the inputs with fingerprint key gave the image
// with the given digest. Records of images that are gone are collected. A
// crash of the host may lose a record: that costs one build.
func (s *Store) PutBuildRecord(ctx context.Context, key string, digest v1.Hash) error {
	return s.locked(ctx, func() error {
		return s.replaceFile(s.recordPath(key), []byte(digest.String()), false)
	})
}

func (s *Store) recordPath(key string) string {
	sum := sha256.Sum256([]byte(key))
	return filepath.Join(s.buildsDir(), hex.EncodeToString(sum[:]))
}

// readRecord returns the digest in a record, or the zero Hash if it holds
// none.
func readRecord(path string) (v1.Hash, error) {
	f, err := os.Open(path)
	if err != nil {
		return v1.Hash{}, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, 128))
	if err != nil {
		return v1.Hash{}, err
	}
	h, err := v1.NewHash(strings.TrimSpace(string(data)))
	if err != nil {
		return v1.Hash{}, nil //nolint:nilerr // a damaged record is no record
	}
	return h, nil
}

// sweepRecords removes the records of images that idx does not have.
func (s *Store) sweepRecords(idx *v1.IndexManifest) error {
	entries, err := os.ReadDir(s.buildsDir())
	if err != nil {
		return fmt.Errorf("reading the build records: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(s.buildsDir(), e.Name())
		digest, err := readRecord(path)
		if err != nil {
			return fmt.Errorf("reading a build record: %w", err)
		}
		if hasDigest(idx, digest) {
			continue
		}
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("removing a build record: %w", err)
		}
	}
	return nil
}

func hasDigest(idx *v1.IndexManifest, h v1.Hash) bool {
	return slices.ContainsFunc(idx.Manifests, func(d v1.Descriptor) bool { return d.Digest == h })
}
