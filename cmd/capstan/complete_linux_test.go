package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// completionWorld has images and two instances, of which one runs: what a
// supervisor is known by is that it holds the instance's lock.
func completionWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.write("Capstanfile", "cmdline: /app\nfiles: {/app: app}\n")
	w.write("app", "#!/bin/sh\n")
	w.write("env", "A=1\n")
	w.must("build", "app")
	w.must("tag", "app", "team/shop:1.2")
	for name, status := range map[string]string{"runs": "running", "ended": "exited"} {
		w.write("root/instances/"+name+"/config.json", `{"id": "`+strings.Repeat(name[:1], 12)+`", "name": "`+name+`"}`)
		w.write("root/instances/"+name+"/state.json", `{"status": "`+status+`", "exit": {"status": 0}}`)
		w.write("root/instances/"+name+"/lock", "")
	}
	// util-linux's flock takes the same lock as a supervisor does.
	holder := exec.Command("flock", filepath.Join(w.root, "instances/runs/lock"), "sh", "-c", "echo held; read end")
	in, inErr := holder.StdinPipe()
	out, outErr := holder.StdoutPipe()
	if err := errors.Join(inErr, outErr, holder.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); holder.Wait() })
	if _, err := out.Read(make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	return w
}

// Directives of cobra: what the shell is to do beside the words given.
const (
	orFiles = ":0"
	noFiles = ":4"
	folders = ":16"
)

func TestComplete(t *testing.T) {
	w := completionWorld(t)
	for _, tt := range []struct{ line, want, directive string }{
		{"run |", "app:latest team/shop:1.2", orFiles},
		{"run app |", "", orFiles},
		{"run --accel |", "kvm hvf whpx tcg", noFiles},
		{"run --restart |", "no on-failure always", noFiles},
		{"run --on |", "ec2 gce qemu vbox vmware vsphere", noFiles},
		{"run --env-file |", "", orFiles},
		{"run -v |", "", orFiles},
		{"run --name |", "", noFiles},
		{"stop |", "runs", noFiles},
		{"kill |", "runs", noFiles},
		{"kill -s |", "HUP INT KILL QUIT TERM USR1 USR2", noFiles},
		{"stats |", "runs", noFiles},
		{"wait |", "runs", noFiles},
		{"start |", "ended", noFiles},
		{"rm |", "ended runs", noFiles},
		{"rm runs |", "ended", noFiles},
		{"restart |", "ended runs", noFiles},
		{"scale |", "ended runs", noFiles},
		{"scale runs |", "", noFiles},
		{"logs |", "ended runs", noFiles},
		{"logs ended |", "", noFiles},
		{"inspect |", "ended runs app:latest team/shop:1.2", noFiles},
		{"inspect --format |", "json", noFiles},
		{"rmi |", "app:latest team/shop:1.2", noFiles},
		{"rmi app:latest |", "team/shop:1.2", noFiles},
		{"tag |", "app:latest team/shop:1.2", noFiles},
		{"tag app:latest |", "", noFiles},
		{"run cloudius/memc|", "app:latest team/shop:1.2 cloudius/memcached", orFiles},
		{"pull cloudius/osv-mem|", "app:latest team/shop:1.2 cloudius/osv-memcached cloudius/osv-memcached-opt", noFiles},
		{"pull app:latest |", "", noFiles},
		{"run --pull |", "always missing never", noFiles},
		{"push |", "app:latest team/shop:1.2", noFiles},
		{"push app |", "app:latest ec2: gce: team/shop:1.2", noFiles},
		{"prune --on |", "ec2 gce", noFiles},
		{"save |", "app:latest team/shop:1.2", noFiles},
		{"save --format |", "docker-archive oci", noFiles},
		{"save -o |", "", orFiles},
		{"load -i |", "", orFiles},
		{"build |", "app:latest team/shop:1.2", noFiles},
		{"build app |", "", folders},
		{"build --from |", "", orFiles},
		{"images --format |", "table json", noFiles},
		{"ps |", "", noFiles},
		{"doctor |", "", noFiles},
		{"help r|", "restart rm rmi run", noFiles},
		{"re|", "restart", noFiles},
		{"completion |", "bash fish powershell zsh", noFiles},
		{"--root |", "", folders},
	} {
		t.Run(tt.line, func(t *testing.T) {
			words := strings.Split(strings.TrimSuffix(tt.line, "|"), " ")
			out := strings.Split(strings.TrimSpace(w.must(append([]string{"__completeNoDesc"}, words...)...)), "\n")
			got, directive := out[:len(out)-1], out[len(out)-1]
			want := strings.Fields(tt.want)
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) || directive != tt.directive {
				t.Errorf("%q %s, want %q %s", got, directive, want, tt.directive)
			}
		})
	}
}

// TestCompletionScripts: each shell's script asks capstan itself.
func TestCompletionScripts(t *testing.T) {
	w := newWorld(t)
	for shell, mark := range map[string]string{
		"bash": "complete -o default -F __start_capstan capstan", "zsh": "#compdef capstan",
		"fish": "complete -c capstan", "powershell": "Register-ArgumentCompleter -CommandName 'capstan'",
	} {
		script := w.must("completion", shell)
		if !strings.Contains(script, mark) || !strings.Contains(script, "__complete") {
			t.Errorf("%s: %d bytes without %q", shell, len(script), mark)
		}
	}
}

// TestBashCompletion presses Tab in a real bash.
func TestBashCompletion(t *testing.T) {
	const library = "/usr/share/bash-completion/bash_completion"
	if _, err := os.Stat(library); err != nil {
		t.Fatalf("%v: apt-get install bash-completion", err)
	}
	w := completionWorld(t)
	const press = `
source ` + library + `
source <(capstan completion bash)
COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9
read -ra COMP_WORDS <<<"$1"
[[ $1 == *' ' ]] && COMP_WORDS+=('')
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
__start_capstan
for word in "${COMPREPLY[@]}"; do echo "${word%% *}"; done
`
	for line, want := range map[string]string{
		"capstan sto":                       "stop",
		"capstan stop ":                     "runs",
		"capstan start ":                    "ended",
		"capstan rmi te":                    "team/shop:1.2",
		"capstan run --accel t":             "tcg",
		"capstan run -p 80:80 --restart on": "on-failure",
	} {
		cmd := exec.CommandContext(t.Context(), "bash", "--norc", "-c", press, "bash", line)
		cmd.Dir, cmd.Env = w.dir, w.env
		r := w.run(cmd)
		if got := strings.TrimSpace(r.stdout); got != want || r.status != 0 {
			t.Errorf("%q completes to %q, want %q (status %d, %s)", line, got, want, r.status, r.stderr)
		}
	}
}
