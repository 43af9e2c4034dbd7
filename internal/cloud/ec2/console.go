package ec2

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"capstan/internal/hypervisor"
)

// kept is how much EC2 keeps of a console, its end: 64 KB, or some bytes less.
// What is shorter is all.
const kept = 60 << 10

// Console reads the serial console, which the kernel and the application share.
func (d *Driver) Console(ctx context.Context, doc hypervisor.Handle, part hypervisor.ConsolePart) (*hypervisor.Console, error) {
	c, h, err := d.of(ctx, doc)
	if err != nil {
		return nil, err
	}
	id := part.Member
	if id == "" {
		i, err := c.machine(ctx, h)
		if err != nil {
			return nil, err
		}
		if i == nil {
			return console(nil), nil // never started
		}
		id = aws.ToString(i.InstanceId)
	}
	text, err := c.output(ctx, id)
	if err != nil {
		return nil, err
	}
	return console(text), nil
}

// output is what the console of an instance has said, as far as it is kept.
func (c *Client) output(ctx context.Context, id string) ([]byte, error) {
	const doing = "reading the console"
	out, err := c.ec2().GetConsoleOutput(ctx, &ec2.GetConsoleOutputInput{InstanceId: &id, Latest: aws.Bool(true)})
	if isCode(err, "UnsupportedOperation") { // an old type: what was said when it last started or stopped
		out, err = c.ec2().GetConsoleOutput(ctx, &ec2.GetConsoleOutputInput{InstanceId: &id})
	}
	if err != nil {
		return nil, explain(doing, err)
	}
	text, err := base64.StdEncoding.DecodeString(aws.ToString(out.Output))
	if err != nil {
		return nil, &Error{Doing: doing, Err: fmt.Errorf("EC2's answer is not base64: %w", err)}
	}
	return text, nil
}

func console(text []byte) *hypervisor.Console {
	c := &hypervisor.Console{ReadCloser: io.NopCloser(bytes.NewReader(text))}
	if len(text) >= kept {
		c.Offset = hypervisor.Unplaced
	}
	return c
}
