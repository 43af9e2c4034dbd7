// Package repo holds what images are called and where they are kept on this
// machine: image names, and the local store under $CAPSTAN_ROOT.
//
// The store is an OCI image layout (image-spec v1.1, image-layout.md) that
// other tools can read, with three additions beside it: roots flattened from
// images and cached by digest, records of builds, and locks.
//
//	store/oci-layout, store/index.json, store/blobs/sha256/…  the layout
//	store/lock          held while the index changes or garbage is collected
//	store/tmp/<stage>/  what one process is adding; orphaned once unlocked
//	roots/<hex>.erofs   flattened roots, made once and hard-linked by instances
//	builds/<hex>        fingerprint of a build's inputs → digest of its image
//
// Any number of processes may use a store at once. Three rules make that so:
//
//   - Readers take no lock. Every file is written elsewhere, synced, and
//     renamed into place, so what a path shows is whole or absent.
//   - A blob appears under blobs/ only under the lock, together with the index
//     entry that needs it. Whatever the index does not reach, under the lock,
//     is garbage; collecting it never has to wait for a build under way.
//   - Locks are flock(2) locks, which die with their process. A stage whose
//     lock is free belonged to a process that was killed.
//
// What an image means, how it is flattened and how it is built is left to
// package image.
package repo
