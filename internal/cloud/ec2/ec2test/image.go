//go:build linux

package ec2test

import (
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// image is one that was registered, or copied from another region.
type image struct {
	region string
	form   url.Values
}

var imageName = regexp.MustCompile(`^[a-zA-Z0-9()\[\] ./'@_-]{3,128}$`)

// oneOf tells whether s is of an enumeration of the SDK's model of EC2.
func oneOf[T ~string](s string, known []T) bool { return slices.Contains(known, T(s)) }

// checkRegister compares RegisterImage's parameters with what EC2 documents.
func (c *Cloud) checkRegister(in request) *refusal {
	form := in.form
	if said := knownParameters(form, ec2.RegisterImageInput{}); said != nil {
		return said
	}
	get := form.Get
	const mapping = "BlockDeviceMapping.1."
	s := c.snapshots[get(mapping+"Ebs.SnapshotId")]
	size, err := strconv.ParseInt(get(mapping+"Ebs.VolumeSize"), 10, 64)
	for id, other := range c.images {
		if other.region == in.region && other.form.Get("Name") == get("Name") {
			return &refusal{http.StatusBadRequest, "InvalidAMIName.Duplicate", "AMI name " + get("Name") + " is already in use by AMI " + id, true}
		}
	}
	switch {
	case !imageName.MatchString(get("Name")):
		return bad("Name %q", get("Name"))
	case len(get("Description")) > 255:
		return bad("Description %q", get("Description"))
	case get("Architecture") != string(types.ArchitectureValuesX8664):
		return bad("Architecture %q of a guest for amd64", get("Architecture"))
	case !oneOf(get("BootMode"), types.BootModeValues("").Values()) || get("BootMode") == string(types.BootModeValuesLegacyBios):
		return bad("BootMode %q of a disk that boots by UEFI", get("BootMode"))
	case get("EnaSupport") != "true" || get("ImdsSupport") != string(types.ImdsSupportValuesV20):
		return bad("EnaSupport %q, ImdsSupport %q", get("EnaSupport"), get("ImdsSupport"))
	case get("VirtualizationType") != string(types.VirtualizationTypeHvm):
		return bad("VirtualizationType %q", get("VirtualizationType"))
	case get("RootDeviceName") == "" || get("RootDeviceName") != get(mapping+"DeviceName"):
		return bad("RootDeviceName %q, and the device is %q", get("RootDeviceName"), get(mapping+"DeviceName"))
	case s == nil || !s.complete:
		return bad("snapshot %q is not complete", get(mapping+"Ebs.SnapshotId"))
	case err != nil || size < s.size:
		return bad("VolumeSize %q for a snapshot of %d GiB", get(mapping+"Ebs.VolumeSize"), s.size)
	case get(mapping+"Ebs.VolumeType") != string(types.VolumeTypeGp3) || get(mapping+"Ebs.DeleteOnTermination") != "true":
		return bad("VolumeType %q, DeleteOnTermination %q", get(mapping+"Ebs.VolumeType"), get(mapping+"Ebs.DeleteOnTermination"))
	}
	return checkTags(form, types.ResourceTypeImage)
}

// renamed are parameters that the SDK has by another name.
var renamed = map[string]string{"GroupDescription": "Description", "Owner": "OwnerIds", "RestorableBy": "RestorableByUserIds", "ResourceId": "Resources"}

// knownParameters refuses what the call does not have.
func knownParameters(form url.Values, input any) *refusal {
	kind := reflect.TypeOf(input)
	for key := range form {
		name, _, _ := strings.Cut(key, ".")
		_, known := kind.FieldByName(name)
		_, list := kind.FieldByName(name + "s") // as lists are written
		if other := renamed[name]; other != "" && !known && !list {
			_, known = kind.FieldByName(other)
		}
		if !known && !list && name != "Action" && name != "Version" {
			return bad("there is no parameter %s", key)
		}
	}
	return nil
}

// checkTags wants all kinds of resources tagged.
func checkTags(form url.Values, kinds ...types.ResourceType) *refusal {
	for i, kind := range kinds {
		at := fmt.Sprintf("TagSpecification.%d.", i+1)
		if form.Get(at+"ResourceType") != string(kind) {
			return bad("TagSpecification for %q and not %q", form.Get(at+"ResourceType"), kind)
		}
		n := 1
		for ; form.Has(fmt.Sprintf("%sTag.%d.Key", at, n)); n++ {
			if said := checkTag(form.Get(fmt.Sprintf("%sTag.%d.Key", at, n)), form.Get(fmt.Sprintf("%sTag.%d.Value", at, n))); said != nil {
				return said
			}
		}
		if n == 1 {
			return bad("no tags on the %s", kind)
		}
	}
	return nil
}

// registered notes an image, has moto tag it, and looks which snapshot moto
// believes that it is of.
func (c *Cloud) registered(in request, answer []byte) {
	form := in.form
	var out struct {
		ImageID string `xml:"imageId"`
	}
	if err := xml.Unmarshal(answer, &out); err != nil || out.ImageID == "" {
		c.t.Errorf("moto's %s: %v\n%s", form.Get("Action"), err, answer)
		return
	}
	c.images[out.ImageID] = image{in.region, form}
	tags := url.Values{"Action": {"CreateTags"}, "ResourceId.1": {out.ImageID}}
	for key, values := range form {
		if rest, ok := strings.CutPrefix(key, "TagSpecification.1.Tag."); ok {
			tags["Tag."+rest] = values
		}
	}
	c.ask("ec2", in.region, tags)
	shown := c.ask("ec2", in.region, url.Values{"Action": {"DescribeImages"}, "ImageId.1": {out.ImageID}})
	if m := snapshotID.FindSubmatch(shown); m != nil && form.Has("BlockDeviceMapping.1.Ebs.SnapshotId") {
		c.believed[string(m[1])] = form.Get("BlockDeviceMapping.1.Ebs.SnapshotId")
	}
}

// checkImages refuses to delete a snapshot that an image is of.
func (c *Cloud) checkImages(snapshot string) *refusal {
	for id, i := range c.images {
		if i.form.Get("BlockDeviceMapping.1.Ebs.SnapshotId") == snapshot {
			return &refusal{http.StatusBadRequest, "InvalidSnapshot.InUse", "The snapshot " + snapshot + " is currently in use by " + id, true}
		}
	}
	return nil
}

// ask has moto carry a call out that nobody made.
func (c *Cloud) ask(service, region string, form url.Values) []byte {
	form.Set("Version", map[string]string{"ec2": "2016-11-15", "autoscaling": "2011-01-01"}[service])
	r := &http.Request{Method: http.MethodPost, URL: &url.URL{Path: "/"}, Header: http.Header{}}
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=test/20260101/"+region+"/"+service+"/aws4_request, SignedHeaders=host, Signature=0")
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer, err := c.forward(r, []byte(form.Encode()))
	if err != nil {
		c.t.Errorf("%s: %v", form.Get("Action"), err)
		return nil
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		c.t.Errorf("%s: %s, %v\n%s", form.Get("Action"), answer.Status, err, text)
	}
	return text
}

// showImages tells of which snapshots images were registered.
func (c *Cloud) showImages(answer []byte) []byte {
	return snapshotID.ReplaceAllFunc(answer, func(found []byte) []byte {
		if real := c.believed[string(snapshotID.FindSubmatch(found)[1])]; real != "" {
			return []byte("<snapshotId>" + real + "</snapshotId>")
		}
		return found
	})
}
