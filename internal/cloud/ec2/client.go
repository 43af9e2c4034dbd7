package ec2

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"
	"github.com/aws/smithy-go/middleware"
)

// Options say how the cloud is spoken to.
type Options struct {
	Region  string   // "" is the one of the SDK's configuration
	Regions []string // where List and Prune look; none are the one above
	Version string   // Capstan's, for tags
	State   string   // the folder where the state of pushes is kept
	Arch    string   // the guest's; "" is amd64
	// Progress is told how far pieces of work are, by several goroutines at
	// once; a piece is complete when done is total.
	Progress func(piece string, done, total int64)
	// Would is told the calls that would be made. Those that only read are, others
	// are not. nil makes all, and nobody is told.
	Would func(call string)

	brief bool // gives up soon where nobody answers
}

// Client speaks to one region.
type Client struct {
	opts    Options
	config  aws.Config
	pace    *pace
	account string
}

// Bounds on one attempt of a call. A block of a snapshot is the most that one
// carries.
const (
	answerBound = time.Minute
	callBound   = 3 * time.Minute
)

// Open finds region and credentials, and asks who the caller is.
func Open(ctx context.Context, opts Options) (*Client, error) {
	c, err := dial(ctx, opts)
	if err != nil {
		return nil, err
	}
	return c, c.identify(ctx)
}

// dial finds region and credentials, and asks nobody.
func dial(ctx context.Context, opts Options) (*Client, error) {
	cfg, err := configure(ctx, opts)
	if err != nil {
		return nil, err
	}
	if cfg.Region == "" {
		return nil, errNoRegion
	}
	return open(cfg, opts), nil
}

// errNoRegion tells that nothing says where.
var errNoRegion = &Error{Err: errors.New("no region is chosen"), Remedy: "--region REGION, AWS_REGION, or a region in ~/.aws/config"}

// configure reads the SDK's configuration.
func configure(ctx context.Context, opts Options) (aws.Config, error) {
	cfg, err := config.LoadDefaultConfig(ctx,
		config.WithLogger(logging.Nop{}), // what matters comes as an error
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTimeout(callBound).WithTransportOptions(func(t *http.Transport) {
			t.ResponseHeaderTimeout = answerBound
			t.MaxIdleConnsPerHost = maxParallel
		})))
	if err != nil {
		return cfg, &Error{Doing: "reading the AWS configuration", Err: err, Remedy: "mend ~/.aws/config, or the AWS_* variables"}
	}
	if opts.Region != "" {
		cfg.Region = opts.Region
	}
	return cfg, nil
}

// identify asks who the caller is, unless that is known.
func (c *Client) identify(ctx context.Context) error {
	if c.account != "" {
		return nil
	}
	who, err := sts.NewFromConfig(c.config).GetCallerIdentity(ctx, nil)
	if err != nil {
		return explain("asking who the caller is", err)
	}
	c.account = aws.ToString(who.Account)
	return nil
}

// with is the same caller with other options.
func (c *Client) with(opts Options) *Client {
	cfg := c.config.Copy()
	cfg.APIOptions = nil // open adds them
	other := open(cfg, opts)
	other.account = c.account
	return other
}

// open makes the clients of the services.
func open(cfg aws.Config, opts Options) *Client {
	c := &Client{opts: opts, config: cfg, pace: newPace(maxParallel)}
	c.config.Retryer = func() aws.Retryer { return newRetryer(c.pace, c.opts.brief) }
	c.config.APIOptions = append([]func(*middleware.Stack) error{whole}, cfg.APIOptions...)
	if opts.Would != nil {
		c.config.APIOptions = append(c.config.APIOptions, pretending(opts.Would))
	}
	return c
}

// The SDK's clients are made where they are needed, which takes microseconds;
// connections are the configuration's. A type that had them as fields, or an
// interface with one in it, would have the linker keep all of EC2's calls:
// they are 30 MB.

func (c *Client) ec2() *ec2.Client { return ec2.NewFromConfig(c.config) }
func (c *Client) ebs() *ebs.Client { return ebs.NewFromConfig(c.config) }

// in is the same caller in another region.
func (c *Client) in(region string) *Client {
	other := c.with(c.opts)
	other.config.Region = region
	return other
}

// Region is where the client speaks to.
func (c *Client) Region() string { return c.config.Region }

// await asks until it is told that something is done, with growing pauses. It
// ends with an error after the bound, or once the asking ends with one. A dry
// run has nothing to wait for.
func (c *Client) await(ctx context.Context, what string, bound time.Duration, ask func(context.Context) (percent int64, err error)) error {
	if c.opts.Would != nil {
		return nil
	}
	return c.repeat(ctx, what, bound, ask)
}

// repeat is await where the asking changes something, of which a dry run tells.
func (c *Client) repeat(ctx context.Context, what string, bound time.Duration, ask func(context.Context) (percent int64, err error)) error {
	if c.opts.Would != nil {
		_, err := ask(ctx)
		return err
	}
	const hundred = 100
	ctx, cancel := context.WithTimeoutCause(ctx, bound, &Error{Doing: what, Err: fmt.Errorf("it is not done within %v", bound), Remedy: "the same command again: it goes on from here"})
	defer cancel()
	waited := false // else there is nothing to tell
	for pause := 250 * time.Millisecond; ; pause = min(2*pause, 10*time.Second) {
		done, err := ask(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		if done < hundred || waited {
			c.opts.Progress(what, done, hundred)
		}
		if done == hundred {
			return nil
		}
		waited = true
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
