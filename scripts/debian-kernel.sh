#!/bin/sh
# debian-kernel.sh: prints the path of Debian's stock cloud kernel, which the
# boot benchmark measures the guest's kernel against. It is downloaded once and
# unpacked, not installed.
set -eu
cache=${CAPSTAN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/capstan}
package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
[ -n "$package" ] || { echo "debian-kernel: this system's archive has no linux-image-cloud-amd64" >&2; exit 1; }
image=$cache/$package/vmlinuz
if [ ! -f "$image" ]; then
	mkdir -p "$cache"
	tmp=$(mktemp -d "$cache/.tmp-XXXXXX")
	trap 'rm -rf "$tmp"' EXIT
	echo "debian-kernel: downloading $package" >&2
	(cd "$tmp" && apt-get -qq -o APT::Sandbox::User=root download "$package" >&2)
	dpkg-deb --fsys-tarfile "$tmp"/*.deb | tar -C "$tmp" -x --wildcards './boot/vmlinuz-*'
	mkdir -p "$cache/$package"
	mv "$tmp"/boot/vmlinuz-* "$image"
fi
echo "$image"
