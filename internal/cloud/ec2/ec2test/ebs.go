//go:build linux

package ec2test

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const blockSize = 512 << 10

// snapshot is what the proxy knows of one that is being written.
type snapshot struct {
	size     int64 // GiB
	complete bool
	blocks   map[int][sha256.Size]byte
	path     string // of the disk that it is of
}

func bad(format string, args ...any) *refusal {
	return &refusal{http.StatusBadRequest, "ValidationException", fmt.Sprintf(format, args...), false}
}

// startSnapshot is StartSnapshot's body.
type startSnapshot struct {
	VolumeSize  int64
	ClientToken string
	Description string
	Timeout     int
	Tags        []struct{ Key, Value string }
}

// startOf is a call that was checked before.
func startOf(body []byte) (in startSnapshot) {
	_ = json.Unmarshal(body, &in)
	return in
}

func checkStart(body []byte) *refusal {
	var in startSnapshot
	dec := json.NewDecoder(strings.NewReader(string(body)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		return bad("%v", err)
	}
	switch {
	case in.VolumeSize < 1 || in.VolumeSize > 65536:
		return bad("VolumeSize %d", in.VolumeSize)
	case in.ClientToken == "" || len(in.ClientToken) > 255:
		return bad("ClientToken %q", in.ClientToken)
	case in.Timeout < 10 || in.Timeout > 4320:
		return bad("Timeout %d", in.Timeout)
	case len(in.Description) > 255 || len(in.Tags) == 0 || len(in.Tags) > 50:
		return bad("Description %q, %d tags", in.Description, len(in.Tags))
	}
	for _, t := range in.Tags {
		if said := checkTag(t.Key, t.Value); said != nil {
			return said
		}
	}
	return nil
}

func checkTag(key, value string) *refusal {
	if key == "" || len(key) > 127 || len(value) > 255 || strings.HasPrefix(key, "aws:") {
		return bad("tag %q=%q", key, value)
	}
	return nil
}

func (c *Cloud) checkPut(r *http.Request, body []byte) *refusal {
	m := blockPath.FindStringSubmatch(r.URL.Path)
	s := c.snapshots[m[1]]
	if s == nil {
		return &refusal{http.StatusNotFound, "ResourceNotFoundException", "The snapshot " + m[1] + " does not exist.", false}
	}
	index, err := strconv.Atoi(strings.TrimPrefix(m[2], "/"))
	digest := sha256.Sum256(body)
	switch {
	case err != nil || int64(index) >= s.size<<30/blockSize:
		return bad("block %s of a snapshot of %d GiB", m[2], s.size)
	case s.complete:
		return bad("block %d of a snapshot that is complete", index)
	case len(body) != blockSize || r.Header.Get("X-Amz-Data-Length") != strconv.Itoa(blockSize):
		return bad("a block of %d bytes, said to be %s", len(body), r.Header.Get("X-Amz-Data-Length"))
	case r.Header.Get("X-Amz-Checksum-Algorithm") != "SHA256" || r.Header.Get("X-Amz-Checksum") != base64Of(digest[:]):
		return bad("block %d has not the checksum %s", index, r.Header.Get("X-Amz-Checksum"))
	}
	return nil
}

func (c *Cloud) checkComplete(r *http.Request) *refusal {
	id := path.Base(r.URL.Path)
	s := c.snapshots[id]
	if s == nil {
		return &refusal{http.StatusNotFound, "ResourceNotFoundException", "The snapshot " + id + " does not exist.", false}
	}
	h := sha256.New()
	for _, index := range slices.Sorted(maps.Keys(s.blocks)) {
		digest := s.blocks[index]
		h.Write(digest[:])
	}
	switch {
	case s.complete:
		return &refusal{http.StatusBadRequest, "ValidationException", id + " is complete already", true}
	case r.Header.Get("X-Amz-Changedblockscount") != strconv.Itoa(len(s.blocks)):
		return bad("ChangedBlocksCount is %s and not %d", r.Header.Get("X-Amz-Changedblockscount"), len(s.blocks))
	case r.Header.Get("X-Amz-Checksum-Aggregation-Method") != "LINEAR" || r.Header.Get("X-Amz-Checksum-Algorithm") != "SHA256":
		return bad("checksum by %s of %s", r.Header.Get("X-Amz-Checksum-Aggregation-Method"), r.Header.Get("X-Amz-Checksum-Algorithm"))
	case r.Header.Get("X-Amz-Checksum") != base64Of(h.Sum(nil)):
		return bad("the blocks have not the checksum %s", r.Header.Get("X-Amz-Checksum"))
	}
	return nil
}

// started notes a snapshot, and makes good what moto does not tell of it.
func (c *Cloud) started(body, answer []byte) []byte {
	var said map[string]any
	if err := json.Unmarshal(answer, &said); err != nil {
		c.t.Errorf("moto's StartSnapshot: %v", err)
		return answer
	}
	said["BlockSize"] = blockSize
	answer, _ = json.Marshal(said)
	in := startOf(body)
	id, _ := said["SnapshotId"].(string)
	s := &snapshot{size: in.VolumeSize, blocks: map[int][sha256.Size]byte{}, path: filepath.Join(c.dir, id+".raw")}
	c.snapshots[id] = s
	if err := errors.Join(os.WriteFile(s.path, nil, 0o600), os.Truncate(s.path, s.size<<30)); err != nil {
		c.t.Errorf("keeping a snapshot: %v", err)
	}
	return answer
}

// put keeps a block that moto has, for machines to boot of.
func (c *Cloud) put(r *http.Request, body []byte) {
	m := blockPath.FindStringSubmatch(r.URL.Path)
	index, _ := strconv.Atoi(strings.TrimPrefix(m[2], "/")) // checked before
	s := c.snapshots[m[1]]
	s.blocks[index] = sha256.Sum256(body)
	f, err := os.OpenFile(s.path, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt(body, int64(index)*blockSize)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		c.t.Errorf("keeping a block: %v", err)
	}
}

var (
	snapshotID = regexp.MustCompile(`<snapshotId>(snap-[0-9a-f]+)</snapshotId>`)
	status     = regexp.MustCompile(`<status>completed</status>`)
)

// showPending tells of snapshots that are not complete, which moto shows as if
// they were.
func (c *Cloud) showPending(answer []byte) []byte {
	items := strings.SplitAfter(string(answer), "</item>")
	for i, item := range items {
		if m := snapshotID.FindStringSubmatch(item); m != nil && c.snapshots[m[1]] != nil && !c.snapshots[m[1]].complete {
			items[i] = status.ReplaceAllString(item, "<status>pending</status>")
		}
	}
	return []byte(strings.Join(items, ""))
}
