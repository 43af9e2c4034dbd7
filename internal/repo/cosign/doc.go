// Package cosign signs images and checks their signatures in cosign's format,
// which containers/image (skopeo, podman) reads and writes too: ECDSA P-256 over
// the SHA-256 of a "simple signing" payload that names the image's digest. The
// signatures of an image are the layers of another image beside it, whose tag
// is made of the digest.
//
// Sources: sigstore/cosign, specs/SIGNATURE_SPEC.md; containers/image,
// docs/containers-signature.5.md.
//
// How signatures are fetched and stored is left to package remote.
package cosign
