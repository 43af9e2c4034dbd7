package ec2

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/smithy-go/middleware"

	"capstan/internal/hypervisor"
)

// Rehearse returns the driver that tells of all calls, and makes those that only
// read.
func (d *Driver) Rehearse(would func(call string)) hypervisor.Remote {
	opts := d.opts
	var one sync.Mutex
	opts.Would = func(call string) {
		one.Lock()
		defer one.Unlock()
		would(call)
	}
	return New(opts)
}

// pretending tells of calls. Those that only read are made, for what they answer
// decides on the next; to others it answers as the cloud would.
func pretending(would func(call string)) func(*middleware.Stack) error {
	var blocks atomic.Int64
	instead := func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (out middleware.InitializeOutput, m middleware.Metadata, err error) {
		name := awsmiddleware.GetOperationName(ctx)
		tell := func() {
			would(strings.ToLower(awsmiddleware.GetServiceID(ctx)) + " " + name + " " + parameters(in.Parameters))
		}
		if reads(name) {
			tell()
			return next.HandleInitialize(ctx, in)
		}
		if out.Result = pretended(in.Parameters); out.Result == nil {
			return out, m, fmt.Errorf("%s has no dry run", name)
		}
		if name == "PutSnapshotBlock" { // thousands: they are told as one
			blocks.Add(1)
			return out, m, nil
		}
		if n := blocks.Swap(0); n > 0 {
			would(fmt.Sprintf("ebs PutSnapshotBlock, %d times, %d bytes in all", n, n*blockSize))
		}
		tell()
		return out, m, nil
	}
	return func(stack *middleware.Stack) error {
		return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("capstan:pretend", instead), middleware.After)
	}
}

func reads(operation string) bool {
	return strings.HasPrefix(operation, "Describe") || strings.HasPrefix(operation, "Get") || strings.HasPrefix(operation, "List")
}

// pretended is an answer of the cloud, or nil.
func pretended(in any) any {
	switch in.(type) {
	case *ebs.StartSnapshotInput:
		return &ebs.StartSnapshotOutput{SnapshotId: aws.String("snap-dryrun"), BlockSize: aws.Int32(blockSize)}
	case *ebs.PutSnapshotBlockInput:
		return &ebs.PutSnapshotBlockOutput{}
	case *ebs.CompleteSnapshotInput:
		return &ebs.CompleteSnapshotOutput{}
	case *ec2.RegisterImageInput:
		return &ec2.RegisterImageOutput{ImageId: aws.String("ami-dryrun")}
	case *ec2.CopyImageInput:
		return &ec2.CopyImageOutput{ImageId: aws.String("ami-dryrun")}
	case *ec2.ModifyImageAttributeInput:
		return &ec2.ModifyImageAttributeOutput{}
	case *ec2.DeleteSnapshotInput:
		return &ec2.DeleteSnapshotOutput{}
	case *autoscaling.CreateAutoScalingGroupInput:
		return &autoscaling.CreateAutoScalingGroupOutput{}
	case *autoscaling.UpdateAutoScalingGroupInput:
		return &autoscaling.UpdateAutoScalingGroupOutput{}
	case *autoscaling.DeleteAutoScalingGroupInput:
		return &autoscaling.DeleteAutoScalingGroupOutput{}
	case *ec2.CreateSecurityGroupInput:
		return &ec2.CreateSecurityGroupOutput{GroupId: aws.String("sg-dryrun")}
	case *ec2.AuthorizeSecurityGroupIngressInput:
		return &ec2.AuthorizeSecurityGroupIngressOutput{}
	case *ec2.DeleteSecurityGroupInput:
		return &ec2.DeleteSecurityGroupOutput{}
	case *ec2.CreateLaunchTemplateInput:
		return &ec2.CreateLaunchTemplateOutput{}
	case *ec2.DeleteLaunchTemplateInput:
		return &ec2.DeleteLaunchTemplateOutput{}
	case *ec2.RunInstancesInput:
		return &ec2.RunInstancesOutput{}
	case *ec2.StartInstancesInput:
		return &ec2.StartInstancesOutput{}
	case *ec2.StopInstancesInput:
		return &ec2.StopInstancesOutput{}
	case *ec2.TerminateInstancesInput:
		return &ec2.TerminateInstancesOutput{}
	case *ec2.CancelSpotInstanceRequestsInput:
		return &ec2.CancelSpotInstanceRequestsOutput{}
	case *ec2.CreateVolumeInput:
		return &ec2.CreateVolumeOutput{VolumeId: aws.String("vol-dryrun")}
	case *ec2.AttachVolumeInput:
		return &ec2.AttachVolumeOutput{}
	case *ec2.DeleteVolumeInput:
		return &ec2.DeleteVolumeOutput{}
	case *ec2.DeleteTagsInput:
		return &ec2.DeleteTagsOutput{}
	case *ec2.DeregisterImageInput:
		return &ec2.DeregisterImageOutput{}
	}
	return nil
}

// parameters are those that a call gives, as JSON. Of user-data only the length
// is told: an instance's environment is in it.
func parameters(in any) string {
	doc, err := json.Marshal(given(reflect.ValueOf(in)))
	if err != nil {
		return err.Error()
	}
	return string(doc)
}

// given is a value without what is not set.
func given(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Pointer:
		return given(v.Elem())
	case reflect.Struct:
		fields := map[string]any{}
		for i := range v.NumField() {
			f := v.Type().Field(i)
			switch {
			case !f.IsExported() || v.Field(i).IsZero():
			case f.Name == "UserData":
				fields[f.Name] = fmt.Sprintf("%d characters", v.Field(i).Elem().Len())
			default:
				fields[f.Name] = given(v.Field(i))
			}
		}
		return fields
	case reflect.Slice:
		list := []any{}
		for i := range v.Len() {
			list = append(list, given(v.Index(i)))
		}
		return list
	default:
		return v.Interface()
	}
}
