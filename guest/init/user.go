//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
	"strconv"
	"strings"
)

// identity is as whom a program runs.
type identity struct {
	uid, gid uint32
	groups   []uint32
	home     string // "" if unknown
}

// maxAccounts bounds how much of /etc/passwd and /etc/group is read, in bytes.
const maxAccounts = 16 << 20

// lookupUser reads spec as the OCI image specification's config.User is read
// (image-spec config.md): "user", "uid", "user:group", "uid:gid", "uid:group"
// and "user:gid", with the names of root's etc/passwd and etc/group. Without
// a group, the user's own and its supplementary ones apply; with a group,
// supplementary ones do not. The primary group is always among the
// supplementary ones too, as engines have it.
func lookupUser(root fs.FS, spec string) (identity, error) {
	userName, groupName, hasGroup := strings.Cut(spec, ":")
	if userName == "" {
		userName = "0"
	}
	passwd, err := account(root, "etc/passwd", func(f []string) bool { return len(f) >= 4 && f[0] == userName })
	if err != nil {
		return identity{}, err
	}
	if passwd == nil && numeric(userName) {
		passwd, err = account(root, "etc/passwd", func(f []string) bool { return len(f) >= 4 && f[2] == userName })
		if err != nil {
			return identity{}, err
		}
		if passwd == nil {
			passwd = []string{"", "", userName, "0"}
		}
	}
	if passwd == nil {
		return identity{}, fmt.Errorf("the image has no user %q", userName)
	}
	var id identity
	if id.uid, err = parseID(passwd[2]); err != nil {
		return id, fmt.Errorf("the user %q: %w", userName, err)
	}
	if id.gid, err = parseID(passwd[3]); err != nil {
		return id, fmt.Errorf("the user %q: %w", userName, err)
	}
	if len(passwd) > 5 {
		id.home = passwd[5]
	}
	if hasGroup && groupName != "" {
		id.gid, err = lookupGroup(root, groupName)
		id.groups = []uint32{id.gid}
		return id, err
	}
	id.groups, err = memberships(root, passwd[0], id.gid)
	return id, err
}

// lookupGroup returns the number of a group, by name or number.
func lookupGroup(root fs.FS, name string) (uint32, error) {
	group, err := account(root, "etc/group", func(f []string) bool { return len(f) >= 3 && f[0] == name })
	if err != nil {
		return 0, err
	}
	if group != nil {
		name = group[2]
	} else if !numeric(name) {
		return 0, fmt.Errorf("the image has no group %q", name)
	}
	gid, err := parseID(name)
	if err != nil {
		return 0, fmt.Errorf("the group %q: %w", name, err)
	}
	return gid, nil
}

// memberships returns gid and the groups that list the user as a member.
func memberships(root fs.FS, name string, gid uint32) ([]uint32, error) {
	groups := []uint32{gid}
	if name == "" {
		return groups, nil
	}
	_, err := account(root, "etc/group", func(f []string) bool {
		if len(f) >= 4 && slices.Contains(strings.Split(f[3], ","), name) {
			if id, err := parseID(f[2]); err == nil && !slices.Contains(groups, id) {
				groups = append(groups, id)
			}
		}
		return false
	})
	return groups, err
}

// account returns the fields of the first line of an account file that match
// accepts; nil if there is none, or no such file.
func account(root fs.FS, name string, match func(fields []string) bool) ([]string, error) {
	f, err := root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the image's /%s: %w", name, err)
	}
	defer f.Close()
	lines := bufio.NewScanner(io.LimitReader(f, maxAccounts))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		if fields := strings.Split(line, ":"); match(fields) {
			return fields, nil
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading the image's /%s: %w", name, err)
	}
	return nil, nil
}

func numeric(s string) bool {
	_, err := strconv.ParseUint(s, 10, 64)
	return err == nil
}

// parseID reads a user's or group's number. The highest means "no change" to
// the kernel and is nobody's.
func parseID(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == math.MaxUint32 {
		return 0, fmt.Errorf("%q is not a valid number", s)
	}
	return uint32(n), nil
}
