//go:build linux

package ec2test

import (
	"encoding/base64"
	"encoding/xml"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// Profile is the account's one instance profile.
const Profile = "app"

// template is a launch template.
type template struct {
	region, name string
	data         url.Values
}

var (
	templateName  = regexp.MustCompile(`^[a-zA-Z0-9().\-/_]{3,128}$`)
	templateID    = regexp.MustCompile(`<launchTemplateId>(lt-[0-9a-f]+)</launchTemplateId>`)
	groupTexts    = regexp.MustCompile(`^[a-zA-Z0-9. _\-:/()#,@\[\]+=&;{}!$*]{1,255}$`)
	instanceID    = regexp.MustCompile(`<instanceId>(i-[0-9a-f]+)</instanceId>`)
	validInstance = regexp.MustCompile(`^i-[0-9a-f]{17}$`)
)

// checkTemplate compares a launch template with what EC2 documents, and what
// it makes with what the account has.
func (c *Cloud) checkTemplate(in request) *refusal {
	data := part(in.form, "LaunchTemplateData")
	if said := knownParameters(data, types.RequestLaunchTemplateData{}); said != nil {
		return said
	}
	const most = 16 << 10 // of user data
	userData, err := base64.StdEncoding.DecodeString(data.Get("UserData"))
	behavior, tokens := data.Get("InstanceInitiatedShutdownBehavior"), data.Get("MetadataOptions.HttpTokens")
	switch {
	case !templateName.MatchString(in.form.Get("LaunchTemplateName")):
		return bad("LaunchTemplateName %q", in.form.Get("LaunchTemplateName"))
	case len(in.form.Get("ClientToken")) > 128:
		return bad("ClientToken %q", in.form.Get("ClientToken"))
	case c.images[data.Get("ImageId")].region != in.region:
		return bad("ImageId %q, which is not in %s", data.Get("ImageId"), in.region)
	case !oneOf(data.Get("InstanceType"), types.InstanceType("").Values()):
		return bad("InstanceType %q", data.Get("InstanceType"))
	case err != nil || len(userData) > most:
		return bad("%d bytes of UserData: %v", len(userData), err)
	case behavior != "" && !oneOf(behavior, types.ShutdownBehavior("").Values()):
		return bad("InstanceInitiatedShutdownBehavior %q", behavior)
	case data.Get("MetadataOptions.HttpEndpoint") != "enabled" || tokens != "required":
		return bad("MetadataOptions %q", part(data, "MetadataOptions"))
	case data.Has("IamInstanceProfile.Name") && data.Has("IamInstanceProfile.Arn"):
		return bad("IamInstanceProfile has both a name and an ARN")
	case len(members(data, "SecurityGroupId", "")) == 0:
		return bad("no SecurityGroupId")
	}
	kinds := []types.ResourceType{types.ResourceTypeInstance, types.ResourceTypeVolume, types.ResourceTypeNetworkInterface}
	if data.Has("InstanceMarketOptions.MarketType") {
		kinds = append(kinds, types.ResourceTypeSpotInstancesRequest)
		if said := checkMarket(part(data, "InstanceMarketOptions")); said != nil {
			return said
		}
	}
	if said := checkTags(data, kinds...); said != nil {
		return said
	}
	return checkTags(in.form, types.ResourceTypeLaunchTemplate)
}

// checkMarket looks at how a spot instance is asked for.
func checkMarket(market url.Values) *refusal {
	kind, interrupted := market.Get("SpotOptions.SpotInstanceType"), market.Get("SpotOptions.InstanceInterruptionBehavior")
	switch {
	case market.Get("MarketType") != "spot":
		return bad("MarketType %q", market.Get("MarketType"))
	case kind == "persistent" && interrupted != "stop" && interrupted != "hibernate" && interrupted != "terminate",
		(kind == "one-time" || kind == "") && interrupted != "" && interrupted != "terminate":
		return bad("SpotInstanceType %q and InstanceInterruptionBehavior %q", kind, interrupted)
	case kind != "" && !oneOf(kind, types.SpotInstanceType("").Values()):
		return bad("SpotInstanceType %q", kind)
	}
	return nil
}

func (c *Cloud) keepTemplate(in request, answer []byte) {
	m := templateID.FindSubmatch(answer)
	if m == nil {
		c.t.Errorf("moto's CreateLaunchTemplate: %s", answer)
		return
	}
	c.templates[string(m[1])] = &template{in.region, in.form.Get("LaunchTemplateName"), part(in.form, "LaunchTemplateData")}
}

var noTemplate = &refusal{http.StatusBadRequest, "InvalidLaunchTemplateName.NotFoundException", "The specified launch template does not exist.", true}

// templateOf is the template that is named, by its name or its ID.
func (c *Cloud) templateOf(region string, form url.Values) (id string, t *template) {
	for id, t := range c.templates {
		if t.region == region && (id == form.Get("LaunchTemplateId") || t.name == form.Get("LaunchTemplateName")) {
			return id, t
		}
	}
	return "", nil
}

// rule is what a security group lets in.
type rule struct {
	protocol string
	from, to int
	sources  []netip.Prefix
}

func checkSecurityGroup(form url.Values) *refusal {
	if !groupTexts.MatchString(form.Get("GroupName")) || !groupTexts.MatchString(form.Get("GroupDescription")) || form.Get("VpcId") == "" {
		return bad("GroupName %q, GroupDescription %q, VpcId %q", form.Get("GroupName"), form.Get("GroupDescription"), form.Get("VpcId"))
	}
	return checkTags(form, types.ResourceTypeSecurityGroup)
}

func checkRules(form url.Values) *refusal {
	rules := rulesOf(form)
	for _, r := range rules {
		if r.protocol != "tcp" && r.protocol != "udp" || r.from < 0 || r.to < r.from || r.to > 65535 || len(r.sources) == 0 {
			return bad("a rule is %+v", r)
		}
		for _, s := range r.sources {
			if !s.IsValid() {
				return bad("a rule has no valid range: %+v", r)
			}
		}
	}
	if len(rules) == 0 || form.Get("GroupId") == "" {
		return bad("%d rules for the group %q", len(rules), form.Get("GroupId"))
	}
	return nil
}

// rulesOf are those of AuthorizeSecurityGroupIngress. What is no number is -1,
// and what is no range the zero Prefix.
func rulesOf(form url.Values) (rules []rule) {
	for n := range members(form, "IpPermissions", ".IpProtocol") {
		p := part(form, "IpPermissions."+strconv.Itoa(n+1))
		r := rule{p.Get("IpProtocol"), number(p.Get("FromPort")), number(p.Get("ToPort")), nil}
		for _, s := range append(members(p, "IpRanges", ".CidrIp"), members(p, "Ipv6Ranges", ".CidrIpv6")...) {
			prefix, _ := netip.ParsePrefix(s)
			r.sources = append(r.sources, prefix)
		}
		rules = append(rules, r)
	}
	return rules
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return -1
	}
	return n
}

