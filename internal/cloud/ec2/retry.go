package ec2

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	ebstypes "github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
)

// A call is tried again for about two minutes: so long can it take until a new
// snapshot is known everywhere.
const (
	maxTries = 16
	minPause = 100 * time.Millisecond
	maxPause = 15 * time.Second
)

// retryer tries calls again that were throttled or failed for a reason that
// may pass. There is no quota for that beyond maxTries, as the SDK has it: a
// push is many calls, and an outage of seconds is not to end it.
type retryer struct {
	*retry.Standard
	pace  *pace
	brief bool
}

// briefTries are how often nobody is asked who does not answer, where somebody
// waits for it.
const briefTries = 5

func newRetryer(p *pace, brief bool) retryer {
	return retryer{retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = maxTries
		o.RateLimiter = ratelimit.None
		o.Retryables = append(o.Retryables, retry.IsErrorRetryableFunc(unsettled))
		o.Retryables = append([]retry.IsErrorRetryable{retry.IsErrorRetryableFunc(noCapacity)}, o.Retryables...)
		o.Backoff = retry.BackoffDelayerFunc(backoff)
	}), p, brief}
}

func (r retryer) RetryDelay(attempt int, err error) (time.Duration, error) {
	if throttled.IsErrorThrottle(err).Bool() {
		r.pace.slower()
	}
	var op *net.OpError
	if r.brief && attempt >= briefTries && errors.As(err, &op) && op.Op == "dial" {
		return 0, err
	}
	return r.Standard.RetryDelay(attempt, err)
}

// whole has what changes something come to its end once it is sent: a call that
// is given up may still change it, and nobody would know. It ends with its
// context between its tries. A block is no loss, and there are many.
func whole(stack *middleware.Stack) error {
	detached := func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
		if name := awsmiddleware.GetOperationName(ctx); !reads(name) && name != "PutSnapshotBlock" {
			ctx = context.WithoutCancel(ctx)
		}
		return next.HandleFinalize(ctx, in)
	}
	return stack.Finalize.Insert(middleware.FinalizeMiddlewareFunc("capstan:whole", detached), "Retry", middleware.After)
}

// noCapacity tells errors that EC2 gives with status 500 and means.
func noCapacity(err error) aws.Ternary {
	if isCode(err, "InsufficientInstanceCapacity") || isCode(err, "InsufficientHostCapacity") {
		return aws.FalseTernary
	}
	return aws.UnknownTernary
}

var throttled = retry.IsErrorThrottles(retry.DefaultThrottles)

// backoff grows with the attempts, and half of it is chance.
func backoff(attempt int, _ error) (time.Duration, error) {
	d := min(maxPause, minPause<<min(attempt, 16))
	return d/2 + rand.N(d/2), nil
}

// unsettled tells errors that the EBS direct APIs give for a while, though
// their kind is not one that is tried again: a snapshot that not all of their
// servers know yet, and a block that did not come whole.
func unsettled(err error) aws.Ternary {
	var unknown *ebstypes.ResourceNotFoundException
	var invalid *ebstypes.ValidationException
	if errors.As(err, &unknown) || errors.As(err, &invalid) && strings.Contains(invalid.ErrorMessage(), "Failed to read block data") {
		return aws.TrueTernary
	}
	return aws.UnknownTernary
}

// isCode tells an error that the cloud gives a code.
func isCode(err error, code string) bool {
	var said smithy.APIError
	return errors.As(err, &said) && said.ErrorCode() == code
}
