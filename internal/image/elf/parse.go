package elf

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// ErrNotELF is returned for a file that does not begin as ELF does.
var ErrNotELF = errors.New("not an ELF file")

// Bounds on what is read of one file, each far above any real program's.
const (
	maxSegments = 4096
	maxDynamic  = 1 << 16 // entries of the dynamic section
	maxNeeded   = 4096
	maxString   = 4096 // PATH_MAX
)

// Object is what a loader must know of an ELF file. Field names follow the
// System V gABI, chapter 5.
type Object struct {
	Arch    string   // "amd64" or "arm64", as Go and OCI name them
	Interp  string   // PT_INTERP: the loader; "" in a static program and in most libraries
	Needed  []string // DT_NEEDED
	Soname  string   // DT_SONAME
	RPath   []string // DT_RPATH, which a DT_RUNPATH overrules
	RunPath []string // DT_RUNPATH

	noDefaultLib bool // DF_1_NODEFLIB
	pie          bool // DF_1_PIE
	executable   bool // ET_EXEC
	entry        uint64
}

// Program returns an error if the object is no program but a library.
func (o *Object) Program() error {
	if o.executable || o.pie || o.Interp != "" || o.entry != 0 && len(o.Needed) == 0 {
		return nil
	}
	return errors.New("a shared library, not a program")
}

// Parse reads the headers of a little-endian 64-bit ELF file of the given
// size for one of the architectures that Capstan has a guest for. It reads
// program headers only, so that a program without sections will do.
func Parse(r io.ReaderAt, size int64) (*Object, error) {
	f := &file{r: r, size: size}
	if err := f.header(); err != nil {
		return nil, err
	}
	if err := f.segments(); err != nil {
		return nil, err
	}
	if err := f.dynamic(); err != nil {
		return nil, err
	}
	return &f.object, nil
}

type file struct {
	r      io.ReaderAt
	size   int64
	object Object
	phoff  uint64
	phnum  int
	loads  []elf.Prog64
	dyn    *elf.Prog64
}

var errTruncated = truncatedError{}

type truncatedError struct{}

func (truncatedError) Error() string { return "truncated: it refers to data beyond its own end" }

// Hint is the way out.
func (truncatedError) Hint() string { return "copy or make the file again" }

// read fills p from offset off.
func (f *file) read(p []byte, off uint64) error {
	if off > uint64(f.size) || uint64(len(p)) > uint64(f.size)-off {
		return errTruncated
	}
	_, err := f.r.ReadAt(p, int64(off))
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errTruncated
	}
	return err
}

// header reads and checks the file header.
func (f *file) header() error {
	var ident [elf.EI_NIDENT]byte
	n := min(int64(len(ident)), f.size)
	if err := f.read(ident[:n], 0); err != nil {
		return err
	}
	if n < 4 || string(ident[:4]) != elf.ELFMAG {
		return ErrNotELF
	}
	if n < elf.EI_NIDENT {
		return errTruncated
	}
	class, data := elf.Class(ident[elf.EI_CLASS]), elf.Data(ident[elf.EI_DATA])
	switch {
	case data == elf.ELFDATA2MSB:
		return errors.New("a big-endian ELF file: only amd64 and arm64 programs can run")
	case class == elf.ELFCLASS32:
		return errors.New("a 32-bit ELF file: only 64-bit amd64 and arm64 programs can run")
	case class != elf.ELFCLASS64 || data != elf.ELFDATA2LSB:
		return errors.New("a malformed ELF file: unknown class or byte order")
	}
	var raw [64]byte
	if err := f.read(raw[:], 0); err != nil {
		return err
	}
	var h elf.Header64
	if err := binary.Read(bytes.NewReader(raw[:]), binary.LittleEndian, &h); err != nil {
		return err
	}
	switch elf.Machine(h.Machine) {
	case elf.EM_X86_64:
		f.object.Arch = "amd64"
	case elf.EM_AARCH64:
		f.object.Arch = "arm64"
	default:
		return fmt.Errorf("for the architecture %v: only amd64 and arm64 programs can run", elf.Machine(h.Machine))
	}
	switch elf.Type(h.Type) {
	case elf.ET_EXEC:
		f.object.executable = true
	case elf.ET_DYN:
	case elf.ET_REL:
		return errors.New("an object file, not a program: it is not linked yet")
	case elf.ET_CORE:
		return errors.New("a core dump, not a program")
	default:
		return fmt.Errorf("a malformed ELF file: unknown type %d", h.Type)
	}
	if h.Phnum == 0 || int(h.Phnum) > maxSegments || h.Phentsize != 56 {
		return errors.New("a malformed ELF file: no usable program headers")
	}
	f.object.entry, f.phoff, f.phnum = h.Entry, h.Phoff, int(h.Phnum)
	return nil
}

