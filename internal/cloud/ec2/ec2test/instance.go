//go:build linux

package ec2test

import (
	"encoding/xml"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// follow has machines for the instances that moto has in a region, which
// RunInstances makes, and Auto Scaling.
func (c *Cloud) follow(region string) {
	for _, i := range c.instances(region) {
		m := c.machines[i.ID]
		switch {
		case i.State == "terminated" || i.State == "shutting-down":
			if m != nil {
				c.grew(m, "Terminating EC2 instance: "+m.id)
				c.discard(m)
			}
		case m == nil:
			m, err := c.place(region, i)
			if err == nil {
				c.machines[i.ID] = m
				c.grew(m, "Launching a new EC2 instance: "+m.id)
				err = c.boot(m)
			}
			if err != nil {
				c.t.Errorf("booting %s: %v", i.ID, err)
			}
		}
	}
}

// instance is one as moto tells of it.
type instance struct {
	ID       string   `xml:"instanceId"`
	Type     string   `xml:"instanceType"`
	State    string   `xml:"instanceState>name"`
	Hostname string   `xml:"privateDnsName"`
	Volumes  []string `xml:"blockDeviceMapping>item>ebs>volumeId"`
	Tags     []struct {
		Key   string `xml:"key"`
		Value string `xml:"value"`
	} `xml:"tagSet>item"`
}

func (i *instance) tag(key string) string {
	for _, t := range i.Tags {
		if t.Key == key {
			return t.Value
		}
	}
	return ""
}

func (c *Cloud) instances(region string) []instance {
	var out struct {
		List []instance `xml:"reservationSet>item>instancesSet>item"`
	}
	text := c.ask("ec2", region, url.Values{"Action": {"DescribeInstances"}, "MaxResults": {"1000"}})
	if err := xml.Unmarshal(text, &out); err != nil {
		c.t.Errorf("moto's DescribeInstances: %v", err)
	}
	return out.List
}

// place makes an instance's machine of its launch template.
func (c *Cloud) place(region string, i instance) (*machine, error) {
	t := c.templates[i.tag("aws:ec2launchtemplate:id")]
	if t == nil {
		return nil, fmt.Errorf("its launch template %q is not known", i.tag("aws:ec2launchtemplate:id"))
	}
	m := &machine{
		id: i.ID, region: region, zone: c.zoneOf(region, i.ID), groups: members(t.data, "SecurityGroupId", ""), kind: i.Type, hostname: i.Hostname,
		group: i.tag("aws:autoscaling:groupName"), once: t.data.Get("InstanceInitiatedShutdownBehavior") == "terminate",
	}
	if err := m.takeData(t.data.Get("UserData")); err != nil {
		return nil, err
	}
	for _, v := range i.Volumes { // which moto forgets
		tags := url.Values{"Action": {"CreateTags"}, "ResourceId.1": {v}}
		n := 0
		for key, value := range tagsOf(t.data, types.ResourceTypeVolume) {
			n++
			tags.Set(fmt.Sprintf("Tag.%d.Key", n), key)
			tags.Set(fmt.Sprintf("Tag.%d.Value", n), value)
		}
		c.ask("ec2", region, tags)
	}
	if t.data.Has("InstanceMarketOptions.MarketType") {
		c.requestSpot(m, t.data)
	}
	return m, c.make(m, t.data.Get("ImageId"))
}

// requestSpot notes the request that an instance is of.
func (c *Cloud) requestSpot(m *machine, data url.Values) {
	s := &spot{instance: m.id, region: m.region, tags: tagsOf(data, types.ResourceTypeSpotInstancesRequest), created: time.Now()}
	s.canceled = data.Get("InstanceMarketOptions.SpotOptions.SpotInstanceType") != "persistent" // it is closed
	c.spots["sir-"+strings.TrimPrefix(m.id, "i-")[:8]] = s
}

// tagsOf are the tags that a launch template gives to what is made of it.
func tagsOf(data url.Values, kind types.ResourceType) map[string]string {
	tags := map[string]string{}
	for n, k := range members(data, "TagSpecification", ".ResourceType") {
		if k != string(kind) {
			continue
		}
		at := fmt.Sprintf("TagSpecification.%d.Tag", n+1)
		for m, key := range members(data, at, ".Key") {
			tags[key] = data.Get(fmt.Sprintf("%s.%d.Value", at, m+1))
		}
	}
	return tags
}

// start switches instances on that are off.
func (c *Cloud) start(form url.Values) {
	for _, id := range members(form, "InstanceId", "") {
		if m := c.machines[id]; m != nil && m.state == types.InstanceStateNameStopped {
			if err := c.boot(m); err != nil {
				c.t.Errorf("starting %s: %v", id, err)
			}
		}
	}
}

// stop presses instances' power buttons, or cuts their power.
func (c *Cloud) stop(form url.Values) []byte {
	type state struct {
		Code int                     `xml:"code"`
		Name types.InstanceStateName `xml:"name"`
	}
	type change struct {
		ID     string `xml:"instanceId"`
		Now    state  `xml:"currentState"`
		Before state  `xml:"previousState"`
	}
	var out struct {
		XMLName xml.Name `xml:"StopInstancesResponse"`
		List    []change `xml:"instancesSet>item"`
	}
	for _, id := range members(form, "InstanceId", "") {
		m := c.machines[id]
		if m == nil {
			return nil // moto knows what to say
		}
		before := m.state
		c.halt(m, form.Get("Force") == "true")
		out.List = append(out.List, change{id, state{codes[m.state], m.state}, state{codes[before], before}})
	}
	text, err := xml.Marshal(out)
	if err != nil {
		panic(err) // it is made of strings and numbers
	}
	return text
}

// codes are those of instances' states.
var codes = map[types.InstanceStateName]int{
	types.InstanceStateNamePending: 0, types.InstanceStateNameRunning: 16, types.InstanceStateNameStopping: 64, types.InstanceStateNameStopped: 80,
}

// node is an element of an answer.
type node struct {
	XMLName xml.Name
	Text    string  `xml:",chardata"`
	Nodes   []*node `xml:",any"`
}

func (n *node) child(name string) *node {
	for _, one := range n.Nodes {
		if one.XMLName.Local == name {
			return one
		}
	}
	return nil
}

// set gives a child a text, or takes it away.
func (n *node) set(name, text string) {
	one := n.child(name)
	switch {
	case text == "":
		n.Nodes = slices.DeleteFunc(n.Nodes, func(other *node) bool { return other == one })
	case one == nil:
		n.Nodes = append(n.Nodes, &node{XMLName: xml.Name{Local: name}, Text: text})
	default:
		one.Text = text
	}
}

// showInstances tells of instances as their machines are: one that is being
// started is pending until it was seen.
func (c *Cloud) showInstances(answer []byte, seen bool) []byte {
	return c.edit(answer, func(n *node) { c.show(n, seen) })
}

// edit changes each element of an answer.
func (c *Cloud) edit(answer []byte, change func(*node)) []byte {
	var all node
	if err := xml.Unmarshal(answer, &all); err != nil {
		c.t.Errorf("moto's answer: %v", err)
		return answer
	}
	all.each(change)
	text, err := xml.Marshal(&all)
	if err != nil {
		c.t.Errorf("moto's answer: %v", err)
		return answer
	}
	return text
}

// each changes an element and those in it.
func (n *node) each(change func(*node)) {
	n.XMLName.Space = ""
	for _, one := range n.Nodes {
		one.each(change)
	}
	change(n)
}

func (c *Cloud) show(n *node, seen bool) {
	id, state := n.child("instanceId"), n.child("instanceState")
	if id == nil || state == nil {
		return
	}
	m := c.machines[id.Text]
	if m == nil {
		n.set("ipAddress", "") // it has ended
		return
	}
	state.set("name", string(m.state))
	state.set("code", fmt.Sprint(codes[m.state]))
	n.set("launchTime", m.started.UTC().Format(time.RFC3339))
	n.set("ipAddress", m.address)
	n.set("spotInstanceRequestId", c.requestOf(m.id))
	if seen && m.state == types.InstanceStateNamePending {
		m.state = types.InstanceStateNameRunning
	}
}

// Instances lists what there is of instances in a region, through the API:
// those that have not ended, launch templates, groups, spot requests and
// volumes.
func (c *Cloud) Instances(t testing.TB, region string) []string {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	var left []string
	for _, i := range c.instances(region) {
		if i.State != "terminated" {
			left = append(left, i.ID+" "+i.State)
		}
	}
	for id, s := range c.spots {
		if s.region == region && !s.canceled {
			left = append(left, id)
		}
	}
	for action, name := range map[string]string{
		"ec2:DescribeLaunchTemplates": "launchTemplateName", "ec2:DescribeSecurityGroups": "groupName",
		"autoscaling:DescribeAutoScalingGroups": "AutoScalingGroupName",
	} {
		service, action, _ := strings.Cut(action, ":")
		var all node
		if err := xml.Unmarshal(c.ask(service, region, url.Values{"Action": {action}}), &all); err != nil {
			t.Errorf("moto's %s: %v", action, err)
		}
		for _, found := range all.all(name) {
			if found != "default" && !slices.Contains(left, found) {
				left = append(left, found)
			}
		}
	}
	return append(left, c.volumes(t, region)...)
}

// volumes are those of a region, but for moto's own, which it makes images of.
func (c *Cloud) volumes(t testing.TB, region string) (left []string) {
	var out struct {
		List []struct {
			ID       string   `xml:"volumeId"`
			Attached []string `xml:"attachmentSet>item>instanceId"`
			Tags     []string `xml:"tagSet>item>key"`
		} `xml:"volumeSet>item"`
	}
	if err := xml.Unmarshal(c.ask("ec2", region, url.Values{"Action": {"DescribeVolumes"}}), &out); err != nil {
		t.Errorf("moto's DescribeVolumes: %v", err)
	}
	for _, v := range out.List {
		if d := c.disks[v.ID]; d != nil && d.state == types.VolumeStateDeleting {
			continue
		}
		if len(v.Attached)+len(v.Tags) > 0 {
			left = append(left, v.ID)
		}
	}
	return left
}

// all are the texts of the elements of a name.
func (n *node) all(name string) (list []string) {
	if n.XMLName.Local == name {
		list = append(list, n.Text)
	}
	for _, one := range n.Nodes {
		list = append(list, one.all(name)...)
	}
	return list
}

// end ends all machines.
func (c *Cloud) end() {
	c.mu.Lock()
	c.ending = true
	for _, m := range c.machines {
		m.kill()
	}
	c.mu.Unlock()
	c.wait.Wait()
}

// discard ends a machine, and deletes its disk.
func (c *Cloud) discard(m *machine) {
	m.kill()
	c.detach(m)
	delete(c.machines, m.id)
	for id, s := range maps.Clone(c.spots) {
		if s.instance == m.id {
			delete(c.spots, id)
		}
	}
	if err := os.RemoveAll(m.disk); err != nil {
		c.t.Error(err)
	}
}
