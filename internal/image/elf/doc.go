// Package elf finds everything that an ELF program needs to run in an
// otherwise empty root: its loader, its shared libraries, and the few data
// files that its C library reads by itself. It reads ELF and the loader's
// configuration; it runs nothing, neither the program nor ldd.
//
// # What is found
//
// Libraries are searched for as the program's own loader would: DT_RPATH,
// DT_RUNPATH ($ORIGIN, $LIB, $PLATFORM), then the directories of
// /etc/ld.so.conf, then the built-in ones (ld.so(8)); for musl,
// /etc/ld-musl-ARCH.path. LD_LIBRARY_PATH is not followed, because the guest
// would not have it; variants below glibc-hwcaps are left out, because they
// are never needed.
//
// Every file keeps the path that it has on the host, and every symbolic link
// on the way to it is kept, so that the loader and the program find what they
// would find on the host.
//
// For glibc programs these are added, each where it exists:
//   - libnss_files, libnss_dns and libresolv, by which an old glibc (before
//     2.34) looks up users and hosts, and libgcc_s, which it opens when a
//     thread is cancelled;
//   - the C.UTF-8 locale, which Python, PostgreSQL and Java ask for;
//   - an /etc/nsswitch.conf and an /etc/ld.so.cache, both written here: the
//     host's may name services and libraries that are not in the image.
//
// # What is not
//
// What a program opens by itself cannot be seen from its ELF headers:
// plug-ins (dlopen), gconv character sets other than UTF-8 and ASCII, other
// locales, /usr/share/zoneinfo, an interpreter's standard library. A program
// that needs them is better built from a directory.
package elf
