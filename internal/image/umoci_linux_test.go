package image_test

import (
	"flag"
	"math/rand/v2"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"capstan/internal/image/imagetest"
)

var (
	stacks    = flag.Uint64("stacks", 200, "how many random images TestRandomStacks makes")
	firstSeed = flag.Uint64("seed", 0, "the seed of the first")
)

// TestRandomStacks: what umoci makes of random layers is what Flatten makes.
func TestRandomStacks(t *testing.T) {
	imagetest.NeedRoot(t)
	for seed := *firstSeed; seed < *firstSeed+*stacks; seed++ {
		rng := rand.New(rand.NewPCG(seed, 1))
		var layers []v1.Layer
		for _, entries := range imagetest.Stack(seed) {
			data := imagetest.Tar(t, entries...)
			layer := imagetest.Plain(data)
			if rng.IntN(2) == 0 {
				layer = imagetest.Gzip(t, data)
			}
			layers = append(layers, layer)
		}
		imagetest.EqualsUmoci(t, imagetest.Image(t, layers...))
		if t.Failed() {
			t.Fatalf("it is the stack of -seed %d", seed)
		}
	}
}
