package repo

import (
	"fmt"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

func BenchmarkImage(b *testing.B) {
	s := testStore(b)
	for i := range 300 {
		put(b, s, fmt.Sprintf("team/app%d", i), testImage(b, i%7))
	}
	b.ResetTimer()
	for b.Loop() {
		if _, _, err := s.Image(b.Context(), "team/app150"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkList(b *testing.B) {
	s := testStore(b)
	for i := range 300 {
		put(b, s, fmt.Sprintf("team/app%d", i), testImage(b, i))
	}
	b.ResetTimer()
	for b.Loop() {
		if _, err := s.List(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPut(b *testing.B) {
	s := testStore(b)
	for i := 0; b.Loop(); i++ {
		w, err := s.LayerWriter(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		fmt.Fprintf(w, "build %d", i)
		layer, err := w.Commit()
		if err != nil {
			b.Fatal(err)
		}
		img, err := mutate.AppendLayers(testImage(b, 1), layer)
		if err != nil {
			b.Fatal(err)
		}
		put(b, s, "build", img)
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
