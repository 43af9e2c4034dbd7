// Package remote talks to registries: it finds images there, downloads their
// blobs and uploads those of the local store. It speaks the OCI distribution
// specification v1.1 and Docker's registry API v2, which are the same but for
// media types; authentication is go-containerregistry's.
//
// What comes from a registry is not trusted. Documents are bounded, sizes are
// those of the manifest, digests are verified by whoever keeps the bytes.
// Credentials go to the registry they are for and to the token server that it
// names over the same connection, never to where it redirects to. Plain HTTP
// is for registries on this machine and those that the configuration says it
// of.
//
// What is kept on this machine, and how an image is made of it, is left to
// packages repo and image.
package remote
