package ec2

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"capstan/internal/hypervisor"
)

// families are those of current instance types that are chosen of, all of the
// Nitro system: for little load, and with little, middling and much memory for
// a CPU. The newer come first.
var families = map[string][]string{
	"amd64": {"t3", "c7i", "m7i", "r7i", "c6i", "m6i", "r6i"},
	"arm64": {"t4g", "c7g", "m7g", "r7g", "c6g", "m6g", "r6g"},
}

// kind is an instance type.
type kind struct {
	name   string
	cpus   int
	memory int64 // MiB
}

func (k kind) family() string {
	family, _, _ := strings.Cut(k.name, ".")
	return family
}

// cost is about what a type costs in relation to others: by its memory alone
// where CPUs are shared, else by both (the on-demand prices of 2026).
func (k kind) cost() int64 {
	const burst, cpu, memory = 104, 388, 29 // GiB, CPU, GiB
	if strings.HasPrefix(k.name, "t") {
		return burst * k.memory
	}
	return cpu<<10*int64(k.cpus) + memory*k.memory
}

// cheapest is the type of a list that has what is asked for at the least cost.
func cheapest(list []kind, cpus int, memory int64, arch string) (kind, bool) {
	list = slices.DeleteFunc(slices.Clone(list), func(k kind) bool {
		return k.cpus < cpus || k.memory<<20 < memory || !slices.Contains(families[arch], k.family())
	})
	if len(list) == 0 {
		return kind{}, false
	}
	return slices.MinFunc(list, func(a, b kind) int {
		newer := func(k kind) int { return slices.Index(families[arch], k.family()) }
		return cmp.Or(cmp.Compare(a.cost(), b.cost()), cmp.Compare(newer(a), newer(b)), cmp.Compare(a.name, b.name))
	}), true
}

// instanceType is the one that is forced, if it can boot the guest, or the
// cheapest that the region has for the memory and CPUs.
func (c *Client) instanceType(ctx context.Context, spec *hypervisor.RemoteSpec, arch string) (string, error) {
	if spec.Cloud.Type != "" {
		return spec.Cloud.Type, c.checkType(ctx, spec.Cloud.Type, arch)
	}
	var wanted []string
	for _, f := range families[arch] {
		wanted = append(wanted, f+".*")
	}
	list, err := c.kinds(ctx, &ec2.DescribeInstanceTypesInput{Filters: []types.Filter{
		filter("instance-type", wanted...), filter("current-generation", "true"), filter("bare-metal", "false"),
		filter("hypervisor", string(types.InstanceTypeHypervisorNitro)), filter("supported-boot-mode", string(types.BootModeTypeUefi)),
		filter("processor-info.supported-architecture", architecture(arch)),
	}})
	if err != nil {
		return "", err
	}
	best, ok := cheapest(list, spec.CPUs, spec.Memory, arch)
	if !ok {
		return "", &Error{
			Err:    fmt.Errorf("%s has no instance type of %s with %d CPUs and %d MiB of memory", c.Region(), strings.Join(families[arch], ", "), spec.CPUs, spec.Memory>>20),
			Remedy: "less, or --type TYPE for one of another family",
		}
	}
	return best.name, nil
}

// architecture is how EC2 calls one.
func architecture(arch string) string {
	if arch == "arm64" {
		return string(types.ArchitectureTypeArm64)
	}
	return string(types.ArchitectureTypeX8664)
}

// checkType refuses a type that the guest does not boot on.
func (c *Client) checkType(ctx context.Context, name, arch string) error {
	out, err := c.ec2().DescribeInstanceTypes(ctx, &ec2.DescribeInstanceTypesInput{InstanceTypes: []types.InstanceType{types.InstanceType(name)}})
	if isCode(err, "InvalidInstanceType") || err == nil && len(out.InstanceTypes) == 0 {
		return &Error{Err: fmt.Errorf("%s has no instance type %s", c.Region(), name), Remedy: "one such as t3.small, or leave --type out"}
	}
	if err != nil {
		return explain("looking for the instance type", err)
	}
	t := out.InstanceTypes[0]
	switch {
	case t.ProcessorInfo == nil || !slices.Contains(t.ProcessorInfo.SupportedArchitectures, types.ArchitectureType(architecture(arch))):
		return &Error{Err: fmt.Errorf("the instance type %s is not for %s", name, architecture(arch)), Remedy: "one such as " + families[arch][0] + ".small"}
	case !slices.Contains(t.SupportedBootModes, types.BootModeTypeUefi):
		return &Error{Err: fmt.Errorf("the instance type %s does not boot by UEFI", name), Remedy: "one of the Nitro system, such as " + families[arch][0] + ".small"}
	}
	return nil
}

func (c *Client) kinds(ctx context.Context, in *ec2.DescribeInstanceTypesInput) ([]kind, error) {
	var list []kind
	for more := true; more; more = aws.ToString(in.NextToken) != "" {
		page, err := c.ec2().DescribeInstanceTypes(ctx, in)
		if err != nil {
			return nil, explain("listing instance types", err)
		}
		for _, t := range page.InstanceTypes {
			if t.VCpuInfo != nil && t.MemoryInfo != nil {
				list = append(list, kind{string(t.InstanceType), int(aws.ToInt32(t.VCpuInfo.DefaultVCpus)), aws.ToInt64(t.MemoryInfo.SizeInMiB)})
			}
		}
		in.NextToken = page.NextToken
	}
	return list, nil
}
