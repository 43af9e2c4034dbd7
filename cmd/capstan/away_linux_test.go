package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"capstan/internal/cloud/gce/gcetest"
	"capstan/internal/repo/registrytest"
)

// cloudWorld is a world with an image app, and a cloud whose machines boot
// nothing.
func cloudWorld(t *testing.T) (*world, *gcetest.Cloud) {
	t.Helper()
	cloud := gcetest.Pretend(t, "192.0.2.9")
	return appWorld(t, append(cloud.Env(t), "CLOUDSDK_COMPUTE_ZONE="+gcetest.Zone)...), cloud
}

// appWorld is a world with an image app, and a guest that does not boot.
func appWorld(t *testing.T, env ...string) *world {
	t.Helper()
	w := newWorld(t)
	w.env = append(append(w.env, "CAPSTAN_OFFLINE=false"), env...)
	record := "{}\n"
	sum := sha256.Sum256([]byte(record))
	w.write("root/guest/guest-amd64.json", record)
	w.write(filepath.Join("root/guest", hex.EncodeToString(sum[:8]), "bzImage"), "a kernel")
	w.write("app/Capstanfile", "cmdline: /bin/app\nfiles:\n  /bin/app: app\n")
	w.write("app/app", "#!/bin/sh\n")
	w.must("build", "app", "app")
	return w
}

// calling matches calls by method and the end of the path.
func calling(r *http.Request, method, suffix string) bool {
	return r.Method == method && strings.HasSuffix(r.URL.Path, suffix)
}

// nothingLeft holds that neither the cloud nor this host has an instance.
func (w *world) nothingLeft(cloud *gcetest.Cloud) {
	w.t.Helper()
	if left := cloud.Instances(w.t); len(left) > 0 {
		w.t.Errorf("left in the cloud: %q", left)
	}
	if left := w.must("ps", "-aq"); left != "" {
		w.t.Errorf("left here: %q", left)
	}
}

// undoing is what a command says once it has taken an interrupt.
const undoing = "capstan: removing what was made of web"

// said is what a command says on standard error, as it says it.
type said struct {
	mu   sync.Mutex
	text strings.Builder
	more chan struct{} // is closed when there is more, and is another one then
}

// listen has said what cmd says.
func listen(cmd *exec.Cmd) *said {
	s := &said{more: make(chan struct{})}
	cmd.Stderr = s
	return s
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.more)
	s.more = make(chan struct{})
	return s.text.Write(p)
}

// has tells whether a text was said, and when there is more.
func (s *said) has(text string) (yes bool, more <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Contains(s.text.String(), text), s.more
}

// await waits until a text was said, or done is closed.
func (s *said) await(done <-chan struct{}, text string) {
	for {
		yes, more := s.has(text)
		if yes {
			return
		}
		select {
		case <-more:
		case <-done:
			return
		}
	}
}

// unheard is the trouble of calls that come once an interrupt was sent, and was
// not taken yet: so that nothing is done before it is. What is removed may be.
func (s *said) unheard(r *http.Request) gcetest.Trouble {
	if taken, _ := s.has(undoing); taken || r.Method == "DELETE" {
		return gcetest.Trouble{}
	}
	return gcetest.Trouble{Status: http.StatusServiceUnavailable}
}

// TestInterruptedRunAway interrupts capstan run in a cloud, wherever it is.
func TestInterruptedRunAway(t *testing.T) {
	w, cloud := cloudWorld(t)
	for _, at := range []struct{ what, method, path, flag string }{
		{"the first call", "GET", "/machineTypes", "-d"},
		{"the disk is sent", "PUT", "", "-d"},
		{"the template is made", "POST", "/instanceTemplates", "-d"},
		{"the rules are made", "POST", "/firewalls", "-d"},
		{"the machine is made", "POST", "/instances", "-d"},
		{"the machine is made, at a terminal", "POST", "/instances", "-t"},
		{"the second machine is made", "POST", "/instances", "--count=2"},
		{"its output is awaited", "GET", "/serialPort", "-d"},
	} {
		t.Run(at.what, func(t *testing.T) {
			cmd := w.command("run", "--on", "gce", "-d="+strconv.FormatBool(at.flag != "-t"), at.flag, "--name", "web", "-p", "80", "--allow", "192.0.2.0/24", "app")
			calls, reached := 1, false
			if strings.HasPrefix(at.flag, "--count") {
				calls = 2 // the first is one that is made
			}
			heard := listen(cmd)
			cloud.Trouble(func(r *http.Request, _ int) gcetest.Trouble {
				if reached {
					return heard.unheard(r)
				}
				if !calling(r, at.method, at.path) {
					return gcetest.Trouble{}
				}
				if calls--; calls == 0 {
					reached = true
					cmd.Process.Signal(os.Interrupt)
					if r.Method == "GET" {
						return heard.unheard(r)
					}
				}
				return gcetest.Trouble{}
			})
			r := w.run(cmd)
			cloud.Trouble(nil)
			if !reached || r.status != exitInterrupted || r.stdout != "" || !strings.HasSuffix(r.stderr, "capstan: interrupted\n") {
				t.Errorf("reached: %t; %+v", reached, r)
			}
			w.nothingLeft(cloud)
		})
	}
}

