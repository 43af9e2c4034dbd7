// Package guest finds the guest, kernel and PID 1 in one bzImage: embedded in
// the binary where make built it, else in the capstan root. It also unpacks
// the kernel from it, which QEMU boots directly and without the time that a
// guest takes to decompress itself.
package guest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
)

// Info is the record that the guest's build leaves beside the guest.
type Info struct {
	Kernel string `json:"kernel"` // release, "6.12.117"
}

// Files are a guest's files on this host.
type Files struct {
	// Kernel is the bzImage with PID 1 linked in.
	Kernel string
	// Decompressed is the ELF file inside it.
	Decompressed string
	Info         Info
}

// MissingError says that there is no guest, and how to get one.
type MissingError struct{ Dir string }

func (e *MissingError) Error() string {
	return "this binary was built without a guest, and there is none in " + e.Dir
}

// Hint is the way out.
func (e *MissingError) Hint() string {
	return "build capstan with make, or put the guest there: make guest && cp guest/build/guest-amd64* " + e.Dir
}

const imageName = "guest-amd64"

// Locate returns the guest's files, unpacking them below root at first use.
func Locate(root string) (Files, error) {
	dir := filepath.Join(root, "guest")
	info, f, err := record(dir)
	if err != nil {
		return Files{}, err
	}
	own := filepath.Join(dir, identity(info))
	f.Kernel, f.Decompressed = filepath.Join(own, "bzImage"), filepath.Join(own, "vmlinux")
	if _, err := os.Stat(own); err == nil {
		return f, nil
	}
	image := embedded
	if len(image) == 0 {
		if image, err = os.ReadFile(filepath.Join(dir, imageName)); err != nil {
			return Files{}, fmt.Errorf("reading the guest: %w", err)
		}
	}
	if err := unpack(dir, own, image); err != nil {
		return Files{}, fmt.Errorf("unpacking the guest: %w", err)
	}
	return f, nil
}

// Record returns what is known of the guest, without unpacking it.
func Record(root string) (Info, error) {
	_, f, err := record(filepath.Join(root, "guest"))
	return f.Info, err
}

func record(dir string) ([]byte, Files, error) {
	doc := embeddedInfo
	if len(doc) == 0 {
		var err error
		doc, err = os.ReadFile(filepath.Join(dir, imageName+".json"))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, Files{}, &MissingError{dir}
		}
		if err != nil {
			return nil, Files{}, fmt.Errorf("reading the guest's record: %w", err)
		}
	}
	var f Files
	if err := json.Unmarshal(doc, &f.Info); err != nil {
		return nil, Files{}, fmt.Errorf("reading the guest's record: %w", err)
	}
	return doc, f, nil
}

// identity names an unpacked guest. Hashing the record, which holds the hash
// of all that the guest was built from, spares reading the image every time.
func identity(info []byte) string {
	sum := sha256.Sum256(info)
	return hex.EncodeToString(sum[:8])
}

// unpack makes folder own with all its files, or nothing.
func unpack(dir, own string, image []byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(dir, ".tmp-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := os.WriteFile(filepath.Join(tmp, "bzImage"), image, 0o600); err != nil {
		return err
	}
	elf, err := os.OpenFile(filepath.Join(tmp, "vmlinux"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(extract(elf, image), elf.Sync(), elf.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, own); err != nil {
		if _, statErr := os.Stat(own); statErr == nil {
			return nil // another process was quicker
		}
		return err
	}
	return nil
}

// Offsets in the x86 boot protocol's setup header
// (Documentation/arch/x86/boot.rst, protocol 2.08 and later).
const (
	setupSects    = 0x1f1
	headerMagic   = 0x202
	payloadOffset = 0x248
	payloadLength = 0x24c
	headerEnd     = 0x250

	// maxKernel bounds what a payload may unpack to.
	maxKernel = 256 << 20
)

// extract writes the ELF file that is a bzImage's payload to w.
func extract(w io.Writer, image []byte) error {
	if len(image) < headerEnd || string(image[headerMagic:headerMagic+4]) != "HdrS" {
		return errors.New("it is no bzImage")
	}
	sectors := int(image[setupSects])
	if sectors == 0 {
		sectors = 4
	}
	start := (sectors+1)*512 + int(binary.LittleEndian.Uint32(image[payloadOffset:]))
	end := start + int(binary.LittleEndian.Uint32(image[payloadLength:]))
	if start < 0 || end < start || end > len(image) {
		return errors.New("its payload lies outside of the file")
	}
	payload := image[start:end]
	if !bytes.HasPrefix(payload, []byte{0x28, 0xb5, 0x2f, 0xfd}) {
		return errors.New("its payload is not compressed with zstd")
	}
	// Four bytes behind the frame hold the unpacked size.
	z, err := zstd.NewReader(bytes.NewReader(payload[:len(payload)-4]), zstd.WithDecoderMaxMemory(maxKernel), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return err
	}
	defer z.Close()
	_, err = io.Copy(w, io.LimitReader(z, maxKernel))
	return err
}
