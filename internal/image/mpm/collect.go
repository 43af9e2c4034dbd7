package mpm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"capstan/internal/image/rofs"
)

// Collect writes what is in a tree to the directory in which an application's
// content is collected, in the place of what was there.
func (a *Application) Collect(ctx context.Context, tree *rofs.Tree) (dir string, err error) {
	temp, err := os.MkdirTemp(a.dir, CollectDir+"-")
	if err != nil {
		return "", fmt.Errorf("collecting the package: %w", err)
	}
	defer os.RemoveAll(temp) // unless it was renamed
	root, err := os.OpenRoot(temp)
	if err != nil {
		return "", fmt.Errorf("collecting the package: %w", err)
	}
	if err := errors.Join(tree.Extract(ctx, root), root.Close()); err != nil {
		return "", fmt.Errorf("collecting the package: %w", err)
	}
	dir = filepath.Join(a.dir, CollectDir)
	if err := errors.Join(os.Chmod(temp, 0o755), os.RemoveAll(dir)); err != nil {
		return "", fmt.Errorf("collecting the package: %w", err)
	}
	return dir, os.Rename(temp, dir)
}
