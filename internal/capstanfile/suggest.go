package capstanfile

import "strings"

// otherNames maps what the same thing is called elsewhere to the key.
func otherNames() map[string]string {
	return map[string]string{
		"architecture": "arch", "platform": "arch",
		"args": "cmdline", "cmd": "cmdline", "command": "cmdline", "entrypoint": "cmdline",
		"add": "files", "copy": "files", "file": "files",
		"environment": "env",
		"from":        "base", "image": "base",
		"mem": "memory", "mem_limit": "memory", "ram": "memory",
		"port": "expose", "ports": "expose",
		"root": "rootfs",
		"run":  "build", "script": "build",
		"working_dir": "workdir", "workingdir": "workdir", "cwd": "workdir",
	}
}

// Suggest returns the one of words that got was probably meant to be, or "".
func Suggest(got string, words []string) string {
	got = strings.ToLower(got)
	if len(got) > 40 {
		return ""
	}
	best, most := "", 2
	if len(got) <= 4 {
		most = 1
	}
	for _, w := range words {
		if d := distance(got, w); d <= most {
			best, most = w, d-1
		}
	}
	return best
}

// distance is the number of letters to insert, remove, replace or swap with
// their neighbour to make b of a (optimal string alignment).
func distance(a, b string) int {
	before := make([]int, len(b)+1)
	last := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
