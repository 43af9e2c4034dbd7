package ec2

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"capstan/internal/hypervisor"
)

// Bounds on waiting for an instance. EC2 cuts the power of one that does not
// stop by itself after some minutes; after that it is AWS who is late.
const (
	startBound = 5 * time.Minute
	stopBound  = 10 * time.Minute
)

// Start makes an instance of the template, or starts the one that was made. With
// volumes it returns once the instance has them.
func (d *Driver) Start(ctx context.Context, doc hypervisor.Handle) error {
	c, h, err := d.of(ctx, doc)
	if err != nil {
		return err
	}
	i, err := c.instance(ctx, h)
	if err != nil {
		return err
	}
	switch stateOf(i) {
	case "":
		if err = c.checkFree(ctx, h); err == nil {
			err = c.run(ctx, h)
		}
	case types.InstanceStateNamePending, types.InstanceStateNameRunning:
		return c.attach(ctx, h)
	case types.InstanceStateNameStopping:
		if err = c.awaitState(ctx, h, "waiting for the instance to stop", stopBound, types.InstanceStateNameStopped); err != nil {
			return err
		}
		fallthrough
	default:
		_, err = c.ec2().StartInstances(ctx, &ec2.StartInstancesInput{InstanceIds: []string{aws.ToString(i.InstanceId)}})
		err = explain(starting, err)
	}
	if err != nil {
		return err
	}
	// What was made is not listed at once, and has to be: who asks next is to
	// see it on.
	if err := c.awaitState(ctx, h, starting, startBound, types.InstanceStateNamePending, types.InstanceStateNameRunning); err != nil {
		return err
	}
	return c.attach(ctx, h)
}

const starting = "starting the instance"

// run makes the instance of the template. The token makes a second call the
// same one.
func (c *Client) run(ctx context.Context, h handle) error {
	in := &ec2.RunInstancesInput{
		ClientToken: aws.String(h.name()), MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
		LaunchTemplate: &types.LaunchTemplateSpecification{LaunchTemplateName: aws.String(h.name()), Version: aws.String("1")},
	}
	if h.Subnet != "" {
		in.SubnetId = &h.Subnet
	}
	_, err := c.ec2().RunInstances(ctx, in)
	if isCode(err, "IdempotentInstanceTerminated") || isCode(err, codeNoTemplate) {
		return errGone(h)
	}
	err = explain("running an instance", err)
	var said *Error
	if isCode(err, "InvalidParameterValue") && strings.Contains(err.Error(), "iamInstanceProfile") && errors.As(err, &said) {
		said.Remedy = "--iam-profile NAME: aws iam list-instance-profiles lists them"
	}
	return err
}

// awaitState waits until the instance is in one of some states.
func (c *Client) awaitState(ctx context.Context, h handle, what string, bound time.Duration, states ...types.InstanceStateName) error {
	return c.await(ctx, what, bound, func(ctx context.Context) (int64, error) {
		i, err := c.instance(ctx, h)
		if err != nil {
			return 0, err
		}
		now := stateOf(i)
		for _, s := range states {
			if now == s {
				return 100, nil
			}
		}
		return 0, nil
	})
}

// Stop presses the instance's power button, which the guest's PID 1 takes for
// the order to end, and cuts the power after grace. Auto Scaling gives a group's
// instances the time that EC2 gives any.
func (d *Driver) Stop(ctx context.Context, doc hypervisor.Handle, grace time.Duration) error {
	c, h, err := d.of(ctx, doc)
	if err != nil {
		return err
	}
	if h.Group {
		return c.emptyGroup(ctx, h)
	}
	i, err := c.machine(ctx, h)
	if err != nil || !isOn(i) {
		return err
	}
	const what = "stopping the instance"
	if stateOf(i) == types.InstanceStateNamePending { // it cannot be stopped yet
		if err := c.awaitState(ctx, h, what, startBound, types.InstanceStateNameRunning, types.InstanceStateNameStopping, types.InstanceStateNameStopped); err != nil {
			return err
		}
	}
	if grace > 0 {
		if err := c.halt(ctx, i, false); err != nil {
			return err
		}
		within, cancel := context.WithTimeout(ctx, grace)
		err := c.awaitState(within, h, what, stopBound, types.InstanceStateNameStopped)
		late := bounded(ctx, within)
		cancel()
		if err == nil || !late {
			return err
		}
	}
	if err := c.halt(ctx, i, true); err != nil {
		return err
	}
	return c.awaitState(ctx, h, what, stopBound, types.InstanceStateNameStopped)
}

// halt has an instance stopped, by cutting its power if it is forced. One that
// has stopped by itself meanwhile is none to stop.
func (c *Client) halt(ctx context.Context, i *types.Instance, force bool) error {
	in := &ec2.StopInstancesInput{InstanceIds: []string{aws.ToString(i.InstanceId)}}
	if force {
		in.Force, in.SkipOsShutdown = aws.Bool(true), aws.Bool(true)
	}
	_, err := c.ec2().StopInstances(ctx, in)
	return explain("stopping the instance", err)
}
