#!/bin/sh
# Builds the guest: one EFI-bootable kernel with PID 1's initramfs linked in.
#
#   INIT=path/to/init guest/kernel/build.sh [OUTDIR]
#
# writes OUTDIR/guest-amd64, .json and .map (default OUTDIR: guest/build).
# Other inputs, all from the environment:
#   KERNEL_TREE    a kernel source tree, instead of the linux-source-6.12 package
#   CONFIG_DIR     the fragments, instead of config/ beside this script
#   CAPSTAN_CACHE  where objects are kept (default ~/.cache/capstan)
#   JOBS           parallel compilers (default: number of processors)
# `build.sh config` only checks that every fragment's symbols survive.
#
# Objects are cached by the hash of everything that the kernel is made from, so
# a changed PID 1 costs one link, and unchanged inputs cost nothing.
set -eu
umask 022
export LC_ALL=C

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=lib.sh
. "$here/lib.sh"
# shellcheck source=recipe.sh
. "$here/recipe.sh"

config_dir=${CONFIG_DIR:-$here/config}
cache=${CAPSTAN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/capstan}
jobs=${JOBS:-$(nproc)}
package=linux-source-6.12
tarball=/usr/src/$package.tar.xz

need_tools
find_source # sets source_id, source_name
kernel_key=$(kernel_inputs | sha256sum | cut -c1-32)
work=$cache/kernel-$kernel_key

if [ "${1:-}" = config ]; then
	lock
	unpack
	configure
	exit 0
fi

out=${1:-$here/../build}
init=${INIT:?set INIT to the PID 1 binary to link in}
[ -f "$init" ] || die "INIT: no file $init"
mkdir -p "$out"
init_hash=$(sha256sum <"$init" | cut -c1-64)
inputs=$(printf '%s\n' "$kernel_key" "$init_hash" | sha256sum | cut -c1-64)
up_to_date && exit 0
lock
up_to_date && exit 0 # another build made it while we waited

unpack
configure
compile
link_guest
publish
prune
