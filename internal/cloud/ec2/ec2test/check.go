//go:build linux

package ec2test

import (
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
)

// inputs are the parameters of calls. One that is not here takes what it gets.
var inputs = map[string]any{
	"ec2:RegisterImage":                     ec2.RegisterImageInput{},
	"ec2:CreateLaunchTemplate":              ec2.CreateLaunchTemplateInput{},
	"ec2:DeleteLaunchTemplate":              ec2.DeleteLaunchTemplateInput{},
	"ec2:DescribeLaunchTemplates":           ec2.DescribeLaunchTemplatesInput{},
	"ec2:CreateSecurityGroup":               ec2.CreateSecurityGroupInput{},
	"ec2:DeleteSecurityGroup":               ec2.DeleteSecurityGroupInput{},
	"ec2:DescribeSecurityGroups":            ec2.DescribeSecurityGroupsInput{},
	"ec2:AuthorizeSecurityGroupIngress":     ec2.AuthorizeSecurityGroupIngressInput{},
	"ec2:RunInstances":                      ec2.RunInstancesInput{},
	"ec2:StartInstances":                    ec2.StartInstancesInput{},
	"ec2:StopInstances":                     ec2.StopInstancesInput{},
	"ec2:TerminateInstances":                ec2.TerminateInstancesInput{},
	"ec2:DescribeInstances":                 ec2.DescribeInstancesInput{},
	"ec2:DescribeInstanceTypes":             ec2.DescribeInstanceTypesInput{},
	"ec2:DescribeImages":                    ec2.DescribeImagesInput{},
	"ec2:DescribeSnapshots":                 ec2.DescribeSnapshotsInput{},
	"ec2:DescribeSubnets":                   ec2.DescribeSubnetsInput{},
	"ec2:DescribeVpcs":                      ec2.DescribeVpcsInput{},
	"ec2:DescribeVolumes":                   ec2.DescribeVolumesInput{},
	"ec2:CreateVolume":                      ec2.CreateVolumeInput{},
	"ec2:AttachVolume":                      ec2.AttachVolumeInput{},
	"ec2:DeleteVolume":                      ec2.DeleteVolumeInput{},
	"ec2:DeleteTags":                        ec2.DeleteTagsInput{},
	"ec2:DescribeInstanceTypeOfferings":     ec2.DescribeInstanceTypeOfferingsInput{},
	"ec2:DescribeSpotInstanceRequests":      ec2.DescribeSpotInstanceRequestsInput{},
	"ec2:CancelSpotInstanceRequests":        ec2.CancelSpotInstanceRequestsInput{},
	"ec2:GetConsoleOutput":                  ec2.GetConsoleOutputInput{},
	"autoscaling:CreateAutoScalingGroup":    autoscaling.CreateAutoScalingGroupInput{},
	"autoscaling:UpdateAutoScalingGroup":    autoscaling.UpdateAutoScalingGroupInput{},
	"autoscaling:DeleteAutoScalingGroup":    autoscaling.DeleteAutoScalingGroupInput{},
	"autoscaling:DescribeAutoScalingGroups": autoscaling.DescribeAutoScalingGroupsInput{},
	"autoscaling:DescribeScalingActivities": autoscaling.DescribeScalingActivitiesInput{},
}

// before refuses what AWS does.
func (c *Cloud) before(r *http.Request, in request) *refusal {
	if input := inputs[in.call]; input != nil {
		if said := knownParameters(in.form, input); said != nil {
			return said
		}
	}
	switch in.call {
	case "ebs:StartSnapshot":
		return checkStart(in.body)
	case "ebs:PutSnapshotBlock":
		return c.checkPut(r, in.body)
	case "ebs:CompleteSnapshot":
		return c.checkComplete(r)
	case "ec2:RegisterImage":
		return c.checkRegister(in)
	case "ec2:DeleteSnapshot":
		return c.checkImages(in.form.Get("SnapshotId"))
	case "ec2:CreateLaunchTemplate":
		return c.checkTemplate(in)
	case "ec2:DeleteLaunchTemplate":
		if id, _ := c.templateOf(in.region, in.form); id == "" {
			return noTemplate
		}
	case "ec2:CreateSecurityGroup":
		return checkSecurityGroup(in.form)
	case "ec2:AuthorizeSecurityGroupIngress":
		return checkRules(in.form)
	case "ec2:DeleteSecurityGroup":
		return c.checkUse(in.form.Get("GroupId"))
	case "ec2:CreateVolume":
		return c.checkVolume(in)
	case "ec2:AttachVolume":
		return c.checkAttach(in)
	case "ec2:DeleteVolume":
		return c.checkDelete(in)
	case "ec2:RunInstances":
		return c.checkRun(in)
	case "ec2:StartInstances", "ec2:StopInstances", "ec2:TerminateInstances", "ec2:GetConsoleOutput":
		return c.checkInstances(in)
	case "autoscaling:CreateAutoScalingGroup", "autoscaling:UpdateAutoScalingGroup":
		return c.checkGroup(in)
	case "autoscaling:DescribeScalingActivities":
		return c.checkActivities(in)
	}
	return nil
}

