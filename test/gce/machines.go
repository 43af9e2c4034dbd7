package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"cloud.google.com/go/compute/apiv1/computepb"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// machine is an instance, with its disk.
type machine struct {
	*computepb.Instance
	by           *work // what it is at
	running      *running
	starts       int
	disk, serial string
	image        string
}

const (
	zoneURL = "https://www.googleapis.com/compute/v1/projects/"
	// exhausted is a zone where nothing can be started.
	exhausted = "us-central1-f"
	// quota is a machine type of which there is none left.
	quota = "e2-standard-4"
)

var zones = []string{"us-central1-a", exhausted}

// machineTypes are some of those that there are.
var machineTypes = []*computepb.MachineType{
	machineType("e2-micro", 2, 1024, "X86_64"), machineType("e2-small", 2, 2048, "X86_64"), machineType("e2-medium", 2, 4096, "X86_64"),
	machineType(quota, 4, 16384, "X86_64"), machineType("n2-standard-2", 2, 8192, "X86_64"), machineType("t2a-standard-1", 1, 4096, "ARM64"),
}

func machineType(name string, cpus, memory int32, arch string) *computepb.MachineType {
	return &computepb.MachineType{Name: &name, GuestCpus: &cpus, MemoryMb: &memory, Architecture: &arch}
}

func (c *compute) machineRoutes(mux *http.ServeMux) {
	const project, global = "/compute/v1/projects/{project}/", "/compute/v1/projects/{project}/global/"
	const zone, region = project + "zones/{zone}/", project + "regions/us-central1/"
	mux.HandleFunc("GET "+global+"networks/{name}", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("name") != "default" {
			missing(w, r)
			return
		}
		write(w, &computepb.Network{Name: proto.String("default")})
	})
	mux.HandleFunc("GET "+region+"subnetworks/inside", func(w http.ResponseWriter, r *http.Request) {
		write(w, &computepb.Subnetwork{Name: proto.String("inside"), Network: proto.String(zoneURL + r.PathValue("project") + "/global/networks/default")})
	})
	mux.HandleFunc("GET "+zone+"machineTypes", inZone(func(w http.ResponseWriter, _ *http.Request) {
		write(w, &computepb.MachineTypeList{Items: machineTypes})
	}))
	mux.HandleFunc("GET "+zone+"machineTypes/{name}", inZone(func(w http.ResponseWriter, r *http.Request) {
		for _, t := range machineTypes {
			if t.GetName() == r.PathValue("name") {
				write(w, t)
				return
			}
		}
		missing(w, r)
	}))
	mux.HandleFunc("POST "+global+"firewalls", c.insertFirewall)
	mux.HandleFunc("GET "+global+"firewalls", unfiltered(func(w http.ResponseWriter, _ *http.Request) {
		write(w, &computepb.FirewallList{Items: sorted(c.firewalls)})
	}))
	mux.HandleFunc("DELETE "+global+"firewalls/{name}", func(w http.ResponseWriter, r *http.Request) { drop(c, w, r, c.firewalls) })
	mux.HandleFunc("POST "+global+"instanceTemplates", func(w http.ResponseWriter, r *http.Request) { c.insertTemplate(w, r, c.templates) })
	mux.HandleFunc("POST "+region+"instanceTemplates", func(w http.ResponseWriter, r *http.Request) { c.insertTemplate(w, r, c.regional) })
	mux.HandleFunc("DELETE "+region+"instanceTemplates/{name}", func(w http.ResponseWriter, r *http.Request) { drop(c, w, r, c.regional) })
	mux.HandleFunc("GET "+project+"aggregated/instanceTemplates", filtered(true, func(w http.ResponseWriter, matches func(map[string]string) bool) {
		write(w, &computepb.InstanceTemplateAggregatedList{Items: map[string]*computepb.InstanceTemplatesScopedList{
			"global": {InstanceTemplates: selected(sorted(c.templates), matches, labelsOf)}, "regions/us-central1": {InstanceTemplates: selected(sorted(c.regional), matches, labelsOf)},
		}})
	}))
	mux.HandleFunc("GET "+global+"instanceTemplates", filtered(true, func(w http.ResponseWriter, matches func(map[string]string) bool) {
		write(w, &computepb.InstanceTemplateList{Items: selected(sorted(c.templates), matches, labelsOf)})
	}))
	mux.HandleFunc("GET "+global+"instanceTemplates/{name}", func(w http.ResponseWriter, r *http.Request) {
		if t := c.templates[r.PathValue("name")]; t != nil {
			write(w, t)
			return
		}
		missing(w, r)
	})
	mux.HandleFunc("DELETE "+global+"instanceTemplates/{name}", func(w http.ResponseWriter, r *http.Request) { drop(c, w, r, c.templates) })
	mux.HandleFunc("POST "+zone+"instances", inZone(c.insertMachine))
	mux.HandleFunc("GET "+zone+"instances", inZone(filtered(false, func(w http.ResponseWriter, matches func(map[string]string) bool) {
		write(w, &computepb.InstanceList{Items: c.machinesOf(matches)})
	})))
	mux.HandleFunc("GET "+project+"aggregated/instances", filtered(false, func(w http.ResponseWriter, matches func(map[string]string) bool) {
		all := &computepb.InstanceAggregatedList{Items: map[string]*computepb.InstancesScopedList{}}
		for _, zone := range zones {
			all.Items["zones/"+zone] = &computepb.InstancesScopedList{}
		}
		all.Items["zones/"+zones[0]].Instances = c.machinesOf(matches)
		write(w, all)
	}))
	mux.HandleFunc("GET "+zone+"instances/{name}", c.withMachine(func(w http.ResponseWriter, _ *http.Request, m *machine) {
		write(w, m.Instance)
		m.by.goOn()
	}))
	mux.HandleFunc("GET "+zone+"instances/{name}/serialPort", c.withMachine(c.serialPort))
	mux.HandleFunc("POST "+zone+"instances/{name}/start", c.withMachine(c.start))
	mux.HandleFunc("POST "+zone+"instances/{name}/stop", c.withMachine(c.stop))
	mux.HandleFunc("DELETE "+zone+"instances/{name}", c.withMachine(c.removeMachine))
	mux.HandleFunc("POST "+zone+"operations/{operation}/wait", inZone(func(w http.ResponseWriter, r *http.Request) {
		r.SetPathValue("name", r.PathValue("operation"))
		c.wait(w, r)
	}))
}