// TestGroupTroubleAway: a group whose machines cannot be made is there, and run,
// ps and inspect say why it has none.
func TestGroupTroubleAway(t *testing.T) {
	w, cloud := cloudWorld(t)
	r := w.run(w.command("run", "--on", "gce", "-d", "--name", "web", "--replicas", "2", "--type", "e2-standard-4", "app"))
	if r.status == 0 || r.stdout != "web\n" || !strings.Contains(r.stderr, "web: none of 2 machines runs: Quota 'CPUS' exceeded") || !strings.Contains(r.stderr, "gce goes on trying") {
		t.Errorf("run: %+v", r)
	}
	if out := w.must("ps"); !strings.Contains(out, "0 of 2 running: Quota 'CPUS' exceeded") {
		t.Errorf("ps:\n%s", out)
	}
	if out := w.must("inspect", "--format", "{{.State.Reason}}", "web"); !strings.HasPrefix(out, "Quota 'CPUS' exceeded. Limit") {
		t.Errorf("inspect: %s", out)
	}
	w.must("rm", "-f", "web")
	w.nothingLeft(cloud)
}

// TestLeftAway: what cannot be removed after an interrupt is told, with the
// command that removes it.
func TestLeftAway(t *testing.T) {
	w, cloud := cloudWorld(t)
	cmd := w.command("run", "--on", "gce", "-d", "--name", "web", "app")
	heard, sent := listen(cmd), false
	cloud.Trouble(func(r *http.Request, _ int) gcetest.Trouble {
		switch {
		case calling(r, "POST", "/instances"):
			sent = true
			cmd.Process.Signal(os.Interrupt)
		case r.Method == "DELETE" && strings.HasPrefix(r.URL.Path, "/compute/"):
			return gcetest.Trouble{Status: http.StatusForbidden}
		case sent:
			return heard.unheard(r)
		}
		return gcetest.Trouble{}
	})
	r := w.run(cmd)
	cloud.Trouble(nil)
	if r.status != exitInterrupted || !strings.Contains(r.stderr, "interrupted; and what was made of web is left: ") || !strings.HasSuffix(r.stderr, "  try: capstan rm -f web\n") {
		t.Errorf("%+v", r)
	}
	if len(cloud.Instances(t)) == 0 {
		t.Error("nothing is left: this test tests nothing")
	}
	w.must("rm", "-f", "web")
	w.nothingLeft(cloud)
}

// TestLeftTwice: a second interrupt ends the removal that the first has begun.
func TestLeftTwice(t *testing.T) {
	w, cloud := cloudWorld(t)
	cmd := w.command("run", "--on", "gce", "-d", "--name", "web", "app")
	heard, sent := listen(cmd), 0
	cloud.Trouble(func(r *http.Request, _ int) gcetest.Trouble {
		switch {
		case calling(r, "POST", "/instanceTemplates"):
			sent++
			cmd.Process.Signal(os.Interrupt)
		case r.Method == "DELETE" && strings.HasPrefix(r.URL.Path, "/compute/"):
			if sent == 1 { // a third one would end the process
				sent++
				cmd.Process.Signal(os.Interrupt)
			}
			return gcetest.Trouble{Status: http.StatusServiceUnavailable} // so that it is not done before
		case sent > 0:
			return heard.unheard(r)
		}
		return gcetest.Trouble{}
	})
	r := w.run(cmd)
	cloud.Trouble(nil)
	if r.status != exitInterrupted || !strings.HasSuffix(r.stderr, "removing what was made of web; Ctrl-C leaves it\n"+
		"capstan: interrupted; and what was made of web is left: its removal was interrupted\n  try: capstan rm -f web\n") {
		t.Errorf("%+v", r)
	}
	w.must("rm", "-f", "web")
	w.nothingLeft(cloud)
}

