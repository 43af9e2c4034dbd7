package hypervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"time"

	"capstan/guest/api"
)

// Remote is a platform on which machines live on without a process of ours: a
// cloud, or a hypervisor that is elsewhere. Like a Driver it holds no state:
// what it has to know of a machine stands in the machine's Handle, which the
// instance's directory keeps, and all that it makes carries the instance's ID.
// Its methods may be called by several processes at once. Where the platform
// cannot be reached, an error wraps ErrUnreachable.
type Remote interface {
	Platform
	// Create makes a machine that is off, with all that belongs to it. keep
	// stores a handle: it is called before anything is made, and again when
	// there is more to tell, so that Remove finds what a process has made that
	// was killed at any moment. After an error, too, Remove is the caller's.
	Create(ctx context.Context, spec *RemoteSpec, keep func(Handle) error) error
	// Start switches the machine on; what its console said before is gone
	// then, but on platforms with Capabilities.Window. Starting one that is on
	// does nothing.
	Start(ctx context.Context, h Handle) error
	// Status tells how the machine fares, or wraps ErrGone.
	Status(ctx context.Context, h Handle) (RemoteStatus, error)
	// Stop asks the guest to end and, if it has not after grace, cuts the
	// power; without grace it does so at once. It returns once the machine is
	// off. Stopping one that is off does nothing.
	Stop(ctx context.Context, h Handle, grace time.Duration) error
	// Console is what the machine's console has said since it was last
	// started, up to now. One that never said anything is empty. A platform
	// with Capabilities.Window gives all that it has, whatever was asked for.
	Console(ctx context.Context, h Handle, part ConsolePart) (*Console, error)
	// Remove ends the machine and deletes all that Create made. What is gone
	// already is no error.
	Remove(ctx context.Context, h Handle) error
	// Close ends the connections that the driver has, if any.
	Close() error
}

// Scaler is a Remote that also makes groups of equal machines, and keeps each
// at a number of them by itself: one that ends is replaced. A group has a
// handle as a machine has one, and Scale is what starts it. Stop leaves none
// of its machines, and the group.
type Scaler interface {
	Remote
	// Scale sets the number of a group's machines, one at least, and returns
	// once the platform has accepted it. Setting what is set does nothing.
	Scale(ctx context.Context, h Handle, replicas int) error
}

// Prober is a Remote that can tell whether it can be used.
type Prober interface {
	Remote
	// Configured tells whether this host has credentials for the platform, or
	// says where it is. It asks nobody.
	Configured() bool
	// Probe asks the platform whether it takes whoever asks, and tells who and
	// where that is. No secret is in what it tells.
	Probe(ctx context.Context) (string, error)
}

// Lister is a Remote that can tell what there is of Capstan's, whoever made it.
type Lister interface {
	// List tells all that costs something, or belongs to what does. Beside an
	// error it returns what it could learn.
	List(ctx context.Context) ([]Resource, error)
}

// Pruner is a Remote that keeps images, and can tell which nothing uses.
type Pruner interface {
	// Prune removes what interrupted commands have left and, with all, images
	// that nothing is made of. It returns what it has removed, beside an error
	// too.
	Prune(ctx context.Context, all bool) ([]Resource, error)
}

// Rehearser is a Remote that can tell what it would do, and do none of it.
type Rehearser interface {
	Remote
	// Rehearse returns the platform as one whose methods tell would of each
	// call that they would make, in its order, and make none that changes
	// something. What they tell has no value of a guest's config in it. A
	// handle that its Create keeps is for its other methods alone.
	Rehearse(would func(call string)) Remote
}

// VolumeKeeper is a Remote that keeps volumes, which its Create makes.
type VolumeKeeper interface {
	Remote
	// Volumes tells which there are, in all places. Beside an error it returns
	// what it could learn.
	Volumes(ctx context.Context) ([]KeptVolume, error)
	// RemoveVolume deletes one of them with all that is in it. One that is
	// attached to a machine is not deleted; what is gone already is no error.
	RemoveVolume(ctx context.Context, v KeptVolume) error
}

// KeptVolume is a volume that there is.
type KeptVolume struct {
	Platform string    `json:"platform"`
	Place    string    `json:"place"` // region or zone
	Name     string    `json:"name"`
	ID       string    `json:"id"`
	Size     int64     `json:"size"`            // in bytes
	Users    []string  `json:"users,omitempty"` // the machines that it is attached to, in the platform's words
	Status   string    `json:"status"`          // in the platform's own word
	Created  time.Time `json:"created,omitzero"`
}

// Resource is the volume in a list of all there is, with the platform's word for
// what it is.
func (v KeptVolume) Resource(kind string) Resource {
	return Resource{Platform: v.Platform, Place: v.Place, Kind: kind, ID: v.ID, Name: v.Name, Status: v.Status, Created: v.Created}
}

