package source

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
)

// scheme is part of every fingerprint. It changes when the same inputs give
// another layer than before.
const scheme = "capstan layer 1"

// Fingerprint returns a digest, in hexadecimal, of all that was planned:
// names, types, modes, sizes, times and inodes, but not the content of files,
// which is not read. Two plans with the same fingerprint give the same layer.
// The extra is whatever else the result depends on: the Capstanfile's text,
// the base's digest.
func (l *Layer) Fingerprint(extra ...[]byte) string {
	h := &hasher{hash: sha256.New()}
	h.text(scheme)
	h.number(int64(l.Kind))
	h.text(l.Arch)
	for _, s := range l.Argv {
		h.text(s)
	}
	h.number(int64(len(extra)))
	for _, e := range extra {
		h.text(string(e))
	}
	if l.tar != nil {
		h.meta(l.tar.meta)
	} else {
		h.node(l.top)
	}
	h.flush()
	return hex.EncodeToString(h.hash.Sum(nil))
}

// hasher hashes values so that no two sequences of them look the same.
type hasher struct {
	hash hash.Hash
	buf  []byte
}

func (h *hasher) number(n int64) {
	h.buf = binary.LittleEndian.AppendUint64(h.buf, uint64(n))
	if len(h.buf) > 32<<10 {
		h.flush()
	}
}

func (h *hasher) text(s string) {
	h.number(int64(len(s)))
	h.buf = append(h.buf, s...)
}

func (h *hasher) flush() {
	h.hash.Write(h.buf)
	h.buf = h.buf[:0]
}

func (h *hasher) meta(m meta) {
	h.number(int64(m.mode))
	h.number(m.size)
	h.number(m.mtime)
	h.number(m.ctime)
	h.number(int64(m.ino))
	h.number(int64(m.rdev))
	h.number(int64(m.nlink))
}

func (h *hasher) node(n *node) {
	h.text(n.name)
	if n.below {
		h.text("below")
	} else {
		h.meta(n.meta)
	}
	h.text(n.target)
	h.text(n.host)
	h.text(string(n.data))
	h.number(int64(n.input))
	h.number(int64(len(n.children)))
	for _, c := range n.sorted() {
		h.node(c)
	}
}