// impatient interrupts a process again and again, until it has ended or does
// not care.
func impatient(cmd *exec.Cmd) {
	for range 1000 {
		if cmd.Process.Signal(os.Interrupt) != nil {
			return
		}
		time.Sleep(10 * time.Millisecond) // the process does not tell when it has heard of the one before
	}
}

// TestInterruptedTwice: while a cloud does not answer a call that nobody gives
// up, a second interrupt ends the process.
func TestInterruptedTwice(t *testing.T) {
	w, cloud := cloudWorld(t)
	for _, c := range []struct{ command, path string }{
		{"run --on gce -d --name detached app", "/instanceTemplates"},
		{"run --on gce --name attached app", "/instances"},
		{"push app gce:another", "/b"},
	} {
		cmd := w.command(strings.Fields(c.command)...)
		reached := false
		cloud.Trouble(func(r *http.Request, _ int) gcetest.Trouble {
			if calling(r, "POST", c.path) && !reached {
				reached = true
				impatient(cmd)
			}
			return gcetest.Trouble{}
		})
		w.run(cmd)
		cloud.Trouble(nil)
		if status := cmd.ProcessState.Sys().(syscall.WaitStatus); !reached || !status.Signaled() || status.Signal() != syscall.SIGINT {
			t.Errorf("capstan %s: reached: %t; %v", c.command, reached, cmd.ProcessState)
		}
	}
	w.must("rm", "-f", "detached", "attached")
}

// TestListAway: a cloud without credentials is passed over where another has
// some, and told of where none has.
func TestListAway(t *testing.T) {
	w, cloud := cloudWorld(t)
	none := []string{"AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=/nothere", "AWS_SHARED_CREDENTIALS_FILE=/nothere", "AWS_ACCESS_KEY_ID=", "AWS_REGION=eu-central-1"}
	w.env = append(w.env, none...)
	if r := w.capstan("ps", "--all-platforms", "-q"); r.status != 0 || r.stdout != "" || r.stderr != "" {
		t.Errorf("with nothing made: %+v", r)
	}
	w.must("run", "--on", "gce", "-d", "--name", "web", "-p", "80", "--allow", "192.0.2.0/24", "app")
	r := w.capstan("ps", "--all-platforms", "--format", "{{.Kind}} {{.Name}}")
	if want := "firewall web\nimage app\ninstanceTemplate web\ndisk web\ninstance web\n"; r.status != 0 || r.stdout != want || r.stderr != "" {
		t.Errorf("with an instance: %+v; want %q", r, want)
	}
	w.must("rm", "-f", "web")
	w.nothingLeft(cloud)
	w.env = append(w.env, "GOOGLE_APPLICATION_CREDENTIALS=", "HOME="+w.dir)
	r = w.capstan("ps", "--all-platforms")
	if r.status != 0 || strings.Count(r.stdout, "\n") != 1 || !strings.Contains(r.stderr, "no credentials for Google Cloud") || !strings.Contains(r.stderr, "no credentials for AWS") {
		t.Errorf("without credentials: %+v", r)
	}
	if r := w.capstan("volume", "ls"); r.status != exitError || strings.Count(r.stderr, "\n  try: ") != 2 {
		t.Errorf("each cloud has its own way out: %+v", r)
	}
	if r := w.capstan("run", "--on", "gce", "-d", "app"); r.status != exitFailure || !strings.Contains(r.stderr, "no credentials") || strings.Contains(r.stderr, "removing") {
		t.Errorf("with nothing made that would have to be removed: %+v", r)
	}
	w.nothingLeft(cloud)
}

