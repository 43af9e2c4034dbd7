#!/bin/bash
# Programs of another Debian suite in a root of their own, for tests: nothing of
# this system changes, and no maintainer script is run.
#
#   scripts/debroot.sh make NAME SUITE[,COMPONENT...] PACKAGE...
#   scripts/debroot.sh run NAME COMMAND [ARG...]
#
# make downloads the packages with what they depend on and unpacks them below
# ~/.cache/capstan/debroot; where that was done before it does nothing. It needs
# apt, and takes the mirror that apt is set up with. DEBROOT_WITHOUT, an extended
# regular expression, drops dependencies that are not wanted.
#
# run runs a command in there, in the current folder, with this environment but
# for PATH. It sees /tmp, this folder and those in DEBROOT_BIND (colons between
# them) under their own names. It needs root, or user namespaces.
set -euo pipefail
export LC_ALL=C

die() {
	echo "debroot: $*" >&2
	exit 1
}

cache=${CAPSTAN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/capstan}/debroot

# mirror prints the one that apt has for Debian itself.
mirror() {
	apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 2>/dev/null | grep -E '/debian/?$' | head -n 1
}

# settings writes apt's for a system of which nothing is installed.
settings() {
	local dir=$1 suite=$2 site=$3 components
	IFS=, read -ra components <<<"$suite"
	mkdir -p "$dir"/{lists/partial,cache/archives/partial,state,parts,root}
	: >"$dir/status"
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $site ${components[0]} main ${components[*]:1}" >"$dir/sources.list"
	cat >"$dir/apt.conf" <<-CONF
		Dir::Etc::sourcelist "$dir/sources.list";
		Dir::Etc::sourceparts "$dir/parts";
		Dir::Etc::preferences "$dir/none";
		Dir::Etc::preferencesparts "$dir/parts";
		Dir::State "$dir/state";
		Dir::State::lists "$dir/lists";
		Dir::State::status "$dir/status";
		Dir::Cache "$dir/cache";
		APT::Install-Recommends "false";
		APT::Sandbox::User "root";
		Acquire::Languages "none";
		Acquire::Retries "3";
	CONF
}

# depends prints what a package depends on, the first of each choice.
depends() {
	apt-cache show "$1" | sed -n 's/^\(Pre-\)\?Depends: //p' | head -n 2 | tr ',' '\n' |
		sed 's/^ *//; s/[ |(:].*//' | sort -u | grep -vE "${DEBROOT_WITHOUT:-^$}" || true
}

# fetch downloads the packages and what they need. The packages themselves are
# not for apt to install: that would bring in what is not wanted.
fetch() {
	local dir=$1 package wanted
	shift
	wanted=(bash coreutils procps mawk grep sed ca-certificates)
	for package in "$@"; do
		(cd "$dir/cache/archives" && apt-get -qq download "$package")
		mapfile -t -O "${#wanted[@]}" wanted < <(depends "$package")
	done
	apt-get -qq -y --download-only install "${wanted[@]}" >/dev/null
}

# unpack makes the root of what was fetched.
unpack() {
	local dir=$1 root=$1/root deb link
	mkdir -p "$root"/usr/{bin,sbin,lib,lib64} "$root"/{proc,dev,sys,tmp,root,etc}
	for link in bin sbin lib lib64; do ln -sfn usr/$link "$root/$link"; done
	for deb in "$dir"/cache/archives/*.deb; do
		dpkg-deb --fsys-tarfile "$deb" | tar -C "$root" -x --no-same-owner --keep-directory-symlink -f -
	done
	# What the maintainer scripts would have done, as far as it matters.
	ln -sf bash "$root/usr/bin/sh"
	ln -sf mawk "$root/usr/bin/awk"
	echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
	echo 'root:x:0:' >"$root/etc/group"
	mkdir -p "$root/etc/ssl/certs"
	cat "$root"/usr/share/ca-certificates/mozilla/*.crt >"$root/etc/ssl/certs/ca-certificates.crt"
}

make_root() {
	local name=$1 suite=$2 site made
	shift 2
	mkdir -p "$cache"
	exec 9>"$cache/$name.lock"
	flock 9
	made="$suite ${DEBROOT_WITHOUT:-} $*"
	[ "$(cat "$cache/$name/made" 2>/dev/null)" != "$made" ] || return 0
	site=$(mirror)
	[ -n "$site" ] || die "apt has no mirror of Debian's"
	rm -rf "${cache:?}/$name" "$cache/$name.new"
	mkdir "$cache/$name.new"
	settings "$cache/$name.new" "$suite" "$site"
	export APT_CONFIG=$cache/$name.new/apt.conf
	apt-get -qq update
	fetch "$cache/$name.new" "$@"
	unpack "$cache/$name.new"
	rm -rf "$cache/$name.new"/{lists,cache,state}
	echo "$made" >"$cache/$name.new/made"
	mv "$cache/$name.new" "$cache/$name"
}

run_in() {
	local root=$cache/$1/root user=()
	shift
	[ -d "$root/usr/bin" ] || die "there is no root at $root: make it first"
	[ "$(id -u)" = 0 ] || user=(--map-root-user)
	exec unshare "${user[@]}" --mount bash -euc '
		root=$1 here=$PWD
		shift
		mount --make-rprivate /
		IFS=: read -ra binds <<<"/proc:/dev:/sys:/tmp:$PWD${DEBROOT_BIND:+:$DEBROOT_BIND}"
		for dir in "${binds[@]}"; do
			mkdir -p "$root$dir"
			mount --rbind "$dir" "$root$dir"
		done
		export PATH=/usr/sbin:/usr/bin:/sbin:/bin
		exec chroot "$root" /bin/sh -c '"'"'cd "$0" && exec "$@"'"'"' "$here" "$@"' debroot "$root" "$@"
}

case ${1:-} in
make)
	[ $# -ge 4 ] || die "usage: debroot.sh make NAME SUITE[,COMPONENT...] PACKAGE..."
	make_root "${@:2}"
	;;
run)
	[ $# -ge 3 ] || die "usage: debroot.sh run NAME COMMAND [ARG...]"
	run_in "${@:2}"
	;;
*) die "usage: debroot.sh make|run ... (its first lines tell more)" ;;
esac
