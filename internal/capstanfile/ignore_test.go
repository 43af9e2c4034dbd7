package capstanfile

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestIgnore(t *testing.T) {
	tests := []struct {
		text        string
		ignored     []string
		kept        []string
		byDirectory []string // only MatchTree says so
	}{
		{"/file.txt", []string{"file.txt"}, []string{"dir/file.txt", "fileXtxt", "file.txt2"}, []string{"file.txt/x"}},
		{"/dir/file", []string{"dir/file"}, []string{"file", "dir"}, nil},
		{"/dir/", []string{"dir"}, []string{"dir2"}, []string{"dir/a/b"}},
		{"/*.txt", []string{"a.txt", ".txt"}, []string{"dir/a.txt", "a.txt.gz"}, nil},
		{"/dir/*.txt", []string{"dir/a.txt"}, []string{"a.txt", "dir/sub/a.txt"}, nil},
		{"/a*b*c", []string{"abc", "axxbyyc", "abbc", "abcbc"}, []string{"ab", "abcd"}, nil},
		{"/**/file", []string{"file", "a/file", "a/b/file"}, []string{"afile", "a/file2"}, []string{"a/file/x"}},
		{"/a/**/b", []string{"a/b", "a/x/b", "a/x/y/b", "a/b/b"}, []string{"b", "x/a/b", "ab"}, nil},
		{"/**/a/**/*.o", []string{"a/x.o", "q/a/x.o", "q/a/r/s/x.o"}, []string{"x.o", "b/x.o"}, nil},
		{"/dir/*", []string{"dir/a", "dir/.b"}, []string{"dir", "dir2"}, []string{"dir/a/b"}},
		{"/dir/**", []string{"dir/a"}, []string{"dir"}, []string{"dir/a/b"}},
		{"/dir/*/*", []string{"dir/a/b"}, []string{"dir", "dir/a"}, []string{"dir/a/b/c"}},
		{"/*", []string{"a", "b"}, []string{""}, []string{"a/b"}},
		{"/a?[b]{c}", []string{"a?[b]{c}"}, []string{"axb"}, nil},
		{"# /x\n\n  /y  \n/z\r\n", []string{"y", "z"}, []string{"x"}, nil},
		{"", []string{"meta/package.yaml", "mpm-pkg", ".git", ".capstanignore", ".gitignore", "volumes"},
			[]string{"meta", "a/.git", "a/volumes", "gitignore"}, []string{".git/config", "meta/a/b", "volumes/v"}},
		{"/meta/run.yaml\n/metadata", []string{"metadata"}, []string{"meta"}, nil},
	}
	for _, tt := range tests {
		ig, err := ParseIgnore(IgnoreName, []byte(tt.text))
		if err != nil {
			t.Errorf("%q: %v", tt.text, err)
			continue
		}
		for _, p := range tt.ignored {
			if !ig.Match(p) || !ig.MatchTree(p) || !ig.Match("/"+p) {
				t.Errorf("%q does not match %q", tt.text, p)
			}
		}
		for _, p := range tt.kept {
			if ig.Match(p) || ig.MatchTree(p) {
				t.Errorf("%q matches %q", tt.text, p)
			}
		}
		for _, p := range tt.byDirectory {
			if !ig.MatchTree(p) {
				t.Errorf("%q does not take %q along", tt.text, p)
			}
		}
	}
}

func TestIgnoreBuiltin(t *testing.T) {
	ig, err := ParseIgnore(IgnoreName, []byte("/.git\n/x\n"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"volumes": true, ".git": false, "x": false, "y": false} {
		if got := ig.Builtin(name); got != want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestIgnoreMistakes(t *testing.T) {
	tests := []struct{ text, want string }{
		{"/a\n/meta\n", ".capstanignore:2: /meta: the directory itself cannot be ignored, because Capstan reads the package's own description in it; what is in it never goes into an image anyway, so remove this line"},
		{"/meta/\n", ".capstanignore:1: /meta/: the directory itself cannot be ignored, because Capstan reads the package's own description in it; what is in it never goes into an image anyway, so remove this line"},
		{"*.o\n", `.capstanignore:1: *.o: a pattern must begin with "/" (expected "/*.o" here, "/**/*.o" anywhere)`},
		{"\n\n!/a\n", `.capstanignore:3: !/a: exceptions ("!") are not supported (expected patterns of what to leave out)`},
		{"/\n", `.capstanignore:1: /: would leave out everything (expected "/*" if that is meant)`},
		{"/a/../b\n", `.capstanignore:1: /a/../b: "." and ".." are not allowed in a pattern`},
		{"/a\xff\n", `.capstanignore:1: not text (expected a pattern such as /build or /**/*.o)`},
		{"a\nb\n", ".capstanignore:1: a: a pattern must begin with \"/\" (expected \"/a\" here, \"/**/a\" anywhere)\n.capstanignore:2: b: a pattern must begin with \"/\" (expected \"/b\" here, \"/**/b\" anywhere)"},
	}
	for _, tt := range tests {
		_, err := ParseIgnore(IgnoreName, []byte(tt.text))
		if err == nil || err.Error() != tt.want {
			t.Errorf("%q:\ngot  %v\nwant %s", tt.text, err, tt.want)
		}
	}
	if _, err := ParseIgnore(IgnoreName, make([]byte, maxSize+1)); err == nil {
		t.Error("a file of more than 1 MiB is taken")
	}
}

func TestReadIgnore(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, IgnoreName)
	ig, err := ReadIgnore(path)
	if err != nil || !ig.Match(".git") {
		t.Errorf("absent: %v", err)
	}
	if err := os.WriteFile(path, []byte("/x\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if ig, err = ReadIgnore(path); err != nil || !ig.Match("x") {
		t.Errorf("present: %v", err)
	}
	if _, err := ReadIgnore(dir); !errors.As(err, new(*Error)) {
		t.Errorf("directory: %v", err)
	}
}

func FuzzIgnore(f *testing.F) {
	f.Add("/a/**/b*\n/c/*", "a/x/bb")
	f.Add("/**/**/x/**", "x/y")
	f.Fuzz(func(t *testing.T, text, name string) {
		ig, err := ParseIgnore(IgnoreName, []byte(text))
		if err != nil {
			return
		}
		if ig.Match(name) && !ig.MatchTree(name) {
			t.Errorf("%q, %q: Match without MatchTree", text, name)
		}
		for line := range strings.SplitSeq(text, "\n") {
			line = strings.TrimSpace(line)
			if strings.HasPrefix(line, "/") && !strings.ContainsAny(line, "*.\x00") && line != "/" && clean(line) != "" && !ig.Match(line) {
				t.Errorf("%q does not match itself", line)
			}
		}
	})
}