// own answers what moto is not asked for; nil: it is.
func (c *Cloud) own(in request) []byte {
	switch in.call {
	case "ec2:StopInstances":
		return c.stop(in.form)
	case "ec2:DeleteVolume":
		return c.deleteVolume(in.form.Get("VolumeId"))
	case "ec2:GetConsoleOutput":
		return c.consoleOutput(in.form.Get("InstanceId"))
	case "autoscaling:DescribeScalingActivities":
		return c.showActivities(in)
	case "ec2:DescribeSpotInstanceRequests":
		return c.showSpots(in)
	case "ec2:CancelSpotInstanceRequests":
		return c.cancelSpots(in.form)
	}
	return nil
}

// after notes a call that succeeded, and makes good what moto does not tell.
func (c *Cloud) after(r *http.Request, in request, answer []byte) []byte {
	switch in.call {
	case "ebs:StartSnapshot":
		return c.started(in.body, answer)
	case "ebs:PutSnapshotBlock":
		c.put(r, in.body)
	case "ebs:CompleteSnapshot":
		c.snapshots[path.Base(r.URL.Path)].complete = true
	case "ec2:DeleteSnapshot":
		delete(c.snapshots, in.form.Get("SnapshotId"))
	case "ec2:DescribeSnapshots":
		return c.showPending(answer)
	case "ec2:RegisterImage", "ec2:CopyImage":
		c.registered(in, answer)
	case "ec2:DeregisterImage":
		delete(c.images, in.form.Get("ImageId"))
	case "ec2:DescribeImages":
		return c.showImages(answer)
	case "ec2:CreateLaunchTemplate":
		c.keepTemplate(in, answer)
	case "ec2:DeleteLaunchTemplate":
		id, _ := c.templateOf(in.region, in.form)
		delete(c.templates, id)
	case "ec2:AuthorizeSecurityGroupIngress":
		id := in.form.Get("GroupId")
		c.open[id] = append(c.open[id], rulesOf(in.form)...)
	case "ec2:RunInstances", "ec2:TerminateInstances", "autoscaling:CreateAutoScalingGroup", "autoscaling:UpdateAutoScalingGroup", "autoscaling:DeleteAutoScalingGroup":
		c.scaled(in)
		c.follow(in.region)
		return c.showInstances(answer, false)
	case "autoscaling:DescribeAutoScalingGroups":
		return c.showGroups(in.region, answer)
	case "ec2:CreateVolume":
		c.keepVolume(in, answer)
	case "ec2:AttachVolume":
		c.attachVolume(in)
	case "ec2:DescribeVolumes":
		return c.showVolumes(in, answer)
	case "ec2:StartInstances":
		c.start(in.form)
	case "ec2:DescribeInstances":
		return c.showInstances(answer, true)
	}
	return answer
}

// answered is an answer to a call that has a token, which makes others with it
// the same call.
type answered struct {
	request
	status int
	header http.Header
	text   []byte
}

// token is what a call's token is kept by; "" where it has none.
func token(in request) string {
	t := in.form.Get("ClientToken")
	if in.call == "ebs:StartSnapshot" {
		t = startOf(in.body).ClientToken
	}
	if t == "" {
		return ""
	}
	return in.region + " " + in.call + " " + t
}

// checkRepeated refuses a call that has another's token, or that of an
// instance which has ended.
func (c *Cloud) checkRepeated(in request, old answered) *refusal {
	if string(in.body) != string(old.body) && in.form.Encode() != old.form.Encode() {
		return &refusal{http.StatusBadRequest, "IdempotentParameterMismatch", "The client token was used for another request", false}
	}
	if m := instanceID.FindSubmatch(old.text); in.call == "ec2:RunInstances" && m != nil && c.machines[string(m[1])] == nil {
		return &refusal{http.StatusBadRequest, "IdempotentInstanceTerminated", "The instance " + string(m[1]) + " has been terminated", true}
	}
	return nil
}

// members are the values of a list in a form: NAME.1, NAME.2 and so on, with
// what follows the number.
func members(form url.Values, name, rest string) (list []string) {
	for n := 1; form.Has(fmt.Sprintf("%s.%d%s", name, n, rest)); n++ {
		list = append(list, form.Get(fmt.Sprintf("%s.%d%s", name, n, rest)))
	}
	return list
}

// part is what lies in a form below a name.
func part(form url.Values, name string) url.Values {
	below := url.Values{}
	for key, values := range form {
		if rest, ok := strings.CutPrefix(key, name+"."); ok {
			below[rest] = values
		}
	}
	return below
}
