package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"cloud.google.com/go/compute/apiv1/computepb"
	"github.com/fsouza/fake-gcs-server/fakestorage"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// compute is Compute Engine's images and their operations.
type compute struct {
	dir        string
	storage    *fakestorage.Server
	mu         sync.Mutex
	images     map[string]*made
	operations map[string]*work
	requests   []string

	firewalls map[string]*computepb.Firewall
	templates map[string]*computepb.InstanceTemplate
	regional  map[string]*computepb.InstanceTemplate // of the one region
	machines  map[string]*machine
	groups    map[string]*computepb.InstanceGroupManager
	disks     map[string]*volume
	booted    int
	grown     int                                     // machines that groups have made
	lacking   map[string][]*computepb.ManagedInstance // what groups could not make, by their names
	// address is that of machines which boot nothing, and say what a suite
	// wants to hear; "" boots them.
	address string
}

// made is an image, whose disk is the file NAME.raw, and how it came to be.
type made struct {
	image *computepb.Image
	by    *work
}

// work is an operation: it is at its end when somebody has asked for it, or for
// the image that it makes, twice.
type work struct {
	operation *computepb.Operation
	waited    int
	end       func() error
	pending   func() bool // tells whether it is not at its end yet; may be nil
}

func (c *compute) routes() http.Handler {
	mux := http.NewServeMux()
	const global = "/compute/v1/projects/{project}/global/"
	mux.HandleFunc("POST "+global+"images", c.insert)
	mux.HandleFunc("GET "+global+"images", filtered(false, c.list))
	mux.HandleFunc("GET "+global+"images/{name}", c.get)
	mux.HandleFunc("DELETE "+global+"images/{name}", c.remove)
	mux.HandleFunc("POST "+global+"operations/{name}/wait", c.wait)
	c.machineRoutes(mux)
	c.groupRoutes(mux)
	c.diskRoutes(mux)
	return selecting(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		defer c.mu.Unlock()
		mux.ServeHTTP(w, r)
	}))
}

// What names, labels and requests are like (Compute Engine's "Naming
// resources", "Requirements for labels"; API reference, requestId).
var (
	validName  = regexp.MustCompile(`^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$`)
	validKey   = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)
	validValue = regexp.MustCompile(`^[a-z0-9_-]{0,63}$`)
	validID    = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	source     = regexp.MustCompile(`^https://storage\.googleapis\.com/([^/]+)/(.+\.tar\.gz)$`)
)

// guestFeatures are those of GuestOsFeature that an image of Capstan's has.
var guestFeatures = []string{"GVNIC", "UEFI_COMPATIBLE", "VIRTIO_SCSI_MULTIQUEUE"}

func (c *compute) insert(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client has gone
	}
	img := &computepb.Image{}
	if err := protojson.Unmarshal(body, img); err != nil {
		refuse(w, http.StatusBadRequest, "%v", err)
		return
	}
	if err := check(img, r); err != nil {
		refuse(w, http.StatusBadRequest, "%v", err)
		return
	}
	id := r.FormValue("requestId")
	if slices.Contains(c.requests, id) {
		write(w, c.operations["operation-"+id].operation)
		return
	}
	if c.images[img.GetName()] != nil {
		refuse(w, http.StatusConflict, "The resource 'projects/%s/global/images/%s' already exists", r.PathValue("project"), img.GetName())
		return
	}
	c.requests = append(c.requests, id)
	from := img.GetRawDisk().GetSource()
	img.RawDisk.Source = nil // is not told
	img.Status, img.CreationTimestamp = proto.String("PENDING"), now()
	one := &made{image: img}
	c.images[img.GetName()] = one
	one.by = c.begin(w, id, "insert", func() error {
		if err := c.unpack(img.GetName(), from); err != nil {
			delete(c.images, img.GetName())
			return err
		}
		img.Status = proto.String("READY")
		return nil
	})
}

// check looks at what an image is made of.
func check(img *computepb.Image, r *http.Request) error {
	var features []string
	for _, f := range img.GetGuestOsFeatures() {
		features = append(features, f.GetType())
	}
	slices.Sort(features)
	for k, v := range img.GetLabels() {
		if !validKey.MatchString(k) || !validValue.MatchString(v) {
			return fmt.Errorf("invalid label %s=%s", k, v)
		}
	}
	switch {
	case !validName.MatchString(img.GetName()), !validName.MatchString(img.GetFamily()):
		return fmt.Errorf("invalid name %s or family %s", img.GetName(), img.GetFamily())
	case !validID.MatchString(r.FormValue("requestId")):
		return fmt.Errorf("invalid requestId %s", r.FormValue("requestId"))
	case img.GetArchitecture() != computepb.Image_X86_64.String():
		return fmt.Errorf("architecture %s", img.GetArchitecture())
	case img.GetRawDisk().GetContainerType() != computepb.RawDisk_TAR.String(), !source.MatchString(img.GetRawDisk().GetSource()):
		return fmt.Errorf("raw disk %v", img.GetRawDisk())
	case !slices.Equal(features, guestFeatures):
		return fmt.Errorf("guest features %s", features)
	}
	return nil
}

