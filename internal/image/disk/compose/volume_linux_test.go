package compose

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// rising fails where something is written before what was written last.
type rising struct {
	*os.File
	t  *testing.T
	at int64
}

func (r *rising) WriteAt(p []byte, at int64) (int, error) {
	if at < r.at {
		r.t.Errorf("written at %d after %d", at, r.at)
	}
	r.at = at + int64(len(p))
	return r.File.WriteAt(p, at)
}

// TestVolume: an empty volume is a file system without faults, whose identity is
// that of its bytes.
func TestVolume(t *testing.T) {
	path := filepath.Join(t.TempDir(), "volume")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	v := Volume{Size: 1 << 30}
	if err := v.Write(&rising{File: f, t: t}); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(v.Size); err != nil {
		t.Fatal(err)
	}
	check := exec.Command("e2fsck", "-fn", path)
	check.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/sbin:/usr/sbin")
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
	first, err1 := v.ID()
	again, err2 := v.ID()
	other, err3 := Volume{Size: 2 << 30}.ID()
	if err1 != nil || err2 != nil || err3 != nil || first != again || first == other || len(first) != 64 {
		t.Errorf("%s, %s, %s: %v, %v, %v", first, again, other, err1, err2, err3)
	}
}