// Resource is a thing on a platform that Capstan has made.
type Resource struct {
	Platform string    `json:"platform"`
	Place    string    `json:"place,omitempty"` // region or zone
	Kind     string    `json:"kind"`            // in the platform's own word: "snapshot"
	ID       string    `json:"id"`
	Name     string    `json:"name,omitempty"`
	Instance string    `json:"instance,omitempty"` // the ID of the instance that it belongs to
	Image    string    `json:"image,omitempty"`
	Status   string    `json:"status,omitempty"` // in the platform's own word
	Address  string    `json:"address,omitempty"`
	Created  time.Time `json:"created,omitzero"`
}

// Handle is what a remote driver has to know of a machine: a document of its
// own, which no secret is in.
type Handle = json.RawMessage

// RemoteSpec is one machine to create on a remote platform.
type RemoteSpec struct {
	ID, Name      string // the instance's
	Image, Digest string
	// Guest is the instance config, which the driver completes.
	Guest  api.Config
	Memory int64 // in bytes
	CPUs   int
	Ports  []Port
	// Disk is the disk that boots by UEFI, with the completed config on it.
	Disk func(api.Config) (BootDisk, error)
	// ImageDisk is the disk of the image alone, with the image's own config on
	// it, of a size that is a multiple of unit bytes: for platforms that make
	// machines of images, and tell each its config in another way.
	ImageDisk func(unit int64) (BootDisk, error)
	// Cloud is what was asked of clouds in particular.
	Cloud CloudSpec
	// Replicas is of how many machines a group is that the platform keeps;
	// 0 makes one machine, and no group.
	Replicas int
	// Progress is told how far a piece of work is.
	Progress func(what string, done, total int64)
}

// BootDisk is a disk of Size bytes that writes itself, from its first byte to
// its last but for what is zero, as often as it is asked to.
type BootDisk struct {
	// ID is, in hexadecimal digits, the same for disks of the same bytes, and
	// for no others. It may be "".
	ID    string
	Size  int64
	Write func(ctx context.Context, w io.WriterAt) error
}

// CloudSpec is what is asked of a cloud. Where a field is the zero value, the
// cloud's own default counts, or the driver's.
type CloudSpec struct {
	Project  string // Compute Engine's
	Place    string // a region of EC2, a zone of Compute Engine
	Type     string // the machine's, in the cloud's words; "" goes by memory and CPUs
	Subnet   string
	Sources  []netip.Prefix // from where the ports can be reached; none opens nothing
	Identity string         // the machine's own: an instance profile, a service account
	Spot     bool           // cheaper, and may be taken away
	Volumes  []Volume
}

// VolumeName is what volumes can be called, on every cloud.
var VolumeName = regexp.MustCompile(`^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$`)

// Volume is a disk of a cloud that outlives the instances that use it.
type Volume struct {
	Name     string
	Size     int64  // in bytes, where it has to be made; 0: the driver's choice
	Target   string // where it is mounted in the guest
	ReadOnly bool
}

// Console is what a console has said, from some byte of it on.
type Console struct {
	io.ReadCloser
	// Offset is where the first byte lies: further on than it was asked for
	// where the platform has lost what was there, or Unplaced.
	Offset int64
}

// Unplaced is the Offset of a window that does not begin where the console
// does, on platforms that do not tell how much came before it.
const Unplaced = -1

// ConsolePart is what is wanted of a console.
type ConsolePart struct {
	// Member is which machine of a group; "" where there is one machine.
	Member string
	// Kernel wants the kernel's console in the place of the application's.
	Kernel bool
	// Offset is where to begin, in bytes; a negative one counts from the end,
	// and may be more than there is.
	Offset int64
}

// RemoteStatus is how a machine fares on a remote platform.
type RemoteStatus struct {
	On      bool
	Started time.Time  // the zero Time: not known
	Address netip.Addr // as the platform knows it; the zero Addr: it does not
	// Replicas is how many machines a group is to have, and Members are those
	// that it has. A group is on while any of them is. Trouble is why the
	// platform makes no more of them, in its words, where it has tried in vain.
	Replicas int
	Members  []Member
	Trouble  string
}

// Member is a machine of a group.
type Member struct {
	ID      string     `json:"id"`
	Status  string     `json:"status"` // in the platform's own word
	On      bool       `json:"on"`
	Address netip.Addr `json:"address,omitzero"`
}

var (
	// ErrGone is wrapped where the platform has no such machine any more.
	ErrGone = errors.New("the machine is gone")
	// ErrUnreachable is wrapped where the platform does not answer.
	ErrUnreachable = errors.New("the platform cannot be reached")
	// ErrNoCredentials is wrapped where nothing says who asks: whoever has no
	// credentials for a platform does not use it.
	ErrNoCredentials = errors.New("there are no credentials")
)

// RemoteError is what a remote platform answers, in words for people.
type RemoteError struct {
	Platform string
	Doing    string // "uploading the disk"; may be empty
	Err      error
	Remedy   string // may be empty
}

func (e *RemoteError) Error() string {
	if e.Doing == "" {
		return fmt.Sprintf("%s: %v", e.Platform, e.Err)
	}
	return fmt.Sprintf("%s: %s: %v", e.Platform, e.Doing, e.Err)
}

func (e *RemoteError) Unwrap() error { return e.Err }

// Hint is the way out.
func (e *RemoteError) Hint() string { return e.Remedy }
