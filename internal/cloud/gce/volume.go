package gce

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"capstan/guest/api"
	"capstan/internal/hypervisor"
	"capstan/internal/image/disk/compose"
	archive "capstan/internal/image/disk/gce"
)

// A volume is a disk of a zone that belongs to no instance. It is made of an
// image of an empty file system, and is known by its name.

const (
	labelVolume = "capstan-volume"
	// labelMadeFor is, on a volume, the ID of the instance that it was made for:
	// if that never gets as far as having it attached, nobody needs it.
	labelMadeFor = "capstan-made-for"

	// volumeSize is that of a volume of which nobody says it, volumeUnit what
	// sizes are multiples of, both in bytes.
	volumeSize = smallestDisk
	volumeUnit = 1 << 30

	// smallestDisk is, in bytes, that of the kind pd-balanced ("About Persistent
	// Disk").
	smallestDisk = 10 << 30
)

// volumeDisk is the name of a volume's disk, and of the device that it is in a
// machine.
func volumeDisk(volume string) string { return "capstan-volume-" + volume }

// volume is what of a disk is said and asked (Compute Engine's API v1, disks).
type volume struct {
	Name     string            `json:"name"`
	Size     int64             `json:"sizeGb,string"`
	Type     string            `json:"type"`
	Image    string            `json:"sourceImage"`
	Labels   map[string]string `json:"labels"`
	Zone     string            `json:"zone,omitempty"`  // a URL
	Users    []string          `json:"users,omitempty"` // URLs of instances
	Status   string            `json:"status,omitempty"`
	Created  *time.Time        `json:"creationTimestamp,omitempty"`
	Attached string            `json:"lastAttachTimestamp,omitempty"`
}

func (c *Client) getVolume(zone, name string) call {
	return call{method: "GET", url: c.zone(zone) + "disks/" + volumeDisk(name)}
}

func (c *Client) insertVolume(h handle, v hypervisor.Volume, image string) call {
	return call{method: "POST", url: c.zone(h.Zone) + "disks?requestId=" + requestID(), body: volume{
		Name: volumeDisk(v.Name), Size: gigabytes(v), Image: image,
		Type:   "projects/" + h.Project + "/zones/" + h.Zone + "/diskTypes/pd-balanced",
		Labels: map[string]string{labelVolume: label(v.Name), labelMadeFor: label(h.ID), "capstan-version": label(c.opts.Version)},
	}}
}

func gigabytes(v hypervisor.Volume) int64 {
	size := v.Size
	if size == 0 {
		size = volumeSize
	}
	return (size + volumeUnit - 1) / volumeUnit
}

// refuseVolumes is why volumes cannot be had.
func refuseVolumes(spec *hypervisor.RemoteSpec) error {
	if len(spec.Cloud.Volumes) > 0 && spec.Replicas > 0 {
		return &hypervisor.CannotError{Platform: Name, What: "attach a volume to the machines of a group", Remedy: "leave -v or --replicas out"}
	}
	for _, v := range spec.Cloud.Volumes {
		if v.Size > 0 && v.Size < smallestDisk {
			return &hypervisor.RemoteError{Platform: Name, Err: fmt.Errorf("the volume %s is smaller than a disk of Compute Engine's can be", v.Name), Remedy: "size=10G or more"}
		}
	}
	return nil
}

// missingVolumes are those of the wanted volumes that have to be made. One that
// cannot be used is an error.
func (c *Client) missingVolumes(ctx context.Context, h handle, wanted []hypervisor.Volume) ([]hypervisor.Volume, error) {
	var missing []hypervisor.Volume
	for _, v := range wanted {
		var have volume
		err := c.do(ctx, c.getVolume(h.Zone, v.Name), &have)
		if is(err, http.StatusNotFound) {
			missing = append(missing, v)
			continue
		}
		if err == nil {
			err = c.usable(ctx, h, v, have)
		}
		if err != nil {
			return nil, err
		}
	}
	return missing, nil
}

// usable tells whether the volume that there is can be had as it is wanted.
func (c *Client) usable(ctx context.Context, h handle, v hypervisor.Volume, have volume) error {
	bad := func(remedy, format string, args ...any) error {
		return &hypervisor.RemoteError{Platform: Name, Err: fmt.Errorf(format, args...), Remedy: remedy}
	}
	switch {
	case have.Labels[labelVolume] != label(v.Name):
		return bad("another name", "there is a disk %s already, which capstan has not made", have.Name)
	case v.Size > 0 && gigabytes(v) != have.Size:
		return bad(fmt.Sprintf("leave :size= out; or gcloud compute disks resize %s --zone %s --size %dGB makes it larger", have.Name, h.Zone, gigabytes(v)),
			"the volume %s is there already, with %d GiB", v.Name, have.Size)
	}
	for _, user := range have.Users {
		var m machine
		err := c.do(ctx, call{method: "GET", url: c.zone(h.Zone) + "instances/" + path.Base(user)}, &m)
		if is(err, http.StatusNotFound) {
			continue // it is gone meanwhile
		}
		if err != nil {
			return err
		}
		name := firstOf(m.Labels["capstan-name"], m.Name)
		if !v.ReadOnly {
			return bad("capstan rm "+name+"; or :ro in both", "the volume %s is attached to the instance %s", v.Name, name)
		}
		for _, d := range m.Disks {
			if path.Base(d.Source) == have.Name && d.Mode != readOnly {
				return bad("capstan rm "+name+"; or :ro in both", "the volume %s is attached to the instance %s, which writes to it", v.Name, name)
			}
		}
	}
	return nil
}

