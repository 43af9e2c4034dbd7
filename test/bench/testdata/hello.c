/*
 * The static hello that boots are timed with: one line, then the end. As an
 * application it returns; as PID 1 it ends the machine.
 */
#include <sys/reboot.h>
#include <unistd.h>

int main(void)
{
	if (write(1, "hello\n", 6) != 6)
		return 1;
	if (getpid() == 1)
		reboot(RB_AUTOBOOT);
	return 0;
}
