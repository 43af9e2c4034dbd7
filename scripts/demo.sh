#!/usr/bin/env bash
# demo.sh: Debian's redis-server as a virtual machine, from nothing to nothing:
# made, run, asked 1,000 times by a real client, stopped and removed. It uses a
# capstan root of its own, below /tmp, and leaves nothing there.
#
#   CAPSTAN_BIN  the binary (default bin/capstan, which make builds)
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
capstan=${CAPSTAN_BIN:-$here/bin/capstan}
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
die() { echo "demo: $*" >&2; exit 1; }
[ -x "$capstan" ] || die "there is no $capstan: make builds it"
command -v redis-cli >/dev/null || die "redis-cli is missing: apt-get install redis-tools"

export LC_ALL=C
began=$EPOCHREALTIME
dir=$(mktemp -d /tmp/capstan-demo.XXXXXX)
export CAPSTAN_ROOT=$dir/root
clean() {
	trap - EXIT INT TERM HUP
	if [ -d "$CAPSTAN_ROOT/instances/redis" ]; then "$capstan" rm -f redis >/dev/null 2>&1 || true; fi
	rm -rf "$dir"
}
trap clean EXIT
trap 'clean; exit 130' INT
trap 'clean; exit 143' TERM HUP
since() { awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.2f s", b - a }'; }
# ping: whether Redis answers. Until it listens, a connection is closed at once.
ping() { [ "$(timeout 60 redis-cli -h "${address%:*}" -p "${address##*:}" PING 2>/dev/null)" = PONG ]; }

say "1. A root file system of Debian's redis-server"
cp -r "$here/testdata/apps/redis" "$dir/redis"
rm -rf "$dir/redis/ROOTFS"
# shellcheck disable=SC2046 # a list of packages
"$here/testdata/apps/root.sh" "$dir/redis/ROOTFS" $(cat "$dir/redis/packages")
du -sh "$dir/redis/ROOTFS" | cut -f 1

say "2. capstan build redis"
cat "$dir/redis/Capstanfile"
at=$EPOCHREALTIME
"$capstan" build redis "$dir/redis"
build=$(since "$at")

say "3. capstan run -d --name redis -m 64M -p 127.0.0.1:0:6379 redis"
at=$EPOCHREALTIME
"$capstan" run -d --name redis -m 64M -p 127.0.0.1:0:6379 redis
address=$("$capstan" ps --format '{{index .Ports 0}}')
address=${address%%->*}
until ping; do
	[ -n "$("$capstan" ps -q)" ] || { "$capstan" logs redis; die "redis ended: $("$capstan" ps -a)"; }
	[ "${EPOCHREALTIME%.*}" -lt $((${at%.*} + 300)) ] || die "redis does not answer within 5 minutes"
	sleep 0.05
done
boot=$(since "$at")
"$capstan" ps
"$capstan" logs redis

say "4. 1,000 SET and GET by redis-cli, each answer compared"
at=$EPOCHREALTIME
for n in $(seq 1000); do printf 'SET key:%d value-%d\nGET key:%d\n' "$n" "$n" "$n"; done >"$dir/ask"
for n in $(seq 1000); do printf 'OK\nvalue-%d\n' "$n"; done >"$dir/want"
timeout 120 redis-cli -h "${address%:*}" -p "${address##*:}" <"$dir/ask" >"$dir/got"
cmp "$dir/want" "$dir/got" || die "Redis gave a wrong answer"
asked=$(since "$at")
echo "all right"

say "5. capstan stop, rm, rmi"
at=$EPOCHREALTIME
"$capstan" stop redis
stop=$(since "$at")
status=$("$capstan" ps -a --format '{{.Status}} ({{.ExitCode}})')
[ "$status" = 'exited (0)' ] || die "redis should have exited with 0: $status"
"$capstan" rm redis
"$capstan" rmi redis
left=$(ls -A "$CAPSTAN_ROOT/instances" 2>/dev/null; grep -slF "$CAPSTAN_ROOT/instances" /proc/[0-9]*/cmdline || true)
[ -z "$left" ] || die "something is left: $left"
clean
[ ! -e "$dir" ] || die "$dir is left"

say "Redis ran as a virtual machine, and nothing is left of it"
echo "build                                  $build"
echo "run until it answered (boot)           $boot"
echo "1,000 SET and 1,000 GET                $asked"
echo "stop                                   $stop"
echo "all of the demo                        $(since "$began")"
