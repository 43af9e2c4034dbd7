package qemu

import "errors"

func inheritedChannels() (*channels, error) {
	return nil, errors.New("QEMU inherits no sockets on Windows")
}
