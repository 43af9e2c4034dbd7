# What build.sh does around the making of a kernel. Sourced, not executed.
# A change here remakes nothing.
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
	cat "$here/recipe.sh" "$config_dir"/*.config
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

# publish writes the results: the image, its symbols (for the addresses of a
# panic) and, last, the JSON: who finds it finds the image that it describes.
publish() {
	image=$work/obj/arch/x86/boot/bzImage
	cp "$image" "$out/.guest-amd64.$$"
	cp "$work/obj/System.map" "$out/.guest-amd64.map.$$"
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
	mv "$out/.guest-amd64.map.$$" "$out/guest-amd64.map"
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
