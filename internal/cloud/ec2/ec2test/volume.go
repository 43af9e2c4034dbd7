//go:build linux

package ec2test

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// volume is one that no launch template makes, with what is on it.
type volume struct {
	id, region, zone string
	file             string
	machine          string // which it is attached to; "": none
	state            types.VolumeState
	listed           int // how often yet, if it is being made or deleted
}

// Of how many lists a volume is that is being made, or deleted.
const (
	makeListed   = 1
	deleteListed = 3
)

var (
	volumeID   = regexp.MustCompile(`<volumeId>(vol-[0-9a-f]+)</volumeId>`)
	deviceName = regexp.MustCompile(`^/dev/sd[f-p]$`) // of volumes that are no roots: EC2 User Guide, "Device names for volumes"
)

// checkVolume compares CreateVolume's parameters with what EC2 documents.
func (c *Cloud) checkVolume(in request) *refusal {
	get := in.form.Get
	s, least := c.snapshots[get("SnapshotId")], int64(1)
	if s != nil {
		least = s.size
	}
	switch {
	case !regexp.MustCompile(`^` + in.region + `[a-f]$`).MatchString(get("AvailabilityZone")):
		return bad("AvailabilityZone %q", get("AvailabilityZone"))
	case in.form.Has("SnapshotId") && (s == nil || !s.complete):
		return bad("snapshot %q is not complete", get("SnapshotId"))
	case int64(number(get("Size"))) < least || number(get("Size")) > 16<<10:
		return bad("Size %q, and the snapshot has %d GiB", get("Size"), least)
	case in.form.Has("VolumeType") && !oneOf(get("VolumeType"), types.VolumeType("").Values()):
		return bad("VolumeType %q", get("VolumeType"))
	case len(get("ClientToken")) > 64:
		return bad("ClientToken %q", get("ClientToken"))
	}
	return checkTags(in.form, types.ResourceTypeVolume)
}

// keepVolume makes a volume's disk, of its snapshot.
func (c *Cloud) keepVolume(in request, answer []byte) {
	m := volumeID.FindSubmatch(answer)
	if m == nil {
		c.t.Errorf("moto's CreateVolume: %s", answer)
		return
	}
	v := &volume{id: string(m[1]), region: in.region, zone: in.form.Get("AvailabilityZone"), state: types.VolumeStateCreating, listed: makeListed}
	v.file = filepath.Join(c.dir, v.id+".qcow2")
	c.disks[v.id] = v
	args := []string{"create", "-q", "-f", "qcow2", v.file, in.form.Get("Size") + "G"}
	if s := c.snapshots[in.form.Get("SnapshotId")]; s != nil {
		args = append(args, "-b", s.path, "-F", "raw")
	}
	if out, err := exec.Command("qemu-img", args...).CombinedOutput(); err != nil {
		c.t.Errorf("qemu-img: %v: %s", err, out)
	}
}

// checkAttach looks at whether an instance can have a volume.
func (c *Cloud) checkAttach(in request) *refusal {
	v, m := c.disks[in.form.Get("VolumeId")], c.machines[in.form.Get("InstanceId")]
	switch {
	case v == nil || m == nil:
		return nil // moto knows whether there was one
	case !deviceName.MatchString(in.form.Get("Device")):
		return bad("Device %q", in.form.Get("Device"))
	case v.zone != m.zone:
		return &refusal{http.StatusBadRequest, "InvalidVolume.ZoneMismatch", fmt.Sprintf("The volume '%s' is not in the same availability zone as instance '%s'", v.id, m.id), false}
	case v.state != types.VolumeStateAvailable:
		return v.incorrect()
	case v.machine != "":
		return &refusal{http.StatusBadRequest, "VolumeInUse", v.id + " is already attached to an instance", true}
	case m.state != types.InstanceStateNameRunning && m.state != types.InstanceStateNameStopped:
		return &refusal{http.StatusBadRequest, "IncorrectState", "Instance '" + m.id + "' is not 'running'.", true}
	}
	return nil
}

// attachVolume plugs a volume into a machine, which may run.
func (c *Cloud) attachVolume(in request) {
	v, m := c.disks[in.form.Get("VolumeId")], c.machines[in.form.Get("InstanceId")]
	v.machine = m.id
	if m.cmd == nil {
		return // it has it when it is started
	}
	if err := tell(m.monitor,
		map[string]any{"execute": "blockdev-add", "arguments": map[string]any{
			"driver": "qcow2", "node-name": v.drive(), "file": map[string]any{"driver": "file", "filename": v.file},
		}},
		map[string]any{"execute": "device_add", "arguments": map[string]any{"driver": "nvme", "drive": v.drive(), "serial": v.serial(), "bus": "pci.0"}},
	); err != nil {
		c.t.Errorf("attaching %s: %v", v.id, err)
	}
}

// drive is how QEMU calls the volume's disk.
func (v *volume) drive() string { return "d" + v.id[len("vol-"):] }

// serial is the serial number of the volume's NVMe disk (EC2 User Guide, "Map
// Amazon EBS volumes to NVMe device names").
func (v *volume) serial() string { return strings.ReplaceAll(v.id, "-", "") }