// TestCountAway: of several instances those that run are named and kept, and
// the one that fails is removed.
func TestCountAway(t *testing.T) {
	w, cloud := cloudWorld(t)
	run := []string{"run", "--on", "gce", "-d", "--name", "web", "--count", "3", "app"}
	if dry := w.must("run", "--dry-run", "--on", "gce", "--name", "web", "-d", "--count", "3", "-e", "PASSWORD=secret", "app"); strings.Count(dry, "sourceInstanceTemplate=") != 3 || strings.Contains(dry, "secret") {
		t.Errorf("a dry run of three prints\n%s", dry)
	}
	w.nothingLeft(cloud)
	started := 0
	cloud.Trouble(func(r *http.Request, _ int) gcetest.Trouble {
		if calling(r, "POST", "/instances") {
			if started++; started == 2 {
				return gcetest.Trouble{Status: http.StatusForbidden, Reason: "quotaExceeded"}
			}
		}
		return gcetest.Trouble{}
	})
	r := w.capstan(run...)
	cloud.Trouble(nil)
	if r.status != exitFailure || r.stdout != "web-1\n" || !strings.Contains(r.stderr, "capstan: starting web-2: ") || !strings.Contains(r.stderr, "1 of 3 instances run\n") {
		t.Errorf("with a second one that fails: %+v", r)
	}
	if list := w.must("ps", "-aq"); list != "web-1\n" {
		t.Errorf("there are %q", list)
	}
	if r := w.capstan(run...); r.status != exitFailure || !strings.Contains(r.stderr, "web-1: ") || len(cloud.Instances(t)) != 3 {
		t.Errorf("with a name that is taken: %+v, %q", r, cloud.Instances(t))
	}
	w.must("rm", "-f", "web-1")
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	write.WriteString("FROM=a pipe\n")
	write.Close()
	cmd := w.command(slices.Concat(run[:len(run)-1], []string{"--env-file", "/dev/fd/3", "app"})...)
	cmd.ExtraFiles = []*os.File{read}
	if r := w.run(cmd); r.stdout != "web-1\nweb-2\nweb-3\n" {
		t.Errorf("%+v", r)
	}
	for _, name := range []string{"web-1", "web-3"} {
		if out := w.must("inspect", "--format", "{{.Machine.Guest.Env}}", name); !strings.Contains(out, "FROM=a pipe") {
			t.Errorf("the environment of %s is %s", name, out)
		}
	}
	w.must("rm", "-f", "web-1", "web-2", "web-3")
	w.nothingLeft(cloud)
}

// TestPushPulls: an image that is pushed to a cloud is pulled where the store
// does not have it.
func TestPushPulls(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	w, cloud := cloudWorld(t)
	name := reg.Host + "/team/app"
	w.must("push", "app", name)
	w.must("rmi", "app")
	if out := w.must("push", "--dry-run", name, "gce:web"); !strings.Contains(out, "POST ") {
		t.Errorf("a dry run prints %q", out)
	}
	w.must("rmi", name)
	path := strings.TrimSpace(w.must("push", "-q", name, "gce:web"))
	if images, _ := cloud.Left(t); len(images) != 1 || path != "projects/"+gcetest.Project+"/global/images/"+images[0] {
		t.Errorf("%q, and there are %q", path, images)
	}
	w.must("inspect", name)
}

// TestProgressAway: work that a cloud does is told in parts of a hundred.
func TestProgressAway(t *testing.T) {
	w, _ := cloudWorld(t)
	r := w.capstan("run", "--on", "gce", "-d", "--name", "web", "app")
	if r.status != 0 || !strings.Contains(r.stderr, "capstan: making the image\n") || !strings.Contains(r.stderr, "capstan: making the image: done\n") {
		t.Errorf("%+v", r)
	}
	out := w.atTerminal("run", "--on", "gce", "-d", "--name", "web2", "-p", "80", "--allow", "192.0.2.0/24", "app")
	if !regexp.MustCompile(`opening the ports +\[=+\] +100 ?%`).MatchString(out) {
		t.Errorf("at a terminal: %q", out)
	}
	for _, c := range [][2]string{{"stop", "stopping the machine"}, {"start", "starting the machine"}, {"rm -f", "removing web2"}} {
		if out := w.atTerminal(append(strings.Fields(c[0]), "web2")...); !strings.Contains(out, c[1]) {
			t.Errorf("%s at a terminal: %q", c[0], out)
		}
	}
}

// TestLostSight: where the cloud does not show any more what an instance says,
// the instance is left, and how to remove it is told.
func TestLostSight(t *testing.T) {
	w, cloud := cloudWorld(t)
	cloud.Trouble(func(r *http.Request, _ int) gcetest.Trouble {
		if calling(r, "GET", "/serialPort") {
			return gcetest.Trouble{Status: http.StatusForbidden}
		}
		return gcetest.Trouble{}
	})
	r := w.capstan("run", "--on", "gce", "--name", "web", "app")
	cloud.Trouble(nil)
	if r.status != exitFailure || !strings.Contains(r.stderr, "answers 403") || !strings.Contains(r.stderr, "; web is left as it is\n  try: ") || !strings.Contains(r.stderr, "capstan rm -f web removes it\n") {
		t.Errorf("%+v", r)
	}
	w.must("rm", "-f", "web")
	w.nothingLeft(cloud)
}

