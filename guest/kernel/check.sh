#!/bin/bash
# Checks the guest kernel: every fragment's symbols, sizes, caching, and boots
# in QEMU (TCG) the ways that the product boots it. Prints one line a check.
# Needs what build.sh needs, and: qemu-system-x86 ovmf
set -euo pipefail
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'echo "FAIL at line $LINENO" >&2' ERR
# shellcheck source=lib.sh
. "$here/lib.sh"
# shellcheck source=recipe.sh
. "$here/recipe.sh"

fail() {
	echo "FAIL $*" >&2
	[ ! -f "$tmp/serial" ] || sed 's/^/    | /' "$tmp/serial" | tail -n 40 >&2
	exit 1
}
pass() { echo "ok   $*"; }

command -v qemu-system-x86_64 >/dev/null || die "missing tools; try: apt-get install qemu-system-x86"
ovmf=
for f in /usr/share/OVMF/OVMF_CODE_4M.fd /usr/share/OVMF/OVMF_CODE.fd; do
	[ -n "$ovmf" ] || [ ! -f "$f" ] || ovmf=$f
done
[ -n "$ovmf" ] || die "missing tools; try: apt-get install ovmf"

# --- configuration -----------------------------------------------------------
printf '%s\n' CONFIG_A=y CONFIG_B=y CONFIG_N=7 '# CONFIG_C is not set' '# CONFIG_D is not set' >"$tmp/wanted"
printf '%s\n' CONFIG_A=y '# CONFIG_B is not set' CONFIG_N=8 CONFIG_C=y >"$tmp/got"
lost=$(lost_symbols "$tmp/wanted" "$tmp/got" | tr '\n' ';')
[ "$lost" = "CONFIG_B=y;CONFIG_N=7;# CONFIG_C is not set;" ] || fail "lost symbols: $lost"
pass "a lost symbol is named"
"$here/build.sh" config
pass "all fragments survive"

# --- build and cache ---------------------------------------------------------
gcc -O2 -static -s -o "$tmp/init" "$here/check/init.c"
start=$(date +%s%N)
INIT=$tmp/init "$here/build.sh" "$tmp/out"
pass "relinked in $((($(date +%s%N) - start) / 1000000)) ms (with the compilation, where that was due)"
before=$(stat -c %i "$tmp/out/guest-amd64")
start=$(date +%s%N)
INIT=$tmp/init "$here/build.sh" "$tmp/out"
[ "$before" = "$(stat -c %i "$tmp/out/guest-amd64")" ] || fail "unchanged inputs, but a new image"
pass "unchanged inputs cost $((($(date +%s%N) - start) / 1000000)) ms"
json() { sed -n "s/.*\"$1\": \"\\{0,1\\}\\([^\",]*\\).*/\\1/p" "$tmp/out/guest-amd64.json"; }
[ "$(json kernel_bytes)" -le 6000000 ] || fail "bzImage of $(json kernel_bytes) bytes"
pass "bzImage $(json kernel_bytes) bytes, limit 6000000"
if [ -f "$here/../build/guest-amd64" ]; then
	size=$(stat -c %s "$here/../build/guest-amd64")
	[ "$size" -le 9000000 ] || fail "guest of $size bytes"
	pass "guest with PID 1 $size bytes, limit 9000000"
fi

# --- boots -------------------------------------------------------------------
image=$tmp/out/guest-amd64
u32() { od -An -tu4 -j"$1" -N4 "$image" | tr -d ' '; }
setup=$(od -An -tu1 -j497 -N1 "$image" | tr -d ' ')
offset=$(((setup + 1) * 512 + $(u32 584)))
# The payload ends with its uncompressed size, which is not part of the stream.
dd if="$image" bs=1M iflag=skip_bytes,count_bytes skip="$offset" count=$(($(u32 588) - 4)) status=none |
	zstd -dqc >"$tmp/vmlinux"

