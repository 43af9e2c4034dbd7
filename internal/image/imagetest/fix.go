package imagetest

import (
	"fmt"
	"strconv"
	"strings"
)

// FixTar puts right the checksums of a tar's headers, so that what a fuzzer
// changed in them is read. A header is taken to follow on each file's content.
func FixTar(data []byte) {
	const block = 512
	for len(data) >= block {
		header := data[:block]
		copy(header[148:156], "        ")
		sum := 0
		for _, b := range header {
			sum += int(b)
		}
		if sum != 8*' ' { // else the end of the archive
			copy(header[148:156], fmt.Sprintf("%06o\x00 ", sum))
		} else {
			clear(header)
		}
		size, err := strconv.ParseUint(strings.Trim(string(header[124:136]), " \x00"), 8, 32)
		if err != nil {
			size = 0
		}
		data = data[min(uint64(len(data)), block+(size+block-1)/block*block):]
	}
}