// TestStoppedAway: of a machine that is off the cloud tells nothing that it has
// said; the instance is shown, read, started and removed all the same.
func TestStoppedAway(t *testing.T) {
	w, cloud := cloudWorld(t)
	w.must("run", "--on", "gce", "-d", "--name", "web", "app")
	for range 2 {
		w.must("stop", "web")
		if out := w.must("ps", "-a", "--format", "{{.Name}} {{.Status}}"); !strings.HasPrefix(out, "web dead") {
			t.Errorf("stopped, it is %q", out)
		}
		w.must("logs", "web")
		w.must("start", "web")
		if out := w.must("ps", "--format", "{{.Name}} {{.Status}}"); !strings.HasPrefix(out, "web running") {
			t.Errorf("started again, it is %q", out)
		}
	}
	w.must("stop", "web")
	w.must("rm", "web")
	w.nothingLeft(cloud)
}

// TestRemoveEnded: an instance that goes when it ends, and has, is removed by who
// says so.
func TestRemoveEnded(t *testing.T) {
	w, cloud := cloudWorld(t)
	for _, rm := range [][]string{{"rm", "web"}, {"rm", "-f", "web"}} {
		w.must("run", "--on", "gce", "-d", "--rm", "--name", "web", "app")
		cloud.Trouble(func(r *http.Request, _ int) gcetest.Trouble {
			if strings.Contains(r.URL.Path, "/instances/") && r.Method == "GET" {
				return gcetest.Trouble{Status: http.StatusNotFound}
			}
			return gcetest.Trouble{}
		})
		r := w.capstan(rm...)
		cloud.Trouble(nil)
		if r.status != 0 || r.stdout != "web\n" || r.stderr != "" {
			t.Errorf("%q: %+v", rm, r)
		}
		w.nothingLeft(cloud)
	}
}

// TestRemoveUnseen: rm -f removes an instance of which the cloud does not tell
// how it fares.
func TestRemoveUnseen(t *testing.T) {
	w, cloud := cloudWorld(t)
	w.must("run", "--on", "gce", "-d", "--name", "web", "app")
	cloud.Trouble(func(r *http.Request, _ int) gcetest.Trouble {
		if r.Method == "GET" && strings.Contains(r.URL.Path, "/instances/web-") {
			return gcetest.Trouble{Status: http.StatusForbidden}
		}
		return gcetest.Trouble{}
	})
	if r := w.capstan("rm", "web"); r.status != exitError || !strings.Contains(r.stderr, "answers 403") {
		t.Errorf("rm: %+v", r)
	}
	r := w.capstan("rm", "-f", "web")
	cloud.Trouble(nil)
	if r.status != 0 || r.stdout != "web\n" || r.stderr != "" {
		t.Errorf("rm -f: %+v", r)
	}
	w.nothingLeft(cloud)
}

// TestVolumesAway: --region says where in EC2 volumes are looked for, whatever
// the settings say; and a volume is not removed by its name alone while a cloud
// that may have another of that name cannot be asked.
func TestVolumesAway(t *testing.T) {
	w, cloud := cloudWorld(t)
	aws := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		region, action := strings.Split(r.Header.Get("Authorization"), "/")[2], r.FormValue("Action")
		switch {
		case region != "us-west-2":
			rw.WriteHeader(http.StatusForbidden)
		case action == "DescribeVolumes":
			fmt.Fprint(rw, `<DescribeVolumesResponse><volumeSet><item><volumeId>vol-1</volumeId><size>1</size>`+
				`<tagSet><item><key>capstan:volume</key><value>data</value></item></tagSet></item></volumeSet></DescribeVolumesResponse>`)
		default:
			fmt.Fprintf(rw, `<%sResponse><return>true</return></%[1]sResponse>`, action)
		}
	}))
	defer aws.Close()
	w.env = append(w.env, "AWS_ENDPOINT_URL="+aws.URL, "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_REGION=eu-central-1", "AWS_CONFIG_FILE=/dev/null")
	w.must("run", "--on", "gce", "-d", "--name", "web", "-v", "data:/data", "app")
	w.must("rm", "-f", "web")
	r := w.capstan("volume", "rm", "data")
	if r.status != 1 || r.stdout != "" || !strings.Contains(r.stderr, "capstan: there may be another volume data: ") || !strings.HasSuffix(r.stderr, "  try: capstan volume rm --on gce --zone "+gcetest.Zone+" data\n") {
		t.Errorf("with one cloud that cannot be asked: %+v", r)
	}
	if out := w.must("volume", "ls", "--on", "gce", "-q"); out != "data\n" {
		t.Errorf("there is %q", out)
	}
	if out := w.must("volume", "ls", "--region", "us-west-2", "--format", "{{.Platform}} {{.Place}} {{.Name}}"); out != "ec2 us-west-2 data\n" {
		t.Errorf("in the region: %q", out)
	}
	w.must("volume", "rm", "--region", "us-west-2", "data")
	cloud.Trouble(func(r *http.Request, _ int) gcetest.Trouble {
		if !strings.Contains(r.URL.Path, "/projects/another/") {
			t.Errorf("in another project, %s is asked for", r.URL.Path)
		}
		return gcetest.Trouble{}
	})
	w.must("volume", "ls", "--project", "another")
	cloud.Trouble(nil)
	w.must("volume", "rm", "--zone", gcetest.Zone, "data")
	w.nothingLeft(cloud)
}

