#!/usr/bin/env bash
# root.sh DIR PACKAGE...: make the root file system DIR of Debian packages and
# what they need, without touching the system and without being root.
#
# Packages come from where this machine's apt gets them. No maintainer script
# runs, so what only such scripts need is left out, as are manuals and
# translations. What was made once is kept, by the packages' versions, in
# ~/.cache/capstan/apps.
#
# DIR "-" makes no copy: printed is where the root is kept, to be read only.
#
# EXCLUDE: a regular expression of further packages to leave out.
# BELOW: packages which, with what they need, are there already: DIR is to lie
# upon their root, and has none of their files and no accounts.
set -euo pipefail
umask 022
die() { echo "root.sh: $*" >&2; exit 1; }
[ $# -ge 2 ] || die "usage: root.sh DIR PACKAGE..."
for tool in apt-get dpkg-deb flock sha256sum; do
	command -v "$tool" >/dev/null || die "$tool is missing: this needs Debian or Ubuntu"
done
dir=$1; shift
cache=${XDG_CACHE_HOME:-$HOME/.cache}/capstan/apps
mkdir -p "$cache/apt/"{lists/partial,cache/archives/partial,state} "$cache/debs"
exec 9>"$cache/lock"; flock 9

# Packages that are dependencies for the sake of maintainer scripts, or
# that servers load only for what nobody here asks of them (PostgreSQL's JIT,
# printing from Java).
never='adduser|base-files|base-passwd|bsdutils|ca-certificates-java|cdebconf|cron|debconf|debconf-2\.0|dpkg|gcc-12-base|init-system-helpers|install-info|iproute2|java-common|libacl1-dev|libavahi-.*|libcups2|libcap2-bin|libgssapi-perl|libllvm[0-9]+|libperl.*|libpam-.*|libz3-4|locales|logrotate|login|lsb-base|mount|openssl|passwd|perl|perl-.*|postgresql-client-common|postgresql-common|procps|sensible-utils|ssl-cert|systemd|systemd-sysv|sysvinit-utils|tar|ucf|util-linux|util-linux-extra'

# apt NAME ARG...: apt with an empty system in front of it.
apt() {
	APT_CONFIG=$cache/apt/apt.conf "$@"
}
configure() { # configure LISTS
	[ -e "$cache/apt/status" ] || : >"$cache/apt/status" # apt's own cache goes by its time
	# Third parties may offer newer packages, of another make.
	printf 'Package: *\nPin: release o=%s\nPin-Priority: 990\n' "$(. /etc/os-release; echo "$ID" | sed 's/./\U&/')" >"$cache/apt/preferences"
	cat >"$cache/apt/apt.conf" <<C
Dir::State "$cache/apt/state";
Dir::State::lists "$1";
Dir::State::status "$cache/apt/status";
Dir::Cache "$cache/apt/cache";
Dir::Etc::preferences "$cache/apt/preferences";
APT::Install-Recommends "false";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "3";
Debug::NoLocking "true";
C
}
# closure PACKAGE...: PACKAGE=VERSION of all that these are and need. What is
# named here is wanted, even where it never is as a dependency.
closure() {
	local all named
	all=$(apt apt-get -qq -s -y --no-install-recommends install "$@" |
		sed -n 's/^Inst \([^ ]*\) (\([^ ]*\) .*/\1=\2/p') || return 1
	named=$(IFS='|'; echo "${*//+/\\+}")
	{
		grep -vE "^($never|${EXCLUDE:-$never})(:[a-z0-9]+)?=" <<<"$all"
		grep -E "^($named)(:[a-z0-9]+)?=" <<<"$all"
	} | sort -u
}
# resolve PACKAGE...: PACKAGE=VERSION of all that belongs into the root.
resolve() {
	local all
	# shellcheck disable=SC2086 # a list of packages
	all=$(closure ${BELOW:-} "$@") && [ -n "$all" ] || return 1
	# shellcheck disable=SC2086
	if [ -n "${BELOW:-}" ]; then comm -23 <(echo "$all") <(closure $BELOW); else echo "$all"; fi
}
# fetch PACKAGE=VERSION...: download what is not there, and print the files.
fetch() {
	local want=() p
	for p in "$@"; do
		[ -e "$(deb "$p")" ] || want+=("$p")
	done
	[ ${#want[@]} = 0 ] || (cd "$cache/debs" && apt apt-get -qq download "${want[@]}" >&2)
}
deb() { # the file that apt-get download makes of PACKAGE=VERSION
	local name=${1%%=*} version=${1#*=} f
	for f in "$cache/debs/${name%%:*}_${version//:/%3a}"_*.deb; do echo "$f"; done
}
# accounts DIR: the users that maintainer scripts would make, and data
# directories, which they would too. These are open to all, since who builds
# without being root can give nothing away.
accounts() {
	case " ${list//$'\n'/ }" in
	*" redis-server="*) mkdir -m 1777 -p "$1/var/lib/redis" ;;
	*" postgresql="*) mkdir -m 1777 -p "$1/var/lib/postgresql" ;;
	esac
	cat >"$1/etc/passwd" <<-P
		root:x:0:0:root:/root:/bin/sh
		daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
		www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
		redis:x:101:101::/var/lib/redis:/usr/sbin/nologin
		memcache:x:102:102::/nonexistent:/usr/sbin/nologin
		postgres:x:103:103::/var/lib/postgresql:/bin/sh
		nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
	P
	cat >"$1/etc/group" <<-P
		root:x:0:
		daemon:x:1:
		www-data:x:33:
		redis:x:101:
		memcache:x:102:
		postgres:x:103:
		nogroup:x:65534:
	P
	echo 'passwd: files
group: files
hosts: files dns' >"$1/etc/nsswitch.conf"
}
own=$cache/apt/lists
system=/var/lib/apt/lists
digest() { sha256sum | cut -c 1-32; }
plan() { # the whole from resolving to the downloaded files, with lists $1
	# What apt said of the same lists is not asked again.
	known=$cache/plan-$({ echo "$@"; echo "${EXCLUDE:-}"; echo "${BELOW:-}"; cat "$0"; ls -l --time-style=full-iso "$1"; } | digest)
	if [ ! -s "$known" ]; then
		configure "$1"
		list=$(resolve "${@:2}") && [ -n "$list" ] || return 1
		echo "$list" >"$known.new" && mv "$known.new" "$known"
	fi
	list=$(cat "$known")
	key=$({ echo "$list"; echo "${BELOW:+below}"; cat "$0"; } | digest)
	[ ! -d "$cache/$key" ] || return 0
	configure "$1"
	# shellcheck disable=SC2086 # one word for each package
	fetch $list
}
if ! { ls $system/*_Packages* >/dev/null 2>&1 && plan $system "$@" 2>/dev/null; }; then
	configure "$own"
	apt apt-get -qq update >&2 || die "apt-get update did not work: see to this machine's apt sources"
	plan "$own" "$@" || die "apt does not find all of: $*"
fi

if [ ! -d "$cache/$key" ]; then
	new=$cache/$key.new
	rm -rf "$new"; mkdir -p "$new"/{usr/{bin,sbin,lib,lib64},dev,etc,home,proc,root,run,sys,tmp,var/log}
	for l in bin sbin lib lib64; do ln -s usr/$l "$new/$l"; done
	ln -s /run "$new/var/run"
	for p in $list; do
		dpkg-deb --fsys-tarfile "$(deb "$p")" | tar -C "$new" -x --no-same-owner --keep-directory-symlink \
			--exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' --exclude='./usr/share/info/*' \
			--exclude='./usr/share/locale/*' --exclude='./usr/share/lintian/*' --exclude='./usr/share/bug/*' -f -
	done
	if [ -e "$new/usr/bin/dash" ]; then ln -sf dash "$new/usr/bin/sh"; fi
	chmod 1777 "$new/tmp"
	[ -n "${BELOW:-}" ] || accounts "$new"
	mv "$new" "$cache/$key"
fi
if [ "$dir" = - ]; then
	echo "$cache/$key"
	exit
fi
dir=$(realpath -m "$dir")
rm -rf "$dir"; mkdir -p "$(dirname "$dir")"
cp -a --reflink=auto "$cache/$key" "$dir"