// segments reads the program headers.
func (f *file) segments() error {
	raw := make([]byte, f.phnum*56)
	if err := f.read(raw, f.phoff); err != nil {
		return err
	}
	all := make([]elf.Prog64, f.phnum)
	if err := binary.Read(bytes.NewReader(raw), binary.LittleEndian, all); err != nil {
		return err
	}
	for i, p := range all {
		switch elf.ProgType(p.Type) {
		case elf.PT_LOAD:
			if p.Off > uint64(f.size) || p.Filesz > uint64(f.size)-p.Off {
				return errTruncated
			}
			f.loads = append(f.loads, p)
		case elf.PT_DYNAMIC:
			f.dyn = &all[i]
		case elf.PT_INTERP:
			if p.Filesz == 0 || p.Filesz > maxString {
				return errors.New("a malformed ELF file: no usable name of a loader")
			}
			name := make([]byte, p.Filesz)
			if err := f.read(name, p.Off); err != nil {
				return err
			}
			f.object.Interp, _, _ = strings.Cut(string(name), "\x00")
			if !strings.HasPrefix(f.object.Interp, "/") {
				return fmt.Errorf("a malformed ELF file: its loader %q is not an absolute path", f.object.Interp)
			}
		}
	}
	return nil
}

// dynamic reads the dynamic section, where there is one.
func (f *file) dynamic() error {
	if f.dyn == nil {
		return nil
	}
	count := f.dyn.Filesz / 16
	if count > maxDynamic {
		return errors.New("a malformed ELF file: its dynamic section is too large")
	}
	raw := make([]byte, count*16)
	if err := f.read(raw, f.dyn.Off); err != nil {
		return err
	}
	entries := make([]elf.Dyn64, count)
	if err := binary.Read(bytes.NewReader(raw), binary.LittleEndian, entries); err != nil {
		return err
	}
	var table elf.Dyn64
	for i, e := range entries {
		if elf.DynTag(e.Tag) == elf.DT_NULL {
			entries = entries[:i]
			break
		}
		if elf.DynTag(e.Tag) == elf.DT_STRTAB {
			table = e
		}
	}
	for _, e := range entries {
		if err := f.entry(e, table.Val); err != nil {
			return err
		}
	}
	return nil
}

// entry takes one entry of the dynamic section over into the object.
func (f *file) entry(e elf.Dyn64, table uint64) error {
	o := &f.object
	switch elf.DynTag(e.Tag) {
	case elf.DT_NEEDED:
		if len(o.Needed) == maxNeeded {
			return errors.New("a malformed ELF file: too many libraries")
		}
		s, err := f.string(table, e.Val)
		if err == nil && s == "" {
			err = errors.New("a malformed ELF file: it needs a library without a name")
		}
		o.Needed = append(o.Needed, s)
		return err
	case elf.DT_SONAME:
		s, err := f.string(table, e.Val)
		o.Soname = s
		return err
	case elf.DT_RPATH:
		s, err := f.string(table, e.Val)
		o.RPath = strings.Split(s, ":")
		return err
	case elf.DT_RUNPATH:
		s, err := f.string(table, e.Val)
		o.RunPath = strings.Split(s, ":")
		return err
	case elf.DT_FLAGS_1:
		o.noDefaultLib = e.Val&uint64(elf.DF_1_NODEFLIB) != 0
		o.pie = e.Val&uint64(elf.DF_1_PIE) != 0
	}
	return nil
}

// string reads the string at an offset in the string table, whose address is
// the one that it has once loaded.
func (f *file) string(table, offset uint64) (string, error) {
	malformed := errors.New("a malformed ELF file: a name lies outside its segments")
	addr := table + offset
	if addr < table {
		return "", malformed
	}
	for _, p := range f.loads {
		if addr < p.Vaddr || addr-p.Vaddr >= p.Filesz {
			continue
		}
		raw := make([]byte, min(p.Filesz-(addr-p.Vaddr), maxString))
		if err := f.read(raw, p.Off+(addr-p.Vaddr)); err != nil {
			return "", err
		}
		end := bytes.IndexByte(raw, 0)
		if end < 0 {
			return "", errors.New("a malformed ELF file: a name has no end")
		}
		return string(raw[:end]), nil
	}
	return "", malformed
}
