// Package legacy reads repositories of old Capstan, so that its users can
// move: the tree that it kept on a machine, and the S3 bucket or web directory
// that it pulled from. In both, an image is a disk for each hypervisor and an
// index.yaml that describes it:
//
//	NAMESPACE/NAME/index.yaml
//	NAMESPACE/NAME/NAME.qemu       in a tree
//	NAMESPACE/NAME/NAME.qemu.gz    in a bucket
//
// There are no checksums, and nobody says who made a disk. What becomes of a
// disk is left to package opaque.
package legacy

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"capstan/internal/repo"
)

// IndexFile describes an image.
const IndexFile = "index.yaml"

// maxIndex bounds index.yaml, in bytes.
const maxIndex = 64 << 10

// Index is what an index.yaml says. All of it may be missing.
type Index struct {
	Version     string
	Created     time.Time
	Description string
	Build       string
}

// readIndex reads an index.yaml. Times that nobody can read are left out.
func readIndex(r io.Reader) (Index, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxIndex+1))
	if err != nil {
		return Index{}, fmt.Errorf("reading %s: %w", IndexFile, err)
	}
	if len(data) > maxIndex {
		return Index{}, fmt.Errorf("reading %s: it has more than %d KiB", IndexFile, maxIndex>>10)
	}
	var doc struct{ Version, Created, Description, Build yaml.Node }
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return Index{}, fmt.Errorf("reading %s: %w", IndexFile, err)
	}
	index := Index{Version: text(doc.Version), Description: text(doc.Description), Build: text(doc.Build)}
	if created, err := ParseTime(text(doc.Created)); err == nil {
		index.Created = created
	}
	return index, nil
}

// text is a value as it stands there: a version 1.10 is no number.
func text(n yaml.Node) string {
	if n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" {
		return ""
	}
	return strings.TrimSpace(n.Value)
}

// ParseTime reads the times that old Capstan wrote, and those that the makers
// of its images did.
func ParseTime(s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04", "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, time.UTC); err == nil {
			return t, nil
		}
	}
	return time.Time{}, errors.New("it is no time such as 2026-01-31T12:00:00Z or 2026-01-31 12:00")
}

// endings are those of disks that QEMU boots, the best first. A disk of GCE
// may be a text that names another place, and is left out.
var endings = []string{".qemu", ".raw", ".vbox", ".vmw", ".vmware"}

// validName reports whether a file's or key's name is one that images have
// now.
func validName(name string) bool {
	n, err := repo.ParseName(name)
	return err == nil && n.Registry == "" && n.Repository() == name
}
