package export_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/windows"

	"capstan/internal/image/disk/export"
)

// TestSparse: files of raw disks may have holes.
func TestSparse(t *testing.T) {
	for _, format := range []export.Format{export.Raw, export.VHDFixed} {
		f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
		if err != nil {
			t.Fatal(err)
		}
		err = export.Write(t.Context(), f, format, export.Disk{Size: 1 << 30, Content: func(_ context.Context, w io.WriterAt) error {
			_, err := w.WriteAt([]byte{1}, 1<<29)
			return err
		}})
		if err != nil {
			t.Fatal(err)
		}
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		if info.Sys().(*syscall.Win32FileAttributeData).FileAttributes&windows.FILE_ATTRIBUTE_SPARSE_FILE == 0 {
			t.Errorf("%s: its file is not sparse", format)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
