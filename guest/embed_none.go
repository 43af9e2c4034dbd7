//go:build !embedguest

package guest

// A binary that was not made by make brings no guest.
var embedded, embeddedInfo []byte
