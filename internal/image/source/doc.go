// Package source turns what an image is built from into the one layer that the
// build adds: a sequence of tar entries, streamed, the same bytes for the same
// inputs. The inputs are those of a Capstanfile (its rootfs directory and its
// files), a directory, an ELF program, or a tar.
//
// A Layer is planned first, by looking at names and attributes only, and may
// then be fingerprinted, which says whether anything has changed since an
// earlier build, and written, which reads the files. Neither runs anything: a
// Capstanfile's build command is run by the caller, before planning, and each
// time, because only the command itself (a make, say) knows whether it has
// anything to do. The fingerprint then is of the files that it left.
//
// # What comes out
//
// Entries are sorted; parents come before what they hold, and those that the
// inputs do not have are made (root, 0755, 1970). From directories, files and
// programs all belongs to root (0:0). Modes are kept, setuid included; so are
// modification times of files, cut to seconds (directories have 1970, so that
// a file that came and went leaves no trace); symbolic links, never followed
// within a tree; hard links within a tree; FIFOs and device nodes; and on Linux the
// extended attribute security.capability. Sockets are left out with a note.
// On Windows, which has no modes, everything is 0755. A tar keeps its own
// order, owners and attributes.
//
// A directory that is already there, from an earlier input or in the base
// image, keeps its mode; what is put into it joins what it has. Symbolic links
// on the way to a guest path are followed, in the base as well: with a base in
// which /lib is a link to usr/lib, /lib/x goes to /usr/lib/x, and the link
// stays.
//
// # What is refused
//
// Inputs that lead out of the build directory, be it by "..", as absolute
// paths or through symbolic links; what cannot be read; files that change
// while they are read; names that begin with ".wh.", which mean deletions in a
// layer. The tar that WriteTar writes has no end until all has gone well, so
// that what it left behind on an error is never taken for a layer.
package source
