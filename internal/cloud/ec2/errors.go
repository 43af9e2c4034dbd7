package ec2

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/smithy-go"

	"capstan/internal/hypervisor"
)

// Error is what the cloud answers, or what kept it from answering, in words
// for people.
type Error struct {
	Doing  string // "registering the image"; may be empty
	Err    error
	Remedy string // may be empty
}

func (e *Error) Error() string {
	if e.Doing == "" {
		return "ec2: " + e.Err.Error()
	}
	return fmt.Sprintf("ec2: %s: %v", e.Doing, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Hint is the way out.
func (e *Error) Hint() string { return e.Remedy }

// remedies are ways out by the codes of errors.
var remedies = []struct {
	codes  []string
	remedy string
}{
	{[]string{"UnauthorizedOperation", "AccessDenied", "AccessDeniedException"}, "a policy for this user that allows it: docs/ec2.md has one"},
	{[]string{"AuthFailure", "InvalidClientTokenId", "SignatureDoesNotMatch", "UnrecognizedClientException", "IncompleteSignature"}, "other credentials, or the clock of this host"},
	{[]string{"ExpiredToken", "ExpiredTokenException", "RequestExpired"}, "log in again, such as by aws sso login"},
	{[]string{"InvalidAMIName.Duplicate"}, "another name: capstan push IMAGE ec2:NAME"},
	{[]string{"OptInRequired"}, "enable the region or the service in the account's settings"},
	{[]string{"OperationNotPermitted"}, "the account's setting that blocks public images, in EC2's settings of the region"},
	{[]string{"SnapshotLimitExceeded", "ConcurrentSnapshotLimitExceeded", "ServiceQuotaExceededException", "ResourceLimitExceeded"}, "remove snapshots that are not needed any more, or ask AWS for a higher quota"},
	{[]string{"InsufficientInstanceCapacity", "InsufficientHostCapacity", "Unsupported"}, "another --type, --region or --subnet; or the same command later"},
	{[]string{"VcpuLimitExceeded", "InstanceLimitExceeded", "MaxSpotInstanceCountExceeded"}, "a smaller --type, or ask AWS for a higher quota"},
	{[]string{"InvalidSubnetID.NotFound", "InvalidSubnetId.Malformed"}, "aws ec2 describe-subnets lists those of the region"},
}

// explain puts an error of the SDK into a sentence: the cloud's code and its
// words, without the SDK's record of requests.
func explain(doing string, err error) error {
	var ours *Error
	if err == nil || errors.As(err, &ours) || errors.Is(err, context.Canceled) {
		return err
	}
	e := &Error{Doing: doing, Err: err}
	var said smithy.APIError
	if errors.As(err, &said) {
		e.Err = &apiError{said}
		for _, r := range remedies {
			if slices.Contains(r.codes, said.ErrorCode()) {
				e.Remedy = r.remedy
			}
		}
		return e
	}
	// The last place where the SDK looks for some is the host itself.
	if strings.Contains(err.Error(), "no EC2 IMDS role found") {
		e.Err, e.Remedy = fmt.Errorf("%w for AWS", hypervisor.ErrNoCredentials), "aws configure, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
		return e
	}
	if _, why, ok := strings.Cut(err.Error(), "failed to refresh cached credentials, "); ok {
		e.Err, e.Remedy = errors.New("the AWS credentials cannot be had: "+why), "aws sso login, or what else gives this host its credentials"
		return e
	}
	var failed *smithy.OperationError
	if errors.As(err, &failed) {
		e.Err = failed.Err
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		e.Err = fmt.Errorf("%w: %w", hypervisor.ErrUnreachable, e.Err)
	}
	e.Remedy = "look whether this host reaches AWS; the same command again goes on from here"
	return e
}

// apiError is what the cloud said.
type apiError struct{ smithy.APIError }

func (e *apiError) Error() string {
	if e.ErrorMessage() == "" {
		return e.ErrorCode()
	}
	return fmt.Sprintf("%s (%s)", strings.TrimSuffix(e.ErrorMessage(), "."), e.ErrorCode())
}

func (e *apiError) Unwrap() error { return e.APIError }
