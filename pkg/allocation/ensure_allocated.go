package allocation

import (
	"context"
	"errors"
	"net/http"
	"time"

	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// allocating is one thing that shall be allocated exactly once.
type allocating[T any] struct {
	// what names it: machine, network, address.
	what string
	// inFlightUntil is when an earlier call, of this process or another, can no
	// longer be at work; zero if there was none.
	inFlightUntil time.Time
	// find looks for what carries our identity.
	find func(ctx context.Context) (found T, ok bool, err error)
	// enter waits for its turn, for however long that takes. It is optional.
	enter func(ctx context.Context) error
	// begin records that a call is about to be made, by compare-and-swap.
	begin func(ctx context.Context) error
	// uncertain tells that an answer was lost, or that the outcome cannot be
	// looked for. It is optional.
	uncertain func(ctx context.Context, words string)
	// check is the last look before the call; it may find that there is
	// nothing to allocate. It is optional.
	check func(ctx context.Context) (found T, ok bool, err error)
	// call allocates.
	call func(ctx context.Context) (T, error)
}

// maxCalls is how many calls one operation makes if their answers are all
// lost; the next request makes more.
const maxCalls = 3

// ensureAllocated allocates what carries our identity, or finds it: it calls only
// between a compare-and-swap and a look, and calls again only once it is
// certain that no earlier call is at work any more. A *refusal means that
// nothing was allocated; after any other error the record is left as it is.
func ensureAllocated[T any](ctx context.Context, p *Protocol, a allocating[T]) (T, error) {
	var none T
	for range maxCalls {
		if !a.inFlightUntil.IsZero() {
			found, ok, err := awaitOutcome(ctx, p, a)
			if err != nil || ok {
				return found, err
			}
		}
		if a.enter != nil {
			if err := a.enter(ctx); err != nil {
				return none, err
			}
		}
		began := p.clock.Now()
		if err := a.begin(ctx); err != nil {
			return none, err
		}
		p.crashPoint(a.what + "/begun")
		// Every way on from here that does not make the call swaps back.
		look := func() (T, bool, error) {
			found, ok, err := a.find(ctx)
			if err == nil && !ok && a.check != nil {
				found, ok, err = a.check(ctx)
			}
			return found, ok, err
		}
		found, ok, err := look()
		var r *refusal
		switch {
		case errors.As(err, &r):
			return none, r
		case ctx.Err() != nil && !ok:
			return none, &refusal{code: http.StatusServiceUnavailable, message: errInterrupted.Error(), retryAfter: time.Second}
		case err != nil:
			return none, refusalOf(err)
		case ok:
			return found, nil
		case p.clock.Since(began) > p.timing.BeginTimeout:
			// Whoever came after us counts on our having called by now.
			a.inFlightUntil = p.clock.Now()
			continue
		}
		p.crashPoint(a.what + "/looked")
		found, err = a.call(context.WithoutCancel(ctx))
		p.crashPoint(a.what + "/called")
		if err == nil {
			return found, nil
		}
		if kind := metal.KindOf(err); kind != metal.Uncertain && kind != metal.Conflict {
			return none, refusalOf(err)
		}
		a.inFlightUntil = p.clock.Now().Add(p.timing.UncertainDuration)
		klog.FromContext(ctx).Info("The answer of an allocation was lost: looking for its outcome", "what", a.what, "until", a.inFlightUntil)
		a.uncertain(ctx, refusalOf(err).message)
	}
	if found, ok, err := awaitOutcome(ctx, p, a); err != nil || ok {
		return found, err
	}
	return none, refuse(http.StatusServiceUnavailable, "the metal-api was asked %d times without an answer that arrived; nothing was allocated", maxCalls)
}

// agreeingReads is how many looks have to agree, one after the other, that something
// is not there: an answer can be cut short and look whole.
const agreeingReads = 2

// awaitOutcome looks for the outcome of earlier calls until it is found, or until
// looks that began after the last of them can have been at work found nothing.
func awaitOutcome[T any](ctx context.Context, p *Protocol, a allocating[T]) (found T, ok bool, err error) {
	pause, missed, told := p.timing.PollInterval, 0, false
	for {
		began := p.clock.Now()
		found, ok, err = a.find(ctx)
		switch {
		case ctx.Err() != nil:
			return found, false, errInterrupted
		case err == nil && ok:
			return found, true, nil
		case err == nil && !began.Before(a.inFlightUntil):
			if missed++; missed == agreeingReads {
				return found, false, nil
			}
			pause = p.timing.PollInterval
		case err != nil:
			missed = 0
			klog.FromContext(ctx).Info("Cannot look for the outcome of an allocation", "what", a.what, "reason", err.Error())
			if a.uncertain != nil && !told {
				a.uncertain(ctx, refusalOf(err).message)
				told = true
			}
		}
		p.crashPoint(a.what + "/settling")
		if err := p.pause(ctx, pause); err != nil {
			return found, false, err
		}
		// A find costs the metal-api the more the larger the fleet is.
		pause = min(2*pause, 8*p.timing.PollInterval)
	}
}