func missing(w http.ResponseWriter, r *http.Request) {
	refuse(w, http.StatusNotFound, "The resource '%s' was not found", strings.TrimPrefix(r.URL.Path, "/compute/v1/"))
}

// inZone answers for the zones that there are.
func inZone(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !slices.Contains(zones, r.PathValue("zone")) {
			missing(w, r)
			return
		}
		next(w, r)
	}
}

func (c *compute) withMachine(next func(http.ResponseWriter, *http.Request, *machine)) http.HandlerFunc {
	return inZone(func(w http.ResponseWriter, r *http.Request) {
		m := c.machines[r.PathValue("name")]
		if m == nil {
			missing(w, r)
			return
		}
		next(w, r, m)
	})
}

// sorted is a list of what has names.
func sorted[T interface{ GetName() string }](all map[string]T) []T {
	var list []T
	for _, one := range all {
		list = append(list, one)
	}
	slices.SortFunc(list, func(a, b T) int { return strings.Compare(a.GetName(), b.GetName()) })
	return list
}

// filters are labels.KEY=VALUE and labels.KEY:* ("Filtering with the API").
var filters = regexp.MustCompile(`^(properties\.)?labels\.([a-z][a-z0-9_-]*)(?:=([a-z0-9_-]*)|:\*)$`)

// filtered answers with a list of what its filter asks for, by the labels that
// are in such things' properties, or their own.
func filtered(inProperties bool, next func(w http.ResponseWriter, matches func(map[string]string) bool)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		filter := r.FormValue("filter")
		if filter == "" {
			next(w, func(map[string]string) bool { return true })
			return
		}
		said := filters.FindStringSubmatch(filter)
		if said == nil || (said[1] != "") != inProperties {
			refuse(w, http.StatusBadRequest, "Invalid value for field 'filter': '%s'", filter)
			return
		}
		next(w, func(labels map[string]string) bool {
			value, has := labels[said[2]]
			return has && (strings.HasSuffix(filter, ":*") || value == said[3])
		})
	}
}

// unfiltered refuses all filters.
func unfiltered(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if filter := r.FormValue("filter"); filter != "" {
			refuse(w, http.StatusBadRequest, "Invalid value for field 'filter': '%s'", filter)
			return
		}
		next(w, r)
	}
}

