//go:build linux

package ec2test

import (
	"encoding/xml"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// group is what moto does not know of an Auto Scaling group.
type group struct {
	wanted     string // how many instances it is to have, while it launches none
	activities []activity
}

// activity is what a group has done (Auto Scaling's API reference, Activity).
type activity struct {
	ID          string `xml:"ActivityId"`
	Group       string `xml:"AutoScalingGroupName"`
	Description string
	Cause       string
	StartTime   string
	EndTime     string
	StatusCode  string
	Message     string `xml:"StatusMessage,omitempty"`
	Progress    int
}

// Starve has groups launch no instances from now on, for a reason in EC2's
// words. With none they launch those that they are to have.
func (c *Cloud) Starve(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.starved = reason
	for key, g := range c.groups {
		if reason != "" || g.wanted == "" {
			continue
		}
		region, name, _ := strings.Cut(key, " ")
		c.ask("autoscaling", region, url.Values{
			"Action": {"UpdateAutoScalingGroup"}, "AutoScalingGroupName": {name}, "MinSize": {g.wanted}, "MaxSize": {g.wanted}, "DesiredCapacity": {g.wanted},
		})
		g.wanted = ""
		c.follow(region)
	}
}

// starve is the body of a call, in which a group that launches no instances
// grows to no more than it has.
func (c *Cloud) starve(in request) []byte {
	if c.starved == "" || in.call != "autoscaling:UpdateAutoScalingGroup" {
		return in.body
	}
	form, have := maps.Clone(in.form), 0
	for _, m := range c.machines {
		if m.region == in.region && m.group == form.Get("AutoScalingGroupName") {
			have++
		}
	}
	if wanted, err := strconv.Atoi(form.Get("DesiredCapacity")); err != nil || wanted <= have { // checkGroup has looked
		return in.body
	}
	form.Set("MinSize", "0")
	form.Set("DesiredCapacity", strconv.Itoa(have))
	return []byte(form.Encode())
}

// scaled notes what a call has made of a group.
func (c *Cloud) scaled(in request) {
	name := in.form.Get("AutoScalingGroupName")
	key := in.region + " " + name
	switch in.call {
	case "autoscaling:CreateAutoScalingGroup":
		c.groups[key] = &group{}
	case "autoscaling:DeleteAutoScalingGroup":
		delete(c.groups, key)
	case "autoscaling:UpdateAutoScalingGroup":
		g := c.groups[key]
		g.wanted = ""
		if string(c.starve(in)) != string(in.body) {
			g.wanted = in.form.Get("DesiredCapacity")
			c.note(key, activity{Description: "Launching a new EC2 instance. Status Reason: " + c.starved, StatusCode: "Failed", Message: c.starved})
		}
	}
}

// grew notes that a machine came to a group, or left it.
func (c *Cloud) grew(m *machine, what string) {
	if m.group != "" {
		c.note(m.region+" "+m.group, activity{Description: what, StatusCode: "Successful"})
	}
}

// note notes an activity, of which the newest come first.
func (c *Cloud) note(key string, a activity) {
	g := c.groups[key]
	if g == nil {
		return // it is gone
	}
	_, a.Group, _ = strings.Cut(key, " ")
	a.ID, a.Progress = fmt.Sprintf("%08x-0000-4000-8000-000000000000", len(g.activities)), 100
	a.StartTime = time.Now().UTC().Format(time.RFC3339)
	a.EndTime, a.Cause = a.StartTime, "At "+a.StartTime+" the difference between desired and actual capacity was noticed."
	g.activities = append([]activity{a}, g.activities...)
}

// checkActivities refuses the question for what a group does that is not there.
func (c *Cloud) checkActivities(in request) *refusal {
	if name := in.form.Get("AutoScalingGroupName"); c.groups[in.region+" "+name] == nil {
		return &refusal{http.StatusBadRequest, "ValidationError", "Group name not found - no such group: " + name, true}
	}
	return nil
}

func (c *Cloud) showActivities(in request) []byte {
	var out struct {
		XMLName xml.Name   `xml:"DescribeScalingActivitiesResponse"`
		List    []activity `xml:"DescribeScalingActivitiesResult>Activities>member"`
	}
	out.List = c.groups[in.region+" "+in.form.Get("AutoScalingGroupName")].activities
	text, err := xml.Marshal(out)
	if err != nil {
		panic(err) // it is made of strings and numbers
	}
	return text
}

// showGroups tells of groups that launch no instances how many they are to have.
func (c *Cloud) showGroups(region string, answer []byte) []byte {
	return c.edit(answer, func(n *node) {
		name := n.child("AutoScalingGroupName")
		if name == nil || n.child("DesiredCapacity") == nil {
			return
		}
		if g := c.groups[region+" "+name.Text]; g != nil && g.wanted != "" {
			for _, size := range []string{"MinSize", "MaxSize", "DesiredCapacity"} {
				n.set(size, g.wanted)
			}
		}
	})
}

// validZones are the subnets of VPCZoneIdentifier.
var validZones = regexp.MustCompile(`^subnet-[0-9a-f]+(,subnet-[0-9a-f]+)*$`)

// checkGroup refuses what Auto Scaling does where moto is lenient.
func (c *Cloud) checkGroup(in request) *refusal {
	form := in.form
	least, err1 := strconv.Atoi(form.Get("MinSize"))
	wanted, err2 := strconv.Atoi(form.Get("DesiredCapacity"))
	most, err3 := strconv.Atoi(form.Get("MaxSize"))
	if err1 != nil || err2 != nil || err3 != nil || least < 0 || least > wanted || wanted > most {
		return bad("MinSize %q, DesiredCapacity %q, MaxSize %q", form.Get("MinSize"), form.Get("DesiredCapacity"), form.Get("MaxSize"))
	}
	if in.call == "autoscaling:UpdateAutoScalingGroup" {
		return nil
	}
	switch name := form.Get("AutoScalingGroupName"); {
	case name == "" || len(name) > 255 || strings.ContainsAny(name, ":"):
		return bad("AutoScalingGroupName %q", name)
	case form.Get("LaunchTemplate.LaunchTemplateName") == "" || form.Get("LaunchTemplate.Version") == "":
		return bad("LaunchTemplate %q, %q", form.Get("LaunchTemplate.LaunchTemplateName"), form.Get("LaunchTemplate.Version"))
	case !validZones.MatchString(form.Get("VPCZoneIdentifier")):
		return bad("VPCZoneIdentifier %q", form.Get("VPCZoneIdentifier"))
	case c.spotOf(in.region, form.Get("LaunchTemplate.LaunchTemplateName")) == "persistent":
		return bad("a group of persistent spot requests")
	default:
		return checkGroupTags(form, name)
	}
}

// checkGroupTags wants a group tagged from its first moment on.
func checkGroupTags(form url.Values, name string) *refusal {
	n := 1
	for ; form.Has(fmt.Sprintf("Tags.member.%d.Key", n)); n++ {
		at := fmt.Sprintf("Tags.member.%d.", n)
		if form.Get(at+"ResourceId") != name || form.Get(at+"ResourceType") != "auto-scaling-group" || form.Get(at+"PropagateAtLaunch") == "" {
			return bad("tag %s of %q %q", form.Get(at+"Key"), form.Get(at+"ResourceType"), form.Get(at+"ResourceId"))
		}
		if said := checkTag(form.Get(at+"Key"), form.Get(at+"Value")); said != nil {
			return said
		}
	}
	if n == 1 {
		return bad("no tags on the group")
	}
	return nil
}

// spotOf is the kind of spot requests of a launch template.
func (c *Cloud) spotOf(region, name string) string {
	for _, t := range c.templates {
		if t.region == region && t.name == name {
			return t.data.Get("InstanceMarketOptions.SpotOptions.SpotInstanceType")
		}
	}
	return ""
}
