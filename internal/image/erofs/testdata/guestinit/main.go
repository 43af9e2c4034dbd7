// Command guestinit is the PID 1 of the erofs package's guest test. It mounts
// the image on /dev/vda and writes a list of all that is in it, every file
// read, to /dev/vdb.
package main

import (
	"bufio"
	"encoding/gob"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"capstan/internal/image/erofs/erofstest"
	"capstan/internal/image/guesttest/pid1"
)

func main() { pid1.Main(run) }

func run() error {
	if err := pid1.Mount("/dev/vda", "/image", "erofs", unix.MS_RDONLY, ""); err != nil {
		return err
	}
	files, err := erofstest.FromDir("/image")
	if err != nil {
		return err
	}
	out, err := os.OpenFile("/dev/vdb", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	buf := bufio.NewWriterSize(out, 1<<20)
	if err := gob.NewEncoder(buf).Encode(files); err != nil {
		return fmt.Errorf("writing the list: %w", err)
	}
	if err := buf.Flush(); err != nil {
		return fmt.Errorf("writing the list: %w", err)
	}
	return out.Close()
}
