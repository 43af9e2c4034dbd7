package capstanfile

import (
	"reflect"
	"testing"
)

func TestSplitWords(t *testing.T) {
	tests := []struct {
		line string
		want []string
	}{
		{"", nil},
		{" \t\n", nil},
		{"/a  b\tc\n", []string{"/a", "b", "c"}},
		{`a 'b c' "d e"`, []string{"a", "b c", "d e"}},
		{`a'b'"c"\d`, []string{"abcd"}},
		{`'' ""`, []string{"", ""}},
		{`a\ b \\ \'`, []string{"a b", `\`, "'"}},
		{`"\a\"\\\$\` + "`" + `"`, []string{`\a"\$` + "`"}},
		{`'\a\'`, []string{`\a\`}},
		{"a\\\nb \\\n c", []string{"ab", "c"}},
		{"\"a\\\nb\"", []string{"ab"}},
		{`$HOME ~ * #x`, []string{"$HOME", "~", "*", "#x"}},
		{`'a;b' "c|d" e\&f`, []string{"a;b", "c|d", "e&f"}},
		{"größe 'ä b'", []string{"größe", "ä b"}},
	}
	for _, tt := range tests {
		got, err := splitWords(tt.line)
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%q: got %q, %v; want %q", tt.line, got, err, tt.want)
		}
	}
	for _, line := range []string{"'a", `"a`, `"a\"`, `a\`, "a;b", "a && b", "a | b", "a > b", "a < b"} {
		if got, err := splitWords(line); err == nil {
			t.Errorf("%q: no error, got %q", line, got)
		}
	}
}