// selected are those of a list that match.
func selected[T any](list []T, matches func(map[string]string) bool, labels func(T) map[string]string) []T {
	return slices.DeleteFunc(list, func(one T) bool { return !matches(labels(one)) })
}

func labelsOf(t *computepb.InstanceTemplate) map[string]string { return t.GetProperties().GetLabels() }

func (c *compute) machinesOf(matches func(map[string]string) bool) []*computepb.Instance {
	var list []*computepb.Instance
	for _, m := range sorted(c.machines) {
		if matches(m.Labels) {
			list = append(list, m.Instance)
		}
	}
	return list
}

// read decodes what is to be made. An answer is given where that is all there is
// to do.
func (c *compute) read(w http.ResponseWriter, r *http.Request, into proto.Message) bool {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return false // the client has gone
	}
	if err := protojson.Unmarshal(body, into); err != nil {
		refuse(w, http.StatusBadRequest, "%v", err)
		return false
	}
	return c.new(w, r)
}

// new tells whether a request is one that was not made before.
func (c *compute) new(w http.ResponseWriter, r *http.Request) bool {
	id := r.FormValue("requestId")
	if !validID.MatchString(id) {
		refuse(w, http.StatusBadRequest, "invalid requestId %s", id)
		return false
	}
	if slices.Contains(c.requests, id) {
		write(w, c.operations["operation-"+id].operation)
		return false
	}
	return true
}

// starting begins an operation of a request.
func (c *compute) starting(w http.ResponseWriter, r *http.Request, kind string, end func() error) *work {
	id := r.FormValue("requestId")
	c.requests = append(c.requests, id)
	op := c.beginIn(w, id, kind, r.PathValue("zone"), end)
	return op
}

func taken(w http.ResponseWriter, name string) {
	refuse(w, http.StatusConflict, "The resource '%s' already exists", name)
}

func drop[T any](c *compute, w http.ResponseWriter, r *http.Request, all map[string]T) {
	name := r.PathValue("name")
	if _, ok := all[name]; !ok {
		missing(w, r)
		return
	}
	if c.new(w, r) {
		c.starting(w, r, "delete", func() error {
			delete(all, name)
			return nil
		})
	}
}

func (c *compute) insertFirewall(w http.ResponseWriter, r *http.Request) {
	f := &computepb.Firewall{}
	if !c.read(w, r, f) {
		return
	}
	wrong := !validName.MatchString(f.GetName()) || len(f.GetSourceRanges()) == 0 || len(f.GetTargetTags()) == 0 || len(f.GetAllowed()) == 0 ||
		!strings.HasSuffix(f.GetNetwork(), "global/networks/default")
	kinds := map[bool]bool{}
	for _, s := range f.GetSourceRanges() {
		p, err := netip.ParsePrefix(s)
		wrong = wrong || err != nil || p.Masked() != p
		kinds[p.Addr().Is4()] = true
	}
	for _, a := range f.GetAllowed() {
		wrong = wrong || !slices.Contains([]string{"tcp", "udp"}, a.GetIPProtocol())
		for _, p := range a.GetPorts() {
			_, err := strconv.ParseUint(p, 10, 16)
			wrong = wrong || err != nil
		}
	}
	switch {
	case wrong || len(kinds) != 1:
		refuse(w, http.StatusBadRequest, "Invalid value for a firewall: %v", f)
	case c.firewalls[f.GetName()] != nil:
		taken(w, f.GetName())
	default:
		f.CreationTimestamp = now()
		c.firewalls[f.GetName()] = f
		c.starting(w, r, "insert", func() error { return nil })
	}
}

func (c *compute) insertTemplate(w http.ResponseWriter, r *http.Request, all map[string]*computepb.InstanceTemplate) {
	t := &computepb.InstanceTemplate{}
	if !c.read(w, r, t) {
		return
	}
	if err := c.checkTemplate(t); err != nil {
		refuse(w, http.StatusBadRequest, "Invalid value for an instance template: %v", err)
		return
	}
	if all[t.GetName()] != nil {
		taken(w, t.GetName())
		return
	}
	t.CreationTimestamp = now()
	all[t.GetName()] = t
	c.starting(w, r, "insert", func() error { return nil })
}

