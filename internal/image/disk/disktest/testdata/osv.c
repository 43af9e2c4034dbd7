/*
 * A stand-in for OSv: in real mode, it writes the command line to the first
 * serial port, mounts what OSv would take for its root file system, by the same
 * structures in the same places, and writes the file there that the line's last
 * word names. Then it powers the machine off.
 */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

void run(void);
__asm__(".section .text.start\n\tcalll run\n1:\thlt\n\tjmp 1b\n\t.text\n");

/* An entry of the partition table, as fs/devfs/device.cc has it. */
struct partition {
	u8 bootable, head;
	u16 sector : 6, cylinder : 10;
	u8 system, end_head;
	u16 end_sector : 6, end_cylinder : 10;
	u32 first, count;
} __attribute__((packed));

/* fs/rofs/rofs.hh */
struct super {
	u64 magic, version, block_size, tables, table_blocks, entries, links, inodes;
};

struct inode {
	u32 mode, pad; /* mode_t has four bytes, and the next number is aligned */
	u64 number, offset, count;
};

#define BLOCK 512
#define MAX_TABLES 48

static u8 block[BLOCK];
static u8 tables[MAX_TABLES * BLOCK];
static char line[1024];
static struct super sb;
static u32 root; /* first sector of the partition */

static inline void out8(u16 port, u8 v) { __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port)); }
static inline void out16(u16 port, u16 v) { __asm__ volatile("outw %0, %1" : : "a"(v), "Nd"(port)); }

static inline u8 in8(u16 port)
{
	u8 v;
	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}

static void put(char c)
{
	while (!(in8(0x3fd) & 0x20))
		;
	out8(0x3f8, c);
}

static void say(const char *s)
{
	while (*s)
		put(*s++);
}

static void off(void)
{
	out16(0x604, 0x2000); /* ACPI's PM1_CNT: S5 */
	for (;;)
		__asm__ volatile("hlt");
}

static void fail(const char *why)
{
	say(why);
	put('\n');
	off();
}

static void read(u32 sector, void *to)
{
	static struct {
		u8 size, zero;
		u16 count, offset, segment;
		u64 sector;
	} packet;
	u16 ax = 0x4200, dx = 0x80;
	u8 failed;

	packet.size = 16;
	packet.count = 1;
	packet.offset = (u16)(u32)to;
	packet.segment = 0x1000;
	packet.sector = sector;
	__asm__ volatile("int $0x13; setc %0" : "=qm"(failed), "+a"(ax), "+d"(dx) : "S"(&packet) : "memory", "cc");
	if (failed)
		fail("the disk cannot be read");
}

static void copy_line(void)
{
	u32 at = 0x7e00, n = 0;
	char c;

	do {
		__asm__ volatile("movb %%fs:(%1), %0" : "=q"(c) : "r"(at++));
		line[n++] = c;
	} while (c && n < sizeof(line) - 1);
}

/* The second partition: /dev/vblk0.1. */
static void find_root(void)
{
	struct partition *p = (void *)(block + 0x1be + 0x10);

	read(0, block);
	if (block[510] != 0x55 || block[511] != 0xaa || p->system == 0 || p->sector == 0)
		fail("no root file system");
	root = p->first;
}

static void mount(void)
{
	u32 i;

	read(root, block);
	for (i = 0; i < sizeof(sb); i++)
		((u8 *)&sb)[i] = block[i];
	if (sb.magic != 0xDEADBEAD || sb.version != 1 || sb.block_size != BLOCK)
		fail("no ROFS");
	if (sb.table_blocks > MAX_TABLES)
		fail("its tables are too large");
	for (i = 0; i < (u32)sb.table_blocks; i++)
		read(root + (u32)sb.tables + i, tables + i * BLOCK);
}

/* The tables lie one behind the other, and entries differ in length. */
static u8 *entry(u32 n)
{
	u8 *p = tables;

	while (n--)
		p += 8 + 2 + *(u16 *)(p + 8);
	return p;
}

static u8 *link_at(u32 n)
{
	u8 *p = entry((u32)sb.entries);

	while (n--)
		p += 2 + *(u16 *)p;
	return p;
}

static struct inode *inode(u32 number)
{
	return (struct inode *)link_at((u32)sb.links) + (number - 1);
}

/* Returns the number of an inode, or 0. */
static u32 lookup(struct inode *dir, const char *name, u32 length)
{
	u32 i, k;

	for (i = 0; i < (u32)dir->count; i++) {
		u8 *e = entry((u32)dir->offset + i);
		for (k = 0; k < length && k < *(u16 *)(e + 8) && e[10 + k] == (u8)name[k]; k++)
			;
		if (k == length && *(u16 *)(e + 8) == length)
			return (u32)*(u64 *)e;
	}
	return 0;
}

/* A symbolic link may be a path's last name. */
static struct inode *find(struct inode *dir, const char *path, u32 length, u32 links)
{
	struct inode *here = dir;
	u32 n, number;

	if (length && *path == '/')
		here = inode(1);
	for (;;) {
		while (length && *path == '/')
			path++, length--;
		if (!length)
			return here;
		if (here->mode != 0x4000)
			fail("no directory");
		for (n = 0; n < length && path[n] != '/'; n++)
			;
		if (!(number = lookup(here, path, n)))
			fail("no such file");
		dir = here;
		here = inode(number);
		if ((u32)here->number != number)
			fail("an inode in the wrong place");
		path += n;
		length -= n;
		if (here->mode == 0xA000 && !length) {
			u8 *l = link_at((u32)here->offset);
			if (links > 8)
				fail("too many links");
			return find(dir, (char *)l + 2, *(u16 *)l, links + 1);
		}
	}
}

static void cat(struct inode *file)
{
	u32 size = (u32)file->count, sector = root + (u32)file->offset, i;

	if (file->mode != 0x8000)
		fail("no file");
	for (; size; size -= i) {
		read(sector++, block);
		for (i = 0; i < BLOCK && i < size; i++)
			put(block[i]);
	}
}

void run(void)
{
	char *word = line, *p;
	u32 n = 0;

	copy_line();
	say(line);
	put('\n');
	for (p = line; *p; p++)
		if (*p == ' ')
			word = p + 1;
	while (word[n])
		n++;
	find_root();
	mount();
	cat(find(inode(1), word, n, 0));
	off();
}
