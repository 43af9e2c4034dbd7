# Steps of build.sh, in the order in which they run. Sourced, not executed.
# shellcheck shell=sh disable=SC2154 # variables come from build.sh

die() {
	echo "guest kernel: $*" >&2
	exit 1
}

say() { echo "guest kernel: $*" >&2; }

# need_tools names every missing program with the Debian package that has it.
need_tools() {
	missing=
	for pair in gcc:gcc ld:binutils make:make bc:bc bison:bison flex:flex \
		perl:perl patch:patch xz:xz-utils zstd:zstd flock:util-linux; do
		command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair#*:}"
	done
	for pair in gelf.h:libelf-dev sys/types.h:libc6-dev; do
		echo "#include <${pair%%:*}>" | gcc -E -x c - >/dev/null 2>&1 ||
			missing="$missing ${pair#*:}"
	done
	[ -z "$missing" ] || die "missing tools; try: apt-get install$missing"
}

# find_source sets source_id, which changes when the source does, and
# source_name, which people read.
find_source() {
	if [ -n "${KERNEL_TREE:-}" ]; then
		[ -f "$KERNEL_TREE/Kbuild" ] || die "KERNEL_TREE: no kernel source in $KERNEL_TREE"
		KERNEL_TREE=$(cd "$KERNEL_TREE" && pwd)
		source_name=$KERNEL_TREE
		source_id=$(find "$KERNEL_TREE" -name .git -prune -o -type f -printf '%P %s %T@\n' |
			sort | sha256sum | cut -c1-64)
		return
	fi
	[ -f "$tarball" ] || die "no $tarball; try: apt-get install $package, or set KERNEL_TREE"
	source_name="$package $(dpkg-query -W -f '${Version}' "$package")"
	source_id="$source_name $(stat -c %s "$tarball")"
}

# kernel_inputs prints what the kernel without PID 1 is made from.
kernel_inputs() {
	echo "$source_id"
	gcc --version | head -n 1
	ld --version | head -n 1
	cat "$here/build.sh" "$here/lib.sh" "$config_dir"/*.config
	for p in "$here"/patches/*.patch; do
		[ ! -f "$p" ] || cat "$p"
	done
}

# up_to_date tells whether OUTDIR holds the result of these very inputs.
up_to_date() {
	[ -f "$out/guest-amd64" ] && [ -f "$out/guest-amd64.json" ] || return 1
	grep -qF "\"inputs\": \"$inputs\"" "$out/guest-amd64.json" || return 1
	grep -qF "\"bytes\": $(stat -c %s "$out/guest-amd64")," "$out/guest-amd64.json"
}

# lock serialises builds that share the cache, until this process ends.
lock() {
	mkdir -p "$cache"
	exec 9>"$cache/kernel.lock"
	flock -n 9 && return
	say "waiting for another build"
	flock 9
}

# unpack makes $work/src: the source without what this machine type never
# compiles (two thirds of it; Kconfig and Makefiles stay, they refer to each
# other), with our patches.
unpack() {
	mkdir -p "$work"
	touch "$work" # prune goes by age
	[ ! -f "$work/src.ok" ] || return 0
	say "unpacking $source_name"
	rm -rf "$work/src"
	mkdir "$work/src"
	if [ -n "${KERNEL_TREE:-}" ]; then
		tar -C "$KERNEL_TREE" --exclude=./.git -cf - . | tar -C "$work/src" -xf -
	else
		set -- --wildcards --strip-components=1
		for dir in arch/arm arch/arm64 arch/powerpc arch/mips arch/s390 arch/riscv \
			arch/sparc arch/parisc arch/m68k arch/sh drivers/gpu drivers/media \
			drivers/staging drivers/infiniband drivers/net/wireless sound \
			tools/testing tools/perf; do
			set -- "$@" "--exclude=$package/$dir/*.[chS]" "--exclude=$package/$dir/*.dts*"
		done
		tar -C "$work/src" "$@" --exclude="$package/Documentation/*/*" -xf "$tarball"
	fi
	for p in "$here"/patches/*.patch; do
		[ ! -f "$p" ] || patch -d "$work/src" -p1 -s <"$p" || die "patch ${p##*/} does not apply"
	done
	touch "$work/src.ok"
}