const readOnly, readWrite = "READ_ONLY", "READ_WRITE"

// makeVolumes makes volumes with empty file systems.
func (c *Client) makeVolumes(ctx context.Context, h handle, missing []hypervisor.Volume, arch string) error {
	if len(missing) == 0 {
		return nil
	}
	empty, err := c.emptyVolume(arch)
	if err != nil {
		return err
	}
	image, err := c.patient().Push(ctx, empty)
	if err != nil {
		return err
	}
	for _, v := range missing {
		if err := c.make(ctx, "making the volume "+v.Name, c.insertVolume(h, v, image.Path)); err != nil {
			return err
		}
	}
	return nil
}

// tellVolumes tells which calls would make volumes, if there were none.
func (c *Client) tellVolumes(h handle, volumes []hypervisor.Volume, arch string) error {
	for n, v := range volumes {
		empty, err := c.emptyVolume(arch)
		if err != nil {
			return err
		}
		c.opts.Would(c.getVolume(h.Zone, v.Name).String())
		if n == 0 {
			c.tell(empty)
		}
		c.opts.Would(c.insertVolume(h, v, "projects/"+h.Project+"/global/images/"+empty.imageName()).String())
	}
	return nil
}

// emptyVolume is the image that volumes are made of.
func (c *Client) emptyVolume(arch string) (*Push, error) {
	disk := compose.Volume{Size: archive.Unit}
	id, err := disk.ID()
	if err != nil {
		return nil, err
	}
	return &Push{
		Name: "capstan-volume", Image: "an empty volume", Digest: id, Arch: arch, Disk: id,
		Archive: func(_ context.Context, w io.Writer) error { return archive.Write(w, disk.Size, disk.Write) },
	}, nil
}

// attachVolumes has a machine of the template have volumes, and its guest mount
// them.
func attachVolumes(p *properties, guest *api.Config, volumes []hypervisor.Volume) {
	for _, v := range volumes {
		mode := readWrite
		if v.ReadOnly {
			mode = readOnly
		}
		name := volumeDisk(v.Name)
		p.Disks = append(p.Disks, attached{Source: name, Device: name, Mode: mode})
		guest.Mounts = append(slices.Clip(guest.Mounts), api.Mount{Type: "ext4", Source: "serial:" + name, Target: v.Target, ReadOnly: v.ReadOnly})
	}
}

// removeUnused deletes the volumes that were made for an instance which has
// never had them.
func (c *Client) removeUnused(ctx context.Context, h handle) error {
	list, err := all[volume](ctx, c, c.zone(h.Zone)+"disks", "labels."+labelMadeFor+"="+label(h.ID), "")
	if is(err, http.StatusNotFound) {
		return nil // there is no such zone
	} else if err != nil {
		return err
	}
	for _, v := range list {
		if v.Attached != "" || len(v.Users) > 0 {
			continue
		}
		if err := c.delete(ctx, c.zone(h.Zone)+"disks/"+v.Name); err != nil {
			return err
		}
	}
	return nil
}

// Volumes tells which volumes there are in the project.
func (d *Driver) Volumes(ctx context.Context) ([]hypervisor.KeptVolume, error) {
	c, err := d.connect(ctx, "")
	if err != nil {
		return nil, err
	}
	list, err := aggregated[volume](ctx, c, "disks", "labels."+labelVolume+":*", "")
	var all []hypervisor.KeptVolume
	for _, v := range list {
		all = append(all, v.kept())
	}
	return all, explain(err)
}

func (v volume) kept() hypervisor.KeptVolume {
	k := hypervisor.KeptVolume{
		Platform: Name, Place: path.Base(v.Zone), Name: v.Labels[labelVolume], ID: v.Name, Size: v.Size * volumeUnit, Status: strings.ToLower(v.Status),
	}
	if v.Created != nil {
		k.Created = *v.Created
	}
	for _, user := range v.Users {
		k.Users = append(k.Users, path.Base(user))
	}
	return k
}

// RemoveVolume deletes a volume.
func (d *Driver) RemoveVolume(ctx context.Context, v hypervisor.KeptVolume) error {
	c, err := d.connect(ctx, "")
	if err != nil {
		return err
	}
	return explain(c.delete(ctx, c.zone(v.Place)+"disks/"+v.ID))
}
