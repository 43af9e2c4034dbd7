package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"cloud.google.com/go/compute/apiv1/computepb"
	"google.golang.org/protobuf/proto"
)

// Disks that are no machine's own: a template names them, and the machines that
// are made of it have them attached.

// volume is such a disk, with what is on it.
type volume struct {
	*computepb.Disk
	file string
}

// What sizes pd-balanced has, in GiB ("About Persistent Disk").
const smallestDisk, largestDisk = 10, 65536

func (c *compute) diskRoutes(mux *http.ServeMux) {
	const disks = "/compute/v1/projects/{project}/zones/{zone}/disks"
	mux.HandleFunc("POST "+disks, inZone(c.insertDisk))
	mux.HandleFunc("GET "+disks, inZone(filtered(false, func(w http.ResponseWriter, matches func(map[string]string) bool) {
		write(w, &computepb.DiskList{Items: c.disksOf(matches)})
	})))
	mux.HandleFunc("GET "+disks+"/{name}", inZone(func(w http.ResponseWriter, r *http.Request) {
		if v := c.disks[r.PathValue("name")]; v != nil {
			write(w, v.Disk)
			return
		}
		missing(w, r)
	}))
	mux.HandleFunc("DELETE "+disks+"/{name}", inZone(c.removeDisk))
	mux.HandleFunc("GET /compute/v1/projects/{project}/aggregated/disks", filtered(false, func(w http.ResponseWriter, matches func(map[string]string) bool) {
		write(w, &computepb.DiskAggregatedList{Items: map[string]*computepb.DisksScopedList{"zones/" + zones[0]: {Disks: c.disksOf(matches)}}})
	}))
}

// disksOf lists the disks that a filter asks for, machines' own among them.
func (c *compute) disksOf(matches func(map[string]string) bool) []*computepb.Disk {
	var list []*computepb.Disk
	for _, m := range c.machinesOf(matches) {
		list = append(list, &computepb.Disk{
			Name: m.Name, Labels: m.Labels, Zone: m.Zone, Users: []string{m.GetZone() + "/instances/" + m.GetName()},
			Status: proto.String("READY"), SourceImage: proto.String(c.machines[m.GetName()].image), LastAttachTimestamp: m.CreationTimestamp,
		})
	}
	for _, v := range sorted(c.disks) {
		if matches(v.Labels) {
			list = append(list, v.Disk)
		}
	}
	return list
}

func (c *compute) insertDisk(w http.ResponseWriter, r *http.Request) {
	v := &volume{Disk: &computepb.Disk{}}
	if !c.read(w, r, v.Disk) {
		return
	}
	from := v.GetSourceImage()
	image := c.images[from[strings.LastIndexByte(from, '/')+1:]]
	wrong := !validName.MatchString(v.GetName()) || v.GetSizeGb() < smallestDisk || v.GetSizeGb() > largestDisk ||
		!strings.HasSuffix(v.GetType(), "/zones/"+r.PathValue("zone")+"/diskTypes/pd-balanced")
	for key, value := range v.GetLabels() {
		wrong = wrong || !validKey.MatchString(key) || !validValue.MatchString(value)
	}
	switch {
	case wrong:
		refuse(w, http.StatusBadRequest, "Invalid value for a disk: %v", v.Disk)
	case image == nil:
		refuse(w, http.StatusNotFound, "The resource '%s' was not found", from)
	case c.disks[v.GetName()] != nil || c.machines[v.GetName()] != nil:
		taken(w, v.GetName())
	default:
		v.Zone, v.CreationTimestamp = proto.String(zoneURL+r.PathValue("project")+"/zones/"+r.PathValue("zone")), now()
		v.Status, v.file = proto.String("CREATING"), filepath.Join(c.dir, v.GetName()+".volume")
		c.disks[v.GetName()] = v
		c.starting(w, r, "insert", func() error {
			err := copySparse(filepath.Join(c.dir, image.image.GetName()+".raw"), v.file)
			if err == nil {
				err = os.Truncate(v.file, v.GetSizeGb()<<30)
			}
			v.Status = proto.String("READY")
			return err
		})
	}
}

