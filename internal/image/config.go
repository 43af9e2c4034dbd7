package image

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Labels for what a container's config has no field for.
const (
	LabelMemory = "org.capstan.memory" // bytes
	LabelCPUs   = "org.capstan.cpus"
)

// DefaultPath is the PATH of an image that sets none, as container engines
// have it.
const DefaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Config is what an image says about how it wants to be run.
type Config struct {
	Entrypoint []string          `json:"entrypoint,omitempty"`
	Cmd        []string          `json:"cmd,omitempty"`
	Env        []string          `json:"env,omitempty"` // K=V
	Workdir    string            `json:"workdir,omitempty"`
	User       string            `json:"user,omitempty"`
	Exposed    []string          `json:"exposed,omitempty"` // "80/tcp", sorted
	Volumes    []string          `json:"volumes,omitempty"` // sorted
	StopSignal string            `json:"stop_signal,omitempty"`
	Memory     int64             `json:"memory,omitempty"` // bytes; 0: not said
	CPUs       int               `json:"cpus,omitempty"`   // 0: not said
	Labels     map[string]string `json:"labels,omitempty"`
	Arch       string            `json:"architecture"`
}

// ReadConfig returns an image's config.
func ReadConfig(img v1.Image) (Config, error) {
	file, err := img.ConfigFile()
	if err != nil {
		return Config{}, fmt.Errorf("reading the image's config: %w", err)
	}
	c := file.Config
	out := Config{
		Entrypoint: c.Entrypoint, Cmd: c.Cmd, Env: c.Env, Workdir: c.WorkingDir, User: c.User,
		StopSignal: c.StopSignal, Labels: c.Labels, Arch: file.Architecture,
		Exposed: slices.Sorted(maps.Keys(c.ExposedPorts)),
		Volumes: slices.Sorted(maps.Keys(c.Volumes)),
	}
	if s := c.Labels[LabelMemory]; s != "" {
		if out.Memory, err = strconv.ParseInt(s, 10, 64); err != nil || out.Memory <= 0 {
			return Config{}, fmt.Errorf("the image's label %s=%q is no number of bytes", LabelMemory, s)
		}
	}
	if s := c.Labels[LabelCPUs]; s != "" {
		if out.CPUs, err = strconv.Atoi(s); err != nil || out.CPUs <= 0 {
			return Config{}, fmt.Errorf("the image's label %s=%q is no number of CPUs", LabelCPUs, s)
		}
	}
	return out, nil
}

// Command joins entrypoint and command as container engines do: args replace
// the image's command; an entrypoint given here replaces the image's own and
// drops its command.
func (c Config) Command(entrypoint string, args []string) []string {
	first, rest := c.Entrypoint, c.Cmd
	if entrypoint != "" {
		first, rest = []string{entrypoint}, nil
	}
	if len(args) > 0 {
		rest = args
	}
	return slices.Concat(first, rest)
}

// Environ is the image's environment, then more, each name once: the last
// value counts.
func (c Config) Environ(more []string) []string {
	var out []string
	at := map[string]int{}
	for _, kv := range slices.Concat([]string{DefaultPath}, c.Env, more) {
		name, _, _ := strings.Cut(kv, "=")
		if n, ok := at[name]; ok {
			out[n] = kv
			continue
		}
		at[name] = len(out)
		out = append(out, kv)
	}
	return out
}