# kmake runs the kernel's make with all that could differ between two machines
# or two minutes pinned.
kmake() {
	env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL make -s -C "$work/src" O="$work/obj" ARCH=x86_64 -j "$jobs" \
		KBUILD_BUILD_USER=capstan KBUILD_BUILD_HOST=capstan KBUILD_BUILD_VERSION=1 \
		KBUILD_BUILD_TIMESTAMP="$(date -u -d "@$(stat -c %Y "$work/src/Kbuild")")" "$@"
}

# configure merges the fragments over allnoconfig and dies with the name of
# every line that did not survive.
configure() {
	mkdir -p "$work/obj"
	{
		cat "$config_dir"/*.config
		echo "CONFIG_INITRAMFS_SOURCE=\"$work/obj/initramfs.list\""
	} >"$work/merged.config"
	[ -f "$work/obj/initramfs.list" ] || write_initramfs_list
	cp "$work/obj/.config" "$work/config.old" 2>/dev/null || :
	kmake KCONFIG_ALLCONFIG="$work/merged.config" allnoconfig >"$work/config.log" 2>&1 ||
		{ cat "$work/config.log" >&2; die "configuration failed"; }
	# An unchanged configuration must not look newer than its objects.
	cmp -s "$work/config.old" "$work/obj/.config" && cp -p "$work/config.old" "$work/obj/.config"
	lost=$(lost_symbols "$work/merged.config" "$work/obj/.config")
	[ -z "$lost" ] || die "did not survive configuration:
$lost"
}

# lost_symbols WANTED GOT prints WANTED's lines that do not hold in GOT: "=y"
# lines must be there, "is not set" lines must not be set.
lost_symbols() {
	awk 'FNR == NR { have[$0]; if (match($0, /^CONFIG_[A-Za-z0-9_]+=/)) set[substr($0, 1, RLENGTH - 1)]; next }
		/^CONFIG_/ && !($0 in have) { print }
		/^# CONFIG_[A-Za-z0-9_]+ is not set$/ && ($2 in set) { print }' "$2" "$1"
}

# write_initramfs_list [INIT] writes what the built-in archive holds.
write_initramfs_list() {
	{
		echo "dir /dev 0755 0 0"
		echo "nod /dev/console 0600 0 0 c 5 1"
		[ -z "${1:-}" ] || echo "file /init $1 0755 0 0"
	} >"$work/obj/initramfs.list"
}

# compile builds everything once without PID 1, and records that size.
compile() {
	[ ! -f "$work/kernel.bytes" ] || return 0
	say "compiling $source_name"
	write_initramfs_list
	kmake bzImage
	stat -c %s "$work/obj/arch/x86/boot/bzImage" >"$work/kernel.bytes"
}

# link_guest links PID 1 into the compiled kernel.
link_guest() {
	say "linking $init into the kernel"
	cp "$init" "$work/obj/pid1.new"
	mv "$work/obj/pid1.new" "$work/obj/pid1"
	write_initramfs_list "$work/obj/pid1"
	kmake bzImage
}

# publish writes the two results, the image first: a reader who finds the JSON
# finds the image that it describes.
publish() {
	image=$work/obj/arch/x86/boot/bzImage
	cp "$image" "$out/.guest-amd64.$$"
	cat >"$out/.guest-amd64.json.$$" <<JSON
{
  "kernel": "$(cat "$work/obj/include/config/kernel.release")",
  "source": "$source_name",
  "kernel_inputs": "$kernel_key",
  "init": "$init_hash",
  "inputs": "$inputs",
  "bytes": $(stat -c %s "$image"),
  "kernel_bytes": $(cat "$work/kernel.bytes"),
  "init_bytes": $(stat -c %s "$init"),
  "sha256": "$(sha256sum <"$image" | cut -c1-64)"
}
JSON
	mv "$out/.guest-amd64.$$" "$out/guest-amd64"
	mv "$out/.guest-amd64.json.$$" "$out/guest-amd64.json"
	say "$out/guest-amd64: $(stat -c %s "$out/guest-amd64") bytes, $(cat "$work/kernel.bytes") without PID 1"
}

# prune keeps the three kernels used last; each is about a gigabyte.
prune() {
	ls -dt "$cache"/kernel-*/ | tail -n +4 | while read -r old; do
		rm -rf "$old"
	done
}