// checkTemplate looks at what machines are made of.
func (c *compute) checkTemplate(t *computepb.InstanceTemplate) error {
	p := t.GetProperties()
	for k, v := range p.GetLabels() {
		if !validKey.MatchString(k) || !validValue.MatchString(v) {
			return fmt.Errorf("label %s=%s", k, v)
		}
	}
	if len(p.GetDisks()) == 0 || len(p.GetNetworkInterfaces()) != 1 || !validName.MatchString(t.GetName()) || len(p.GetTags().GetItems()) != 1 {
		return errors.New("disks, one interface, one tag and a name")
	}
	if err := checkAttached(p.GetDisks()[1:]); err != nil {
		return err
	}
	disk, nic := p.GetDisks()[0], p.GetNetworkInterfaces()[0]
	if c.imageOf(disk) == nil || !disk.GetBoot() || !disk.GetAutoDelete() {
		return fmt.Errorf("the disk %v", disk)
	}
	image, err := os.Stat(filepath.Join(c.dir, c.imageOf(disk).image.GetName()+".raw"))
	if err != nil {
		return err
	}
	if size := disk.GetInitializeParams().GetDiskSizeGb(); size < max(smallestDisk, image.Size()>>30) || size > largestDisk {
		return fmt.Errorf("the disk's size of %d GB", size)
	}
	if (nic.GetNetwork() == "") == (nic.GetSubnetwork() == "") || nic.GetNicType() != "GVNIC" {
		return fmt.Errorf("the interface %v", nic)
	}
	if !slices.ContainsFunc(machineTypes, func(m *computepb.MachineType) bool { return m.GetName() == p.GetMachineType() }) {
		return fmt.Errorf("the machine type %s", p.GetMachineType())
	}
	if s := p.GetScheduling(); s.GetProvisioningModel() == "SPOT" && (s.GetAutomaticRestart() || s.GetOnHostMaintenance() != "TERMINATE") {
		return fmt.Errorf("the scheduling %v", s)
	}
	return nil
}

func (c *compute) imageOf(disk *computepb.AttachedDisk) *made {
	name := disk.GetInitializeParams().GetSourceImage()
	return c.images[name[strings.LastIndexByte(name, '/')+1:]]
}

func now() *string { return proto.String(time.Now().Format(time.RFC3339Nano)) }

func (c *compute) insertMachine(w http.ResponseWriter, r *http.Request) {
	asked := &computepb.Instance{}
	if !c.read(w, r, asked) {
		return
	}
	from := r.FormValue("sourceInstanceTemplate")
	t := c.templates[from[strings.LastIndexByte(from, '/')+1:]]
	switch {
	case t == nil:
		refuse(w, http.StatusNotFound, "The resource '%s' was not found", from)
		return
	case !validName.MatchString(asked.GetName()):
		refuse(w, http.StatusBadRequest, "Invalid name %s", asked.GetName())
		return
	case c.machines[asked.GetName()] != nil:
		taken(w, asked.GetName())
		return
	}
	zone, p := r.PathValue("zone"), t.GetProperties()
	if err := lacking(zone, p.GetMachineType()); err != nil {
		c.starting(w, r, "insert", func() error { return err })
		return
	}
	m, boot := c.place(t, asked.GetName(), r.PathValue("project"), zone)
	m.by = c.starting(w, r, "insert", boot)
}

// place makes a machine of a template, which boot then switches on.
func (c *compute) place(t *computepb.InstanceTemplate, name, project, zone string) (m *machine, boot func() error) {
	p := t.GetProperties()
	m = &machine{Instance: &computepb.Instance{
		Name: &name, Zone: proto.String(zoneURL + project + "/zones/" + zone), Status: proto.String("PROVISIONING"),
		Labels: p.GetLabels(), Tags: p.GetTags(), Metadata: p.GetMetadata(), MachineType: p.MachineType, CreationTimestamp: now(),
		NetworkInterfaces: []*computepb.NetworkInterface{{NetworkIP: proto.String("10.128.0.2"), AccessConfigs: []*computepb.AccessConfig{{}}}},
	}}
	m.disk, m.serial = filepath.Join(c.dir, name+".disk"), filepath.Join(c.dir, name+".serial")
	image := filepath.Join(c.dir, c.imageOf(p.GetDisks()[0]).image.GetName()+".raw")
	m.image = p.GetDisks()[0].GetInitializeParams().GetSourceImage()
	c.machines[name] = m
	return m, func() error {
		err := c.attach(m, p.GetDisks()[1:])
		if err != nil {
			delete(c.machines, name)
			return err
		}
		if err := copySparse(image, m.disk); err != nil {
			return err
		}
		if err := os.Truncate(m.disk, p.GetDisks()[0].GetInitializeParams().GetDiskSizeGb()<<30); err != nil {
			return err
		}
		return c.powerOn(m)
	}
}