mkdir -p "$tmp/esp/EFI/BOOT" "$tmp/cpio/capstan"
cp "$image" "$tmp/esp/EFI/BOOT/BOOTX64.EFI"
echo '{"check":1}' >"$tmp/cpio/capstan/config.json"
# newc by hand: one directory, one file, the trailer (cpio(5)).
entry() { # NAME MODE FILE
	local size=0
	[ -z "${3:-}" ] || size=$(stat -c %s "$3")
	printf '070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X' \
		1 "$2" 0 0 1 0 "$size" 0 0 0 0 $((${#1} + 1)) 0
	printf '%s' "$1"
	head -c $((1 + (4 - (110 + ${#1} + 1) % 4) % 4)) /dev/zero
	[ -z "${3:-}" ] || { cat "$3"; head -c $(((4 - size % 4) % 4)) /dev/zero; }
}
{
	entry capstan 0040755
	entry capstan/config.json 0100600 "$tmp/cpio/capstan/config.json"
	entry 'TRAILER!!!' 0
} >"$tmp/config.cpio"
truncate -s 8M "$tmp/disk"

# boot SECONDS QEMU-ARGUMENTS runs QEMU to its end, which must come in time,
# with the serial port's text in $tmp/serial.
boot() {
	local limit=$1
	shift
	: >"$tmp/serial"
	timeout "$limit" qemu-system-x86_64 -accel tcg -cpu max -nodefaults -no-user-config \
		-display none -no-reboot -serial "file:$tmp/serial" "$@" </dev/null ||
		fail "QEMU: status $? (124: no end within $limit s): $*"
}
expect() { grep -q -- "$1" "$tmp/serial" || fail "no '$1' on the console"; }
disk() { echo "-drive if=none,id=$1,format=raw,snapshot=on,file=$tmp/disk"; }
up() { sed -n 's/^check: up .* after/after/p' "$tmp/serial" | tr -d '\r'; }

microvm=(-M "microvm,acpi=off,pit=off,pic=off,rtc=on" -m 128)
lean="acpi=off pci=off reboot=t"
q35=(-M "q35,usb=off,vmport=off,smm=off,hpet=off" -m 128)

boot 60 "${microvm[@]}" -kernel "$tmp/vmlinux" -append "$lean check=reset"
expect "check: up"
[ "$(head -c 6 "$tmp/serial")" = "check:" ] || fail "the kernel is not silent"
pass "microvm, ELF: $(up)"
boot 60 "${microvm[@]}" -smp 4 -initrd "$tmp/config.cpio" -kernel "$image" -append "$lean check=show"
expect 'check: config={"check":1}'
expect 'check: clock=tsc'
expect 'check: cpus=0-3'
expect 'check: overcommit=1'
pass "microvm, bzImage, 4 processors, an archive more: $(up)"
boot 60 -M microvm,acpi=off,pit=off,pic=off,rtc=on -m 48 -kernel "$tmp/vmlinux" -append "$lean check=reset"
expect "check: up"
pass "microvm, 48 MB: $(up)"
boot 60 "${q35[@]}" -kernel "$tmp/vmlinux" -append "check=off"
expect "check: up"
pass "q35, ELF, ACPI power-off: $(up)"
boot 60 "${q35[@]}" -smp 2 -initrd "$tmp/config.cpio" -kernel "$image" -append "reboot=t check=show"
expect 'check: config={"check":1}'
expect 'check: cpus=0-1'
pass "q35, bzImage, 2 processors: $(up)"
boot 180 "${q35[@]}" -m 256 -drive "if=pflash,format=raw,readonly=on,file=$ovmf" \
	-drive "if=none,id=esp,format=raw,readonly=on,file=fat:$tmp/esp" -device virtio-blk-pci,drive=esp
expect "check: up"
pass "q35, UEFI, removable-media path, no command line: $(up)"

for end in panic exit; do
	boot 60 "${microvm[@]}" -kernel "$tmp/vmlinux" -append "$lean check=$end"
	expect "Kernel panic - not syncing"
	boot 60 "${q35[@]}" -kernel "$tmp/vmlinux" -append "check=$end"
	expect "Kernel panic - not syncing"
done
pass "a panic is told and ends the machine"

# --- the platforms' devices, as far as QEMU has them -------------------------
# shellcheck disable=SC2046
boot 90 "${q35[@]}" -kernel "$tmp/vmlinux" -append "check=show-off" \
	$(disk a) $(disk b) $(disk c) $(disk d) $(disk e) \
	-device nvme,drive=a,serial=1 -device ide-hd,drive=b,bus=ide.0 \
	-device pvscsi,id=p -device scsi-hd,drive=c,bus=p.0 \
	-device virtio-scsi-pci,id=v -device scsi-hd,drive=d,bus=v.0 \
	-device virtio-blk-pci,drive=e,disable-modern=on,disable-legacy=off \
	-device e1000e,romfile= -device vmxnet3,romfile= -device virtio-net-pci,romfile= \
	-device virtio-rng-pci -device virtio-balloon-pci -device virtio-serial-pci
for want in 'drivers=.*ahci' 'drivers=.*nvme' 'drivers=.*vmw_pvscsi' 'drivers=.*e1000e' 'drivers=.*vmxnet3' \
	'disks=.*nvme0n1' 'disks=.*sda' 'disks=.*sdb' 'disks=.*sdc' 'disks=.*vda' 'nets=.*eth2'; do
	expect "check: $want"
done
pass "drivers of EC2, GCE, VMware and KVM find their devices"
# shellcheck disable=SC2046
boot 90 -M pc,usb=off -m 128 -kernel "$tmp/vmlinux" -append "check=show-off" \
	$(disk a) -device ide-hd,drive=a,bus=ide.0 -device e1000,romfile=
for want in 'drivers=.*ata_piix' 'drivers=.*e1000' 'disks=.*sda' 'nets=.*eth0'; do
	expect "check: $want"
done
pass "drivers of VirtualBox's PIIX find their devices"
