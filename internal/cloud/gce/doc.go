// Package gce makes images of Google Compute Engine out of disks that boot by
// themselves, and runs instances of them there. It speaks the REST APIs of
// Compute Engine (v1) and of Cloud Storage (JSON, v1) by itself, in the few calls
// that it needs, with credentials by golang.org/x/oauth2's chain. What is on a
// disk is others' business.
package gce