// checkUse refuses to delete a security group that an instance uses.
func (c *Cloud) checkUse(group string) *refusal {
	for id, m := range c.machines {
		if slices.Contains(m.groups, group) {
			return &refusal{http.StatusBadRequest, "DependencyViolation", "resource " + group + " has a dependent object: " + id, true}
		}
	}
	return nil
}

// checkRun looks at what instances are to be made of.
func (c *Cloud) checkRun(in request) *refusal {
	get := in.form.Get
	least, most := number(get("MinCount")), number(get("MaxCount"))
	_, of := c.templateOf(in.region, part(in.form, "LaunchTemplate"))
	switch {
	case least != 1 || most != 1: // moto makes the least
		return bad("MinCount %q, MaxCount %q", get("MinCount"), get("MaxCount"))
	case get("ClientToken") == "" || len(get("ClientToken")) > 64:
		return bad("ClientToken %q", get("ClientToken"))
	case in.form.Has("LaunchTemplate.LaunchTemplateId") == in.form.Has("LaunchTemplate.LaunchTemplateName") || get("LaunchTemplate.Version") != "1":
		return bad("LaunchTemplate %q", part(in.form, "LaunchTemplate"))
	case of == nil:
		return noTemplate
	case of.data.Has("IamInstanceProfile.Name") && of.data.Get("IamInstanceProfile.Name") != Profile:
		return &refusal{http.StatusBadRequest, "InvalidParameterValue", "Value (" + of.data.Get("IamInstanceProfile.Name") + ") for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name", true}
	}
	return nil
}