// TestInterruptRefused: where the cloud lets nobody stop the instance, that is
// told, and the third interrupt leaves it.
func TestInterruptRefused(t *testing.T) {
	w, cloud := cloudWorld(t)
	cmd := w.command("run", "--on", "gce", "--name", "web", "app")
	heard, begun, stops := listen(cmd), false, 0
	cloud.Trouble(func(r *http.Request, _ int) gcetest.Trouble {
		switch {
		case calling(r, "GET", "/serialPort") && !begun:
			begun = true
			cmd.Process.Signal(os.Interrupt)
		case calling(r, "POST", "/stop"):
			if stops++; stops == 2 { // it is told while the instance is watched
				heard.await(r.Context().Done(), "capstan: stopping web: ")
			}
			cmd.Process.Signal(os.Interrupt)
			if stops == 2 {
				<-r.Context().Done() // which is left with the instance
			}
			return gcetest.Trouble{Status: http.StatusForbidden}
		}
		return gcetest.Trouble{}
	})
	r := w.run(cmd)
	cloud.Trouble(nil)
	if r.status != exitInterrupted || !strings.Contains(r.stderr, "capstan: stopping web: ") ||
		!strings.HasSuffix(r.stderr, "capstan: interrupted; web is left as it is\n  try: capstan logs -f web goes on with it, and capstan rm -f web removes it\n") {
		t.Errorf("%+v", r)
	}
	w.must("rm", "-f", "web")
	w.nothingLeft(cloud)
}

// TestInterruptedWait interrupts commands that wait for a cloud: what may come of
// them, or is left, is told.
func TestInterruptedWait(t *testing.T) {
	w, cloud := cloudWorld(t)
	w.must("run", "--on", "gce", "-d", "--name", "web", "app")
	const goesOn = "capstan: interrupted; gce may go on with web by itself\n  try: capstan ps -a shows how it fares\n"
	for _, c := range []struct{ command, at, says string }{
		{"stop web another", "/operations/", goesOn},
		{"start web another", "/operations/", goesOn},
		{"restart web another", "/operations/", goesOn},
		{"rm -f web another", "/operations/", "capstan: interrupted; and what was made of web is left: its removal was interrupted\n  try: capstan rm -f web\n"},
		{"prune --on gce", "/b", "capstan: interrupted\n"},
	} {
		cmd := w.command(strings.Fields(c.command)...)
		reached := false
		cloud.Trouble(func(r *http.Request, _ int) gcetest.Trouble {
			if !strings.Contains(r.URL.Path, c.at) {
				return gcetest.Trouble{}
			}
			if !reached { // a second one would end the process
				cmd.Process.Signal(os.Interrupt)
			}
			reached = true
			return gcetest.Trouble{Status: http.StatusServiceUnavailable} // so that it is not done before
		})
		r := w.run(cmd)
		cloud.Trouble(nil)
		if !reached || r.status != exitInterrupted || r.stdout != "" || r.stderr != c.says {
			t.Errorf("capstan %s: reached: %t; %+v", c.command, reached, r)
		}
		if strings.HasPrefix(c.command, "stop") {
			w.must("stop", "web")
		}
	}
	w.must("rm", "-f", "web")
	w.nothingLeft(cloud)
}
