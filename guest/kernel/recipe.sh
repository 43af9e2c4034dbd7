# How a kernel is made: source, configuration, objects, link. Sourced, not
# executed. This file is part of the kernel's inputs: a change here remakes it.
# shellcheck shell=sh disable=SC2154 # variables come from build.sh

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
