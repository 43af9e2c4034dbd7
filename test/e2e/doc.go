// Package e2e tests the capstan binary as its users have it: real programs of
// Debian's packages and small ones of its own, in real virtual machines,
// served to real clients. It is built with the tag e2e:
//
//	make && go test -tags e2e -timeout 40m ./test/e2e
//
// With the tag images too it has the container images of testdata/images, from
// a registry; make test-images runs these alone.
//
// CAPSTAN_BIN names the binary, ../../bin/capstan without it. Every test has a
// capstan root of its own, and fails if anything is left of it at its end.
package e2e
