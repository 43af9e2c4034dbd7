//go:build linux

package ec2test

import (
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

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
