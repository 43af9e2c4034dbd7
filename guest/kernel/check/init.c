/*
 * A PID 1 for check.sh: says what it finds on the console, then ends the
 * machine as the kernel command line's check= asks.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

/* show prints the first line of a file as "check: NAME=LINE". */
static void show(const char *name, const char *path)
{
	char line[256] = "absent";
	FILE *f = fopen(path, "r");

	if (f) {
		if (!fgets(line, sizeof(line), f))
			strcpy(line, "empty");
		fclose(f);
	}
	line[strcspn(line, "\n")] = 0;
	printf("check: %s=%s\n", name, line);
}

/* names prints a directory's entries that start with prefix. */
static void names(const char *name, const char *path, const char *prefix)
{
	DIR *d = opendir(path);
	struct dirent *e;

	printf("check: %s=", name);
	while (d && (e = readdir(d)))
		if (e->d_name[0] != '.' && !strncmp(e->d_name, prefix, strlen(prefix)))
			printf("%s ", e->d_name);
	printf("\n");
	if (d)
		closedir(d);
}

/* drivers prints every PCI driver that found a device. */
static void drivers(void)
{
	const char *base = "/sys/bus/pci/drivers";
	char path[512];
	DIR *all = opendir(base), *one;
	struct dirent *e, *dev;

	printf("check: drivers=");
	while (all && (e = readdir(all))) {
		snprintf(path, sizeof(path), "%s/%s", base, e->d_name);
		one = opendir(path);
		while (one && (dev = readdir(one)))
			if (!strncmp(dev->d_name, "0000:", 5)) {
				printf("%s ", e->d_name);
				break;
			}
		if (one)
			closedir(one);
	}
	printf("\n");
	if (all)
		closedir(all);
}

int main(void)
{
	static char cmdline[4096];
	struct utsname u;
	struct timespec up;
	char *what;
	int fd;

	clock_gettime(CLOCK_MONOTONIC, &up);
	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mount("proc", "/proc", "proc", 0, 0);
	mount("sysfs", "/sys", "sysfs", 0, 0);
	mount("devtmpfs", "/dev", "devtmpfs", 0, 0);
	fd = open("/proc/cmdline", O_RDONLY);
	if (fd >= 0)
		read(fd, cmdline, sizeof(cmdline) - 1);
	what = strstr(cmdline, "check=");
	what = what ? what + strlen("check=") : "reset";

	uname(&u);
	printf("check: up %s after %lld ms\n", u.release,
	       (long long)(up.tv_sec * 1000 + up.tv_nsec / 1000000));
	if (!strncmp(what, "show", 4)) {
		show("config", "/capstan/config.json");
		show("clock", "/sys/devices/system/clocksource/clocksource0/current_clocksource");
		show("overcommit", "/proc/sys/vm/overcommit_memory");
		show("cpus", "/sys/devices/system/cpu/online");
		names("disks", "/sys/class/block", "");
		names("nets", "/sys/class/net", "eth");
		names("mmio", "/sys/bus/virtio/devices", "virtio");
		drivers();
	}
	fflush(stdout);

	if (!strncmp(what, "panic", 5)) {
		fd = open("/proc/sysrq-trigger", O_WRONLY);
		write(fd, "c", 1);
	}
	if (!strncmp(what, "exit", 4))
		return 3;
	if (!strncmp(what, "off", 3) || !strncmp(what, "show-off", 8))
		reboot(RB_POWER_OFF);
	reboot(RB_AUTOBOOT);
	for (;;)
		pause();
}
