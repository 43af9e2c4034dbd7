//go:build linux && e2e

package main

import (
	"testing"

	"capstan/guest/api"
)

func TestExitStatus(t *testing.T) {
	for name, c := range map[string]struct {
		args   []string
		user   string
		memory string
		out    string
		want   api.Exit
	}{
		"hello":               {args: []string{"app", "hello"}, out: "hello\n"},
		"1":                   {args: []string{"/bin/app", "exit", "1"}, want: api.Exit{Status: 1}},
		"42":                  {args: []string{"bin/app", "exit", "42"}, want: api.Exit{Status: 42}},
		"segmentation fault":  {args: []string{"app", "segv"}, want: api.Exit{Status: 139, Signal: 11}},
		"out of memory":       {args: []string{"app", "oom"}, memory: "64M", want: api.Exit{Status: 137, Signal: 9, OOM: true, Reason: "the kernel killed the application because the machine ran out of memory"}},
		"missing program":     {args: []string{"nope"}, want: api.Exit{Status: 127, Reason: `the program "nope" is not in the image (looked for in ` + defaultPath + `)`}},
		"missing path":        {args: []string{"/opt/nope"}, want: api.Exit{Status: 127, Reason: "the program /opt/nope is not in the image"}},
		"below a file":        {args: []string{"/bin/app/nope"}, want: api.Exit{Status: 127, Reason: "the program /bin/app/nope is not in the image"}},
		"missing interpreter": {args: []string{"orphaned"}, want: api.Exit{Status: 127, Reason: "the script /bin/orphaned needs the interpreter /opt/no/such/interpreter, which is not in the image"}},
		"missing loader":      {args: []string{"dynamic"}, want: api.Exit{Status: 127, Reason: "the program /bin/dynamic needs the interpreter /lib64/no-such-loader.so, which is not in the image"}},
		"not executable":      {args: []string{"/bin/data"}, want: api.Exit{Status: 126, Reason: "the program /bin/data is not executable"}},
		"directory":           {args: []string{"/bin"}, want: api.Exit{Status: 126, Reason: "the program /bin is a directory"}},
		"no program":          {args: []string{"garbage"}, want: api.Exit{Status: 126, Reason: "the program /bin/garbage is neither a program for Linux nor a script that names its interpreter"}},
		"foreign":             {args: []string{"foreign"}, want: api.Exit{Status: 126, Reason: "the program /bin/foreign is built for arm64, this machine is amd64"}},
		"script":              {args: []string{"script", "x"}, out: "[\"/bin/script\" \"x\"]\n"},
		"unknown user":        {args: []string{"app", "hello"}, user: "nobody", want: api.Exit{Status: 126, Reason: `the image has no user "nobody"`}},
	} {
		t.Run(name, func(t *testing.T) {
			out, exit := boot(t, api.Config{Args: c.args, User: c.user, Network: api.Network{None: true}}, setup{memory: c.memory}).end()
			if exit != c.want || c.out != "" && out != c.out {
				t.Errorf("got %+v, want %+v; console %q", exit, c.want, out)
			}
		})
	}
}
