#!/bin/sh
# moto.sh: prints the folder of moto, a server that stands for AWS in tests. It
# is fetched once, in the versions of moto.txt, into the cache.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cache=${CAPSTAN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/capstan}
dir=$cache/moto-$(python3 -V | tr -d ' ')-$(cksum <"$here/moto.txt" | tr -d ' ')
if [ ! -d "$dir" ]; then
	mkdir -p "$cache"
	tmp=$(mktemp -d "$cache/.tmp-XXXXXX")
	trap 'rm -rf "$tmp"' EXIT
	echo "moto.sh: fetching moto" >&2
	python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore \
		--no-deps --no-warn-conflicts --target "$tmp/moto" -r "$here/moto.txt" >&2
	mv -T "$tmp/moto" "$dir" || [ -d "$dir" ] # another process may have been faster
fi
echo "$dir"
