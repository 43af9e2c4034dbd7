//go:build e2e

package image_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"capstan/internal/image/imagetest"
)

// TestRealImages: of the images of testdata/images, built as the official ones
// are, Flatten makes what umoci makes.
func TestRealImages(t *testing.T) {
	recipes, err := filepath.Glob("../../testdata/images/*/recipe.sh")
	if err != nil || len(recipes) == 0 {
		t.Fatalf("there are no images to test with, %v", err)
	}
	imagetest.NeedRoot(t)
	for _, recipe := range recipes {
		name := filepath.Base(filepath.Dir(recipe))
		t.Run(name, func(t *testing.T) {
			var problem strings.Builder
			script := exec.Command("../../testdata/images/make.sh", name)
			script.Stderr = &problem
			layout, err := script.Output()
			if err != nil {
				t.Fatalf("making the image %s: %v\n%s", name, err, &problem)
			}
			imagetest.LayoutEqualsUmoci(t, strings.TrimSpace(string(layout)), "latest")
		})
	}
}
