package disk

import (
	"bytes"
	"fmt"
	"strings"
)

// Where OSv's disks hold the command line: behind the boot sector, up to the
// 63 sectors that its loader reads (arch/x64/boot16.S).
const (
	osvLine     = sector
	osvSectors  = 63
	osvLineSize = osvSectors * sector
	// MaxOSvLine is the longest command line, in bytes.
	MaxOSvLine = osvLineSize - 1
	// OSvHead is how much of the disk SetOSvLine may change.
	OSvHead = osvLine + osvLineSize
)

// osvPacket is what OSv's loader asks the BIOS for to get at the command
// line: 63 sectors from the second on, to 0000:7e00 (a "disk address packet",
// INT 13h, AH=42h). Nothing else has a reason to.
var osvPacket = []byte{0x10, 0, osvSectors, 0, 0x00, 0x7e, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0}

func isOSv(mbr []byte) bool { return bytes.Contains(mbr[:mbrPartitions], osvPacket) }

// OSvLine is the command line in the first OSvHead bytes of an OSv disk.
func OSvLine(head []byte) string {
	line, _, _ := bytes.Cut(head[osvLine:OSvHead], []byte{0})
	return string(line)
}

// SetOSvLine puts a command line into the first OSvHead bytes of an OSv disk.
func SetOSvLine(head []byte, line string) error {
	if strings.ContainsRune(line, 0) {
		return fmt.Errorf("OSv's command line ends at a zero byte, and cannot hold one")
	}
	if len(line) > MaxOSvLine {
		return fmt.Errorf("OSv's command line has room for %d bytes, and this one has %d", MaxOSvLine, len(line))
	}
	clear(head[osvLine:OSvHead])
	copy(head[osvLine:], line)
	return nil
}

// OSvEnv is the option of OSv's command line that sets a variable. Blanks
// would end the option, so they are escaped, as the escape itself is.
func OSvEnv(name, value string) string {
	return OSvOption("env", name+"="+value)
}

var osvEscape = strings.NewReplacer(`\`, `\\`, " ", `\ `, "\t", "\\\t")

// OSvOption is an option of OSv's command line: "--cwd=/srv".
func OSvOption(name, value string) string { return "--" + name + "=" + osvEscape.Replace(value) }

// OSvWord is a word of a command in OSv's command line, in quotes where OSv
// would else not take it for one word (core/commands.cc).
func OSvWord(s string) string {
	if s != "" && !strings.ContainsAny(s, " \t\n\f\r\v;&!\"'\\") {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s) + `"`
}
