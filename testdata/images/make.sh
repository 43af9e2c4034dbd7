#!/usr/bin/env bash
# make.sh IMAGE: make the container image IMAGE, built as the official one of
# that name is, and print the path of an OCI layout that holds it, tagged
# "latest". It needs neither root nor anything of Capstan's.
#
# An image is a directory here:
#
#   packages   Debian packages. They are a layer upon that of the image base,
#              which all share; without this file nothing is below the rest.
#   recipe.sh  config: options of umoci-config(1). payload DIR, if there is such
#              a function, puts into a layer of its own what no package has.
#              furnish, called in the last layer's tree, gives files away.
#   files/     the last layer.
#
# What was made is kept in ~/.cache/capstan/images, by all that it is made of,
# until nobody has asked for it for a month.
set -euo pipefail
umask 022
die() { echo "make.sh: $*" >&2; exit 1; }
[ $# = 1 ] || die "usage: make.sh IMAGE"
here=$(cd "$(dirname "$0")" && pwd)
image=$1 recipe=$here/$1
[ -e "$recipe/recipe.sh" ] || die "there is no image $image in $here"
for tool in umoci fakeroot flock; do
	command -v "$tool" >/dev/null || die "$tool is missing: apt-get install umoci fakeroot util-linux"
done
cache=${XDG_CACHE_HOME:-$HOME/.cache}/capstan/images
mkdir -p "$cache"

BELOW=$(cat "$here/base/packages")
# shellcheck disable=SC2086 # lists of packages
base=$("$here/../apps/root.sh" - $BELOW)
below='' root=$base
if [ "$image" != base ]; then
	root=
	if [ -e "$recipe/packages" ]; then
		below=$("$0" base)
		# shellcheck disable=SC2046
		root=$(BELOW=$BELOW "$here/../apps/root.sh" - $(cat "$recipe/packages"))
	fi
fi
key=$({ echo "$below $root"; cat "$0"; cd "$recipe"; find . -type f -exec sha256sum {} +; find . -type f -perm /111; } | sort | sha256sum | cut -c 1-32)
layout=$cache/$image-$key
exec 9>"$cache/$image.lock"; flock 9
if [ -e "$layout" ]; then
	touch "$layout"
	echo "$layout"
	exit
fi

new=$layout.new
rm -rf "$new" "$new.tmp"; mkdir "$new.tmp"
trap 'rm -rf "$new.tmp"' EXIT
# account NAME UID HOME: a user with a group of its own, added to the base's.
account() {
	mkdir -p etc
	for f in passwd group; do [ -e etc/$f ] || cp "$base/usr/share/base-passwd/$f.master" etc/$f; done
	echo "$1:x:$2:$2::$3:/usr/sbin/nologin" >>etc/passwd
	echo "$1:x:$2:" >>etc/group
}
furnish() { :; }
config=()
# shellcheck source=/dev/null
. "$recipe/recipe.sh"
# pack DIR COMMAND: adds DIR as a layer, all of root's but for what COMMAND gives
# away.
pack() {
	(cd "$1" && base=$base tar=$new.tmp/tar fakeroot -- bash -euc "umask 022; chown -hR 0:0 .
		$(declare -f account furnish); $2
		tar --sort=name --numeric-owner --mtime=@0 -cf \"\$tar\" .")
	umoci raw add-layer --image "$new:latest" --history.created_by "make.sh $image: $(basename "$1")" "$new.tmp/tar"
	rm "$new.tmp/tar"
}
if [ -n "$below" ]; then
	cp -a "$below" "$new"
else
	umoci init --layout "$new"
	umoci new --image "$new:latest"
fi
if [ -n "$root" ]; then
	cp -a "$root" "$new.tmp/packages"
	pack "$new.tmp/packages" :
fi
if declare -F payload >/dev/null; then
	mkdir "$new.tmp/payload"
	payload "$new.tmp/payload" >&2
	pack "$new.tmp/payload" :
fi
mkdir "$new.tmp/files"
[ ! -d "$recipe/files" ] || cp -a "$recipe/files/." "$new.tmp/files"
pack "$new.tmp/files" furnish
umoci config --image "$new:latest" --no-history "${config[@]}"
umoci gc --layout "$new"
mv "$new" "$layout"
find "$cache" -mindepth 1 -maxdepth 1 -type d -mtime +30 -exec rm -rf {} +
echo "$layout"