// opError is why an operation has failed.
type opError struct{ code, text string }

func (e *opError) Error() string { return e.text }

// lacking is why a zone has no machine of a type; nil: it has.
func lacking(zone, kind string) *opError {
	switch {
	case zone == exhausted:
		return &opError{"ZONE_RESOURCE_POOL_EXHAUSTED", "The zone '" + zone + "' does not have enough resources available to fulfill the request."}
	case kind == quota:
		return &opError{"QUOTA_EXCEEDED", "Quota 'CPUS' exceeded. Limit: 2.0 in region us-central1."}
	}
	return nil
}

func (c *compute) start(w http.ResponseWriter, r *http.Request, m *machine) {
	if !c.new(w, r) {
		return
	}
	if m.GetStatus() == "TERMINATED" {
		m.Status = proto.String("STAGING")
		m.by = c.starting(w, r, "start", func() error { return c.powerOn(m) })
		return
	}
	c.starting(w, r, "start", func() error { return nil })
}

func (c *compute) stop(w http.ResponseWriter, r *http.Request, m *machine) {
	for key := range r.URL.Query() {
		if !slices.Contains([]string{"requestId", "noGracefulShutdown", "discardLocalSsd"}, key) {
			refuse(w, http.StatusBadRequest, "Unknown name %q", key)
			return
		}
	}
	if !c.new(w, r) {
		return
	}
	if m.GetStatus() == "TERMINATED" {
		c.starting(w, r, "stop", func() error { return nil })
		return
	}
	m.Status = proto.String("STOPPING")
	// The power is cut where nobody may take time, else the button is pressed
	// and the operation at its end once the machine is.
	ask := r.FormValue("noGracefulShutdown") != "true"
	m.by = c.starting(w, r, "stop", func() error {
		m.Status = proto.String("TERMINATED")
		return nil
	})
	c.powerOff(m, ask)
	m.by.pending = func() bool { return m.running != nil && m.GetStatus() == "STOPPING" }
}

func (c *compute) removeMachine(w http.ResponseWriter, r *http.Request, m *machine) {
	if !c.new(w, r) {
		return
	}
	m.Status = proto.String("STOPPING")
	m.by = c.starting(w, r, "delete", func() error {
		return c.discard(m)
	})
}

// discard ends a machine, and deletes it with its disk.
func (c *compute) discard(m *machine) error {
	c.powerOff(m, false)
	c.detach(m)
	delete(c.machines, m.GetName())
	return errors.Join(os.RemoveAll(m.disk), os.RemoveAll(m.serial))
}

// serialPort answers with what the first port has said: of more than 1 MiB the
// last, from start on, a negative one from the end. It does so while the machine
// is on, and a little longer while that is stopping; then the call times out, and
// in the end it is refused.
func (c *compute) serialPort(w http.ResponseWriter, r *http.Request, m *machine) {
	const kept = 1 << 20
	start, err := strconv.ParseInt(r.FormValue("start"), 10, 64)
	if err != nil || r.FormValue("port") != "1" {
		refuse(w, http.StatusBadRequest, "port %s from %s", r.FormValue("port"), r.FormValue("start"))
		return
	}
	switch status := m.GetStatus(); {
	case status == "STOPPING" && m.running == nil:
		refuse(w, http.StatusServiceUnavailable, "TIMEOUT")
		return
	case status != "STOPPING" && status != "RUNNING":
		refuse(w, http.StatusBadRequest, "The resource '%s' is not ready", strings.TrimPrefix(r.URL.Path, "/compute/v1/"))
		return
	}
	over := m.running != nil && m.running.isOver() // it says no more
	all, err := os.ReadFile(m.serial)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		refuse(w, http.StatusInternalServerError, "%v", err)
		return
	}
	size := int64(len(all))
	if start < 0 {
		start += size
	}
	start = min(max(start, 0, size-kept), size)
	text := strings.ToValidUTF8(string(all[start:]), "\uFFFD")
	write(w, &computepb.SerialPortOutput{Contents: &text, Start: &start, Next: &size})
	if over {
		select {
		case m.running.heard <- struct{}{}:
		default: // somebody else was first
		}
	}
}
