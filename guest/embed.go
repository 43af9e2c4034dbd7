//go:build embedguest

package guest

import _ "embed"

//go:embed build/guest-amd64
var embedded []byte

//go:embed build/guest-amd64.json
var embeddedInfo []byte