// unpack makes an image's disk of an archive, which holds nothing but
// disk.raw, in whole GiB ("Requirements to build custom images").
func (c *compute) unpack(name, from string) error {
	where := source.FindStringSubmatch(from)
	archive, err := c.storage.GetObject(where[1], where[2])
	if err != nil {
		return fmt.Errorf("the archive %s: %w", from, err)
	}
	dir := filepath.Join(c.dir, name+".new")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	tar := exec.Command("tar", "-xzf", "-", "-C", dir)
	tar.Stdin = bytes.NewReader(archive.Content)
	if out, err := tar.CombinedOutput(); err != nil {
		return fmt.Errorf("unpacking: %w: %s", err, out)
	}
	inside, err := os.ReadDir(dir)
	if err != nil || len(inside) != 1 || inside[0].Name() != "disk.raw" {
		return errors.Join(fmt.Errorf("in the archive there is %v", inside), err)
	}
	disk := filepath.Join(dir, "disk.raw")
	if info, err := os.Stat(disk); err != nil || info.Size() == 0 || info.Size()%(1<<30) != 0 {
		return errors.Join(errors.New("the disk's size is not in whole GiB"), err)
	}
	return os.Rename(disk, filepath.Join(c.dir, name+".raw"))
}

// begin answers with an operation that has begun.
func (c *compute) begin(w http.ResponseWriter, id, kind string, end func() error) *work {
	return c.beginIn(w, id, kind, "", end)
}

// beginIn does so in a zone.
func (c *compute) beginIn(w http.ResponseWriter, id, kind, zone string, end func() error) *work {
	op := &computepb.Operation{
		Name: proto.String("operation-" + id), OperationType: proto.String(kind), Progress: proto.Int32(0),
		Status: computepb.Operation_PENDING.Enum(),
	}
	if zone != "" {
		op.Zone = proto.String(zoneURL + "a-project/zones/" + zone)
	}
	one := &work{operation: op, end: end}
	c.operations[op.GetName()] = one
	write(w, op)
	return one
}

func (c *compute) wait(w http.ResponseWriter, r *http.Request) {
	one := c.operations[r.PathValue("name")]
	if one == nil {
		refuse(w, http.StatusNotFound, "no operation %s", r.PathValue("name"))
		return
	}
	one.goOn()
	write(w, one.operation)
}

// goOn is a step of an operation.
func (one *work) goOn() {
	one.waited++
	switch op := one.operation; {
	case one.waited == 1:
		op.Status, op.Progress = computepb.Operation_RUNNING.Enum(), proto.Int32(50)
	case one.pending != nil && one.pending():
	case op.GetStatus() != computepb.Operation_DONE:
		op.Status, op.Progress = computepb.Operation_DONE.Enum(), proto.Int32(100)
		if err := one.end(); err != nil {
			code := "INVALID_IMAGE"
			var told *opError
			if errors.As(err, &told) {
				code = told.code
			}
			op.Error = &computepb.Error{Errors: []*computepb.Errors{{Code: &code, Message: proto.String(err.Error())}}}
			op.HttpErrorStatusCode = proto.Int32(400)
		}
	}
}

func (c *compute) get(w http.ResponseWriter, r *http.Request) {
	if one := c.images[r.PathValue("name")]; one != nil {
		write(w, one.image)
		one.by.goOn()
		return
	}
	refuse(w, http.StatusNotFound, "The resource '%s' was not found", strings.TrimPrefix(r.URL.Path, "/compute/v1/"))
}

func (c *compute) list(w http.ResponseWriter, matches func(map[string]string) bool) {
	all := &computepb.ImageList{}
	for _, one := range c.images {
		if matches(one.image.Labels) {
			all.Items = append(all.Items, one.image)
		}
	}
	write(w, all)
}

func (c *compute) remove(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	if c.images[name] == nil {
		refuse(w, http.StatusNotFound, "no image %s", name)
		return
	}
	c.begin(w, fmt.Sprintf("delete-%d", len(c.operations)), "delete", func() error {
		delete(c.images, name)
		return os.RemoveAll(filepath.Join(c.dir, name+".raw"))
	})
}

func write(w http.ResponseWriter, m proto.Message) {
	if part, ok := w.(*partial); ok {
		m = proto.Clone(m)
		if err := part.of.cut(m.ProtoReflect()); err != nil {
			refuse(w, http.StatusBadRequest, "%v", err)
			return
		}
	}
	doc, err := protojson.Marshal(m)
	if err != nil {
		refuse(w, http.StatusInternalServerError, "%v", err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(doc)
}