// qemuDisks are the disks of the volumes that a machine has had before it starts.
func (c *Cloud) qemuDisks(m *machine) (args []string) {
	for _, v := range c.disks {
		if v.machine == m.id {
			args = append(args, "-drive", "if=none,id="+v.drive()+",format=qcow2,file="+v.file, "-device", "nvme,drive="+v.drive()+",serial="+v.serial())
		}
	}
	return args
}

// checkDelete refuses to delete a volume that an instance has, or that is not
// made yet, or is being deleted.
func (c *Cloud) checkDelete(in request) *refusal {
	switch v := c.disks[in.form.Get("VolumeId")]; {
	case v == nil:
		return nil
	case v.machine != "":
		return &refusal{http.StatusBadRequest, "VolumeInUse", "Volume " + v.id + " is currently attached to " + v.machine, true}
	case v.state != types.VolumeStateAvailable:
		return v.incorrect()
	}
	return nil
}

func (v *volume) incorrect() *refusal {
	return &refusal{http.StatusBadRequest, "IncorrectState", v.id + " is not 'available'.", true}
}

// deleteVolume begins to delete a volume, which moto does once it was listed
// some more; nil: moto knows it alone.
func (c *Cloud) deleteVolume(id string) []byte {
	v := c.disks[id]
	if v == nil {
		return nil
	}
	v.state, v.listed = types.VolumeStateDeleting, deleteListed
	if err := os.RemoveAll(v.file); err != nil {
		c.t.Error(err)
	}
	return []byte("<DeleteVolumeResponse><return>true</return></DeleteVolumeResponse>")
}

// showVolumes tells of volumes as they are: one is being made, or deleted, for
// some lists.
func (c *Cloud) showVolumes(in request, answer []byte) []byte {
	var all node
	if err := xml.Unmarshal(answer, &all); err != nil {
		c.t.Errorf("moto's answer: %v", err)
		return answer
	}
	c.show(&all, false)
	var only []string
	for n, name := range members(in.form, "Filter", ".Name") {
		if name == "status" {
			only = members(in.form, fmt.Sprintf("Filter.%d.Value", n+1), "")
		}
	}
	if set := all.child("volumeSet"); set != nil {
		set.Nodes = slices.DeleteFunc(set.Nodes, func(item *node) bool {
			state := c.seeVolume(in.region, item)
			return state != "" && only != nil && !slices.Contains(only, string(state))
		})
	}
	text, err := xml.Marshal(&all)
	if err != nil {
		c.t.Errorf("moto's answer: %v", err)
		return answer
	}
	return text
}

// seeVolume gives an item of a list the state of its volume; "": moto's.
func (c *Cloud) seeVolume(region string, item *node) types.VolumeState {
	id := item.child("volumeId")
	if id == nil || c.disks[id.Text] == nil {
		return ""
	}
	v := c.disks[id.Text]
	if v.listed--; v.state == types.VolumeStateCreating && v.listed < 0 {
		v.state = types.VolumeStateAvailable
	}
	if v.state == types.VolumeStateAvailable {
		return ""
	}
	if v.state == types.VolumeStateDeleting && v.listed == 0 {
		delete(c.disks, v.id)
		c.ask("ec2", region, map[string][]string{"Action": {"DeleteVolume"}, "VolumeId": {v.id}})
	}
	item.set("status", string(v.state))
	return v.state
}

// detach takes the volumes from a machine that has ended.
func (c *Cloud) detach(m *machine) {
	for _, v := range c.disks {
		if v.machine == m.id {
			v.machine = ""
		}
	}
}

// zoneOf is the zone that an instance is in.
func (c *Cloud) zoneOf(region, id string) string {
	var out struct {
		Zone string `xml:"reservationSet>item>instancesSet>item>placement>availabilityZone"`
	}
	text := c.ask("ec2", region, map[string][]string{"Action": {"DescribeInstances"}, "InstanceId.1": {id}})
	if err := xml.Unmarshal(text, &out); err != nil || out.Zone == "" {
		c.t.Errorf("moto's zone of %s: %q, %v", id, out.Zone, err)
	}
	return out.Zone
}

// tell has a machine's QEMU do something, by its monitor.
func tell(monitor string, commands ...map[string]any) error {
	conn, err := net.Dial("unix", monitor)
	if err != nil {
		return err
	}
	defer conn.Close()
	to, from := json.NewEncoder(conn), json.NewDecoder(conn)
	for n, command := range append([]map[string]any{{"execute": "qmp_capabilities"}}, commands...) {
		command["id"] = n + 1
		if err := to.Encode(command); err != nil {
			return err
		}
		for answered := false; !answered; {
			var answer struct {
				ID    int
				Error *struct{ Desc string }
			}
			if err := from.Decode(&answer); err != nil {
				return err
			}
			if answer.Error != nil {
				return fmt.Errorf("%s: %s", command["execute"], answer.Error.Desc)
			}
			answered = answer.ID == n+1
		}
	}
	return nil
}
