package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// The command lines of old Capstan, which ran OSv, and of Docker. Where a word
// or letter of them is not there or means something else, the error names what
// does it here.

// oldPlatforms are what old Capstan's -p took.
var oldPlatforms = []string{"qemu", "vbox", "vmw", "gce", "hkit"}

// otherWords are old Capstan's commands that are no more, and those of Docker
// that there are not, with what does the same.
var otherWords = map[string]string{
	"config":    "edit config.yaml in the capstan root; capstan doctor checks it",
	"openstack": "capstan build, and capstan run on this host: there is no platform openstack",
	"runtime":   "capstan package init --runtime NAME, for OSv; for Linux, name an image as base in the Capstanfile",
	"stack":     "capstan build, and capstan run on this host: there is no platform openstack",

	"attach":    "capstan logs -f NAME; or capstan start -ai NAME, of one that has ended",
	"container": "capstan ps, run, stop, rm and so on, without that word",
	"cp":        "capstan run -v ./DIR:/PATH shares a directory; capstan build puts files into an image",
	"create":    "capstan run -d, which starts it too",
	"events":    "capstan wait NAME, or capstan ps",
	"exec":      "capstan run -it --entrypoint /bin/sh IMAGE, for a shell in a machine of its own; capstan logs NAME",
	"image":     "capstan images, pull, push, rmi and so on, without that word",
	"network":   "capstan run --network, and -p HOST:GUEST for a port",
	"port":      "capstan ps",
	"system":    "capstan prune, or capstan doctor",
	"top":       "capstan stats NAME",
}

// oldFlags are old Capstan's flags that are no more, by command; "" is any.
var oldFlags = map[string]map[string]string{
	"capstan": {
		"--version": "capstan version",
		"-v":        "capstan version",
	},
	"": {
		"-u":            "name the registry in the image's name: HOST/NAMESPACE/NAME; or, of an old repository, capstan pull -u URL NAMESPACE/NAME",
		"-r":            "give the image's name a tag: NAME:TAG",
		"--release-tag": "give the image's name a tag: NAME:TAG",
		"--s3":          "leave it out: images come from registries, and from old repositories by capstan pull -u URL",
	},
	"run": {
		"-f":               "-p HOST:GUEST forwards a port",
		"-n":               "leave it out: the network is NAT, and -p HOST:GUEST forwards a port",
		"-b":               "leave it out: the network is NAT, and -p HOST:GUEST forwards a port",
		"--mac":            "leave it out: the network is NAT, and -p HOST:GUEST forwards a port",
		"--boot":           "the command follows the image: capstan run IMAGE COMMAND ARG...; of an OSv disk image, --execute 'runscript /run/NAME;'",
		"--persist":        "leave it out: an instance stays unless it was run with --rm",
		"--gce-upload-dir": "leave it out: images go to clouds through their own interfaces",
	},
	"build": {
		"-p": "leave it out: an image is for every platform, and capstan run --on chooses one",
		"-m": "leave it out: building needs no machine; memory: in the Capstanfile is for running",
		"-v": "leave it out: the output of the build command is shown",
	},
	"collect": {
		"--remote": "leave it out: capstan package compose makes an image, and capstan run starts it",
	},
	"pull": {
		"-p": "leave it out: an image is for every platform, and capstan run --on chooses one",
	},
}

// oldFlag adds to err what does now what a flag of old Capstan did.
func oldFlag(cmd *cobra.Command, flag string, err error) error {
	if now := firstOf(oldFlags[cmd.Name()][flag], oldFlags[""][flag]); now != "" {
		return &hinted{err, now}
	}
	return err
}

// oldValue adds to err what does now what a flag did with such a value.
func oldValue(cmd *cobra.Command, f *pflag.Flag, value string, err error) error {
	if cmd.Name() == "run" && f.Name == "interactive" {
		return &hinted{err, fmt.Sprintf("-i connects standard input; the image needs no flag: capstan run %s", value)}
	}
	return err
}

// oldPlatform is the error of a platform where a port is expected.
func oldPlatform(value string) error {
	if !slices.Contains(oldPlatforms, value) {
		return nil
	}
	return &hinted{fmt.Errorf("-p %s: -p publishes a port, and %s is a platform", value, value), "--on " + value}
}

// oldExecute is the error of a command line where a variable is expected.
func oldExecute(value string) error {
	return &hinted{fmt.Errorf("-e %q: -e sets a variable, NAME=VALUE", value), "the command follows the image: capstan run IMAGE COMMAND ARG...; of an OSv disk image, --execute sets it"}
}
