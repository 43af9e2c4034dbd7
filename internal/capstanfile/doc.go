// Package capstanfile reads and checks a Capstanfile, the YAML file that says
// how an application's image is made, and the .capstanignore file beside it. It
// reads the two files that describe a package of old Capstan's as well, for OSv.
//
// It parses text only: it opens no file but the one it is asked for, resolves
// no image name and looks at none of the paths that a Capstanfile mentions.
// What a Capstanfile means on disk is package source's business; what it means
// for an image is package image's.
//
// # Keys
//
// The keys of old Capstan keep their meaning: base, cmdline, build, files and
// rootfs. Three things are wider than they were: cmdline may be left out where
// a base image brings its own command, build runs in a shell, and the values
// of files may also name directories and globs. The old rpm-base is refused
// with the way out. New and optional are env, workdir, user, expose, volumes,
// memory, cpus, labels and arch. Capstanfile.example explains each.
//
// # Mistakes
//
// Every mistake in a file is reported, in the order of its lines, each as an
// *Error on a line of its own; errors.As finds the first.
package capstanfile
