package gce

import (
	"bufio"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// setting is a property of gcloud's: from the environment, or else from the
// active configuration (gcloud topic configurations; gcloud topic
// cli-trees). "" means that it is not set.
func setting(section, name string) string {
	env := "CLOUDSDK_" + strings.ToUpper(section+"_"+name)
	if v := os.Getenv(env); v != "" {
		return v
	}
	dir := configDir()
	if dir == "" {
		return ""
	}
	active := os.Getenv("CLOUDSDK_ACTIVE_CONFIG_NAME")
	if active == "" {
		b, err := os.ReadFile(filepath.Join(dir, "active_config"))
		if err != nil {
			active = "default"
		} else {
			active = strings.TrimSpace(string(b))
		}
	}
	return property(filepath.Join(dir, "configurations", "config_"+active), section, name)
}

// configDir is where gcloud keeps its configurations.
func configDir() string {
	if dir := os.Getenv("CLOUDSDK_CONFIG"); dir != "" {
		return dir
	}
	if runtime.GOOS == "windows" {
		return filepath.Join(os.Getenv("APPDATA"), "gcloud")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".config", "gcloud")
}

// property reads a value of an INI file, or "" if it has none.
func property(path, section, name string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	within := false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if strings.HasPrefix(line, "[") {
			within = line == "["+section+"]"
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if within && ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// firstOf returns the first that is not "".
func firstOf(all ...string) string {
	for _, s := range all {
		if s != "" {
			return s
		}
	}
	return ""
}