func (c *compute) removeDisk(w http.ResponseWriter, r *http.Request) {
	v := c.disks[r.PathValue("name")]
	switch {
	case v == nil:
		missing(w, r)
	case len(v.Users) > 0:
		refuse(w, http.StatusBadRequest, "The disk resource '%s' is already being used by '%s'", v.GetName(), v.Users[0])
	case c.new(w, r):
		c.starting(w, r, "delete", func() error {
			delete(c.disks, v.GetName())
			return os.RemoveAll(v.file)
		})
	}
}

// checkAttached looks at the disks of a template beside the one that boots.
func checkAttached(disks []*computepb.AttachedDisk) error {
	for _, d := range disks {
		if d.GetBoot() || d.GetAutoDelete() || d.GetInitializeParams() != nil || !validName.MatchString(d.GetSource()) || !validName.MatchString(d.GetDeviceName()) ||
			!slices.Contains([]string{"READ_ONLY", "READ_WRITE"}, d.GetMode()) {
			return fmt.Errorf("the disk %v", d)
		}
	}
	return nil
}

// attach gives a machine the disks that its template names. A disk has one
// machine that writes to it, or several that read.
func (c *compute) attach(m *machine, disks []*computepb.AttachedDisk) error {
	for _, d := range disks {
		v := c.disks[d.GetSource()]
		if v == nil {
			return &opError{"RESOURCE_NOT_FOUND", "The resource 'disks/" + d.GetSource() + "' was not found"}
		}
		for _, other := range c.machines {
			for _, theirs := range other.Disks {
				if theirs.GetDeviceName() == d.GetDeviceName() && (d.GetMode() == "READ_WRITE" || theirs.GetMode() == "READ_WRITE") {
					return &opError{"RESOURCE_IN_USE_BY_ANOTHER_RESOURCE", "The disk resource '" + v.GetName() + "' is already being used by '" + other.GetName() + "'"}
				}
			}
		}
	}
	for _, d := range disks {
		v := c.disks[d.GetSource()]
		v.Users, v.LastAttachTimestamp = append(v.Users, m.GetZone()+"/instances/"+m.GetName()), now()
		m.Disks = append(m.Disks, &computepb.AttachedDisk{Source: proto.String(m.GetZone() + "/disks/" + v.GetName()), DeviceName: d.DeviceName, Mode: d.Mode})
	}
	return nil
}

// detach takes a machine's disks away, which stay.
func (c *compute) detach(m *machine) {
	for _, v := range c.disks {
		v.Users = slices.DeleteFunc(v.Users, func(user string) bool { return strings.HasSuffix(user, "/instances/"+m.GetName()) })
		if len(v.Users) == 0 {
			v.LastDetachTimestamp = now()
		}
	}
}

// qemuDisks are a machine's disks on its virtio-scsi, which have a vendor, a
// product and, in page 0x83 of the vital product data, the device's name as
// Compute Engine's have: that is what its /dev/disk/by-id/google-NAME are by.
func (c *compute) qemuDisks(m *machine) []string {
	var args []string
	for n, d := range m.Disks {
		drive, device := fmt.Sprintf("if=none,id=v%d,format=raw,file=%s", n, filepath.Join(c.dir, d.GetSource()[strings.LastIndexByte(d.GetSource(), '/')+1:]+".volume")), d.GetDeviceName()
		if d.GetMode() == "READ_ONLY" {
			drive += ",readonly=on"
		}
		args = append(args, "-drive", drive, "-device", fmt.Sprintf("scsi-hd,drive=v%d,bus=v.0,vendor=Google,product=PersistentDisk,device_id=%s", n, device))
	}
	return args
}
