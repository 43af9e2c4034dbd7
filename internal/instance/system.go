package instance

import (
	"context"
	"time"

	"capstan/guest/api"
	"capstan/internal/hypervisor"
)

// press presses the power button of a system that is not ours, until it ends
// or its time is over. A system that still boots does not notice that it was
// pressed: so once is not enough.
func (s *supervisor) press(ctx context.Context, m hypervisor.Machine, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	again := time.NewTicker(time.Second)
	defer again.Stop()
	for {
		if m.Powerdown(ctx) != nil && ctx.Err() == nil {
			select {
			case <-s.over: // that is why it failed
				return nil
			case <-again.C:
				return s.kill()
			}
		}
		select {
		case <-s.over:
			return nil
		case <-again.C:
		case <-ctx.Done():
			return s.kill()
		}
	}
}

// classifySystem tells how a system that is not ours ended: that it powered
// the machine off is all that there is to know.
func classifySystem(end hypervisor.End) (Status, api.Exit, string) {
	if end.Cause == hypervisor.PoweredOff {
		return Exited, api.Exit{}, ""
	}
	return classify(api.Exit{}, false, end)
}
