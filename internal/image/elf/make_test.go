package elf

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fake describes an ELF file that makeELF writes: no code, headers only.
type fake struct {
	machine  elf.Machine // 0 is EM_X86_64
	typ      elf.Type    // 0 is ET_DYN
	interp   string
	needed   []string
	soname   string
	rpath    string
	runpath  string
	flags    elf.DynFlag1
	noDyn    bool // static
	entry    uint64
	unloaded bool // the string table lies outside the segments
}

func makeELF(t testing.TB, f fake) []byte {
	t.Helper()
	if f.machine == 0 {
		f.machine = elf.EM_X86_64
	}
	if f.typ == 0 {
		f.typ = elf.ET_DYN
	}
	strtab := []byte{0}
	str := func(s string) uint64 {
		at := len(strtab)
		strtab = append(append(strtab, s...), 0)
		return uint64(at)
	}
	var dyn []elf.Dyn64
	add := func(tag elf.DynTag, val uint64) { dyn = append(dyn, elf.Dyn64{Tag: int64(tag), Val: val}) }
	for _, n := range f.needed {
		add(elf.DT_NEEDED, str(n))
	}
	for tag, s := range map[elf.DynTag]string{elf.DT_SONAME: f.soname, elf.DT_RPATH: f.rpath, elf.DT_RUNPATH: f.runpath} {
		if s != "" {
			add(tag, str(s))
		}
	}
	add(elf.DT_FLAGS_1, uint64(f.flags))

	const head = 64 + 3*56
	dynAt := uint64(head + len(f.interp) + 1)
	dynSize := uint64(16 * (len(dyn) + 2))
	strAt := dynAt + dynSize
	add(elf.DT_STRTAB, strAt)
	add(elf.DT_NULL, 0)
	total := strAt + uint64(len(strtab))

	progs := []elf.Prog64{{Type: uint32(elf.PT_LOAD), Filesz: total, Memsz: total}}
	if f.unloaded {
		progs[0].Filesz = dynAt
	}
	if f.interp != "" {
		progs = append(progs, elf.Prog64{Type: uint32(elf.PT_INTERP), Off: head, Filesz: uint64(len(f.interp) + 1)})
	}
	if !f.noDyn {
		progs = append(progs, elf.Prog64{Type: uint32(elf.PT_DYNAMIC), Off: dynAt, Vaddr: dynAt, Filesz: dynSize})
	}
	h := elf.Header64{
		Type: uint16(f.typ), Machine: uint16(f.machine), Version: 1, Entry: f.entry,
		Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: uint16(len(progs)),
	}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = 2, 1, 1

	var out bytes.Buffer
	write := func(v any) {
		if err := binary.Write(&out, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	write(h)
	write(progs)
	out.Write(make([]byte, head-out.Len()))
	out.WriteString(f.interp + "\x00")
	write(dyn)
	out.Write(strtab)
	return out.Bytes()
}

const loaderPath = "/lib64/ld-linux-x86-64.so.2"

// makeRoot writes a sysroot. A value is a fake, the target of a link after
// "->", or a file's text.
func makeRoot(t testing.TB, files map[string]any) string {
	t.Helper()
	root := t.TempDir()
	for name, v := range files {
		host := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(host), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		switch v := v.(type) {
		case fake:
			err = os.WriteFile(host, makeELF(t, v), 0o755)
		case string:
			if target, ok := strings.CutPrefix(v, "->"); ok {
				err = os.Symlink(target, host)
			} else {
				err = os.WriteFile(host, []byte(v), 0o644)
			}
		default:
			t.Fatalf("%s: what is a %T?", name, v)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}
