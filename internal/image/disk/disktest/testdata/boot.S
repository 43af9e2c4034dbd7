# The boot sector of a stand-in for OSv's loader. As the real one does, it reads
# the 63 sectors behind itself to 0:7e00, where the command line is, and what
# lies from sector 128 on, which here is osv.c, to run at 1000:0.

.code16
start:
	ljmp $0, $init

.org 0x10
	.short 1			# 32 KiB of what follows

line:	.byte 0x10, 0			# a disk address packet: INT 13h, AH=42h
	.short 63, 0x7e00, 0
	.quad 1
rest:	.byte 0x10, 0
	.short 64, 0, 0x1000
	.quad 128

init:
	cli
	xor %ax, %ax
	mov %ax, %ds
	mov %ax, %es
	mov %ax, %fs			# osv.c looks at the line by it
	mov %ax, %ss
	mov $0x7c00, %sp
	mov $line, %si
	mov $0x42, %ah
	mov $0x80, %dl
	int $0x13
	mov $rest, %si
	mov $0x42, %ah
	mov $0x80, %dl
	int $0x13
	mov $0x1000, %ax
	mov %ax, %ds
	mov %ax, %es
	mov %ax, %ss
	mov $0xfff0, %esp
	ljmp $0x1000, $0

.org 510
	.byte 0x55, 0xaa
