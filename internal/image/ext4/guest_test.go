//go:build e2e && linux

package ext4

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"capstan/internal/image/guesttest"
)

// guest boots testdata/guestinit on file systems.
type guest struct{ guesttest.Guest }

func newGuest(t *testing.T) guest {
	t.Helper()
	return guest{guesttest.New(t, "./testdata/guestinit")}
}

// boot runs one phase of guestinit on the disk. It ends when guestinit does,
// which must pass, or is killed at the first line that starts with killAt.
func (g guest) boot(t *testing.T, disk, killAt string, env ...string) {
	t.Helper()
	console := g.Boot(t, guesttest.Boot{Drives: []string{"format=raw,file=" + disk}, KillAt: killAt, Env: env})
	t.Logf("%d KiB on disk", allocated(t, disk)>>10)
	for line := range strings.Lines(console) {
		if strings.HasPrefix(line, "grown") {
			t.Log(strings.TrimSpace(line))
		}
	}
	for _, bad := range []string{"EXT4-fs error", "EXT4-fs warning", "JBD2:", "WARNING:", "BUG:"} {
		if strings.Contains(console, bad) {
			t.Errorf("the kernel complained:\n%s", console)
		}
	}
}

// needsRecovery says whether the journal has something to replay, as it has
// after a kill: without it a test shows nothing.
func needsRecovery(t *testing.T, disk string) bool {
	t.Helper()
	return strings.Contains(tool(t, "dumpe2fs", "-h", disk), "needs_recovery")
}

func TestGuestSurvivesKill(t *testing.T) {
	g := newGuest(t)
	disk := makeFile(t, Options{Size: 10 << 30, Dirs: []string{"upper", "work"}})
	for _, at := range []string{"churned 5", "churned 104", "churned 333"} {
		g.boot(t, disk, at, "phase=write")
		if !needsRecovery(t, disk) {
			t.Error("killed, yet the journal is clean")
		}
		g.boot(t, disk, "", "phase=verify")
		checkFile(t, disk)
	}
}

func TestGuestGrowsOnline(t *testing.T) {
	g := newGuest(t)
	disk := makeFile(t, Options{Size: 64 << 20, Dirs: []string{"upper", "work"}})
	if err := os.Truncate(disk, 1<<40); err != nil {
		t.Fatal(err)
	}
	g.boot(t, disk, "churned 20", "phase=write")

	blocks := func(gib ...int) string {
		var list []string
		for _, n := range gib {
			list = append(list, fmt.Sprint(n<<30/blockSize))
		}
		return "sizes=" + strings.Join(list, ",")
	}
	var steps []int
	for n := 2; n < 20; n += 2 {
		steps = append(steps, n)
	}
	g.boot(t, disk, fmt.Sprint("grown ", 10<<30/blockSize), "phase=grow", blocks(steps...))
	if !needsRecovery(t, disk) {
		t.Error("killed, yet the journal is clean")
	}
	g.boot(t, disk, "", "phase=grow", blocks(20), "fill=1")
	checkFile(t, disk)
	g.boot(t, disk, "", "phase=grow", blocks(1024))
	g.boot(t, disk, "", "phase=verify")
	checkFile(t, disk)
	if dump := tool(t, "dumpe2fs", "-h", disk); !strings.Contains(dump, "Block count:              268435456\n") {
		t.Errorf("not grown to 1 TiB:\n%s", dump)
	}
}

// TestLargest is here because e2fsck takes half a minute for it.
func TestLargest(t *testing.T) {
	checkFile(t, makeFile(t, Options{Size: MaxSize - blockSize})) // the most that a file on ext4 has
}
