#!/bin/sh
# need.sh PACKAGE...: installs the Debian packages that are missing; on other
# systems it names them and goes on, since they may be there by other names.
set -eu
command -v dpkg-query >/dev/null || { echo "This is no Debian or Ubuntu: make sure of what these packages hold: $*" >&2; exit 0; }
missing=
for p in "$@"; do
	dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
[ -n "$missing" ] || exit 0
run=
if [ "$(id -u)" != 0 ]; then
	command -v sudo >/dev/null || { echo "As root: apt-get install$missing" >&2; exit 1; }
	run=sudo
fi
echo "Installing:$missing" >&2
$run apt-get -o DPkg::Lock::Timeout=600 update -qq
# shellcheck disable=SC2086 # the list is one of words
DEBIAN_FRONTEND=noninteractive $run apt-get -o DPkg::Lock::Timeout=600 install -y -qq --no-install-recommends $missing >/dev/null