// checkInstances looks at which instances are meant, and whether they are in a
// state for it.
func (c *Cloud) checkInstances(in request) *refusal {
	ids := append(members(in.form, "InstanceId", ""), in.form["InstanceId"]...)
	if len(ids) == 0 {
		return bad("no InstanceId")
	}
	for _, id := range ids {
		m := c.machines[id]
		switch {
		case !validInstance.MatchString(id):
			return bad("InstanceId %q", id)
		case m == nil:
			return nil // moto knows whether there was one
		case in.call == "ec2:StartInstances" && m.state == types.InstanceStateNameStopping,
			in.call == "ec2:StopInstances" && m.state == types.InstanceStateNamePending:
			return &refusal{http.StatusBadRequest, "IncorrectInstanceState", "The instance '" + id + "' is not in a state from which it can be changed: it is " + string(m.state), true}
		case in.call == "ec2:TerminateInstances" && c.requestOf(id) != "":
			return bad("%s has a spot request, which would be filled anew", id)
		}
	}
	return nil
}

// spot is a request for a spot instance.
type spot struct {
	instance string
	region   string
	tags     map[string]string
	created  time.Time
	canceled bool
}

// requestOf is the spot request of an instance that is open, or "".
func (c *Cloud) requestOf(instance string) string {
	for id, s := range c.spots {
		if s.instance == instance && !s.canceled {
			return id
		}
	}
	return ""
}

type spotRequest struct {
	ID       string     `xml:"spotInstanceRequestId"`
	State    string     `xml:"state"`
	Kind     string     `xml:"type,omitempty"`
	Instance string     `xml:"instanceId,omitempty"`
	Created  time.Time  `xml:"createTime"`
	Tags     []spotsTag `xml:"tagSet>item,omitempty"`
}

type spotsTag struct {
	Key   string `xml:"key"`
	Value string `xml:"value"`
}

// showSpots lists requests by their tags.
func (c *Cloud) showSpots(in request) []byte {
	var list []spotRequest
	for id, s := range c.spots {
		if s.region != in.region || !matches(in.form, s.tags) {
			continue
		}
		one := spotRequest{ID: id, State: "active", Kind: "persistent", Instance: s.instance, Created: s.created}
		if s.canceled {
			one.State = "cancelled"
		}
		for key, value := range s.tags {
			one.Tags = append(one.Tags, spotsTag{key, value})
		}
		list = append(list, one)
	}
	return spotAnswer("DescribeSpotInstanceRequestsResponse", list)
}

// matches tells whether tags are what the filters of a call ask for.
func matches(form url.Values, tags map[string]string) bool {
	for n, name := range members(form, "Filter", ".Name") {
		wanted := members(form, "Filter."+strconv.Itoa(n+1)+".Value", "")
		key, ok := strings.CutPrefix(name, "tag:")
		if name == "tag-key" {
			ok = slices.ContainsFunc(wanted, func(key string) bool { return tags[key] != "" })
		} else {
			ok = ok && slices.Contains(wanted, tags[key])
		}
		if !ok {
			return false
		}
	}
	return true
}

func (c *Cloud) cancelSpots(form url.Values) []byte {
	var list []spotRequest
	for _, id := range members(form, "SpotInstanceRequestId", "") {
		if s := c.spots[id]; s != nil {
			s.canceled = true
			list = append(list, spotRequest{ID: id, State: "cancelled"})
		}
	}
	return spotAnswer("CancelSpotInstanceRequestsResponse", list)
}

func spotAnswer(name string, list []spotRequest) []byte {
	text, err := xml.Marshal(struct {
		XMLName xml.Name
		List    []spotRequest `xml:"spotInstanceRequestSet>item"`
	}{xml.Name{Local: name}, list})
	if err != nil {
		panic(err) // it is made of strings
	}
	return text
}
