// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"errors"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// finder looks for one thing that was allocated for an object.
type finder[T any] interface {
	// what names the thing: machine, network, address.
	what() string
	// find looks for what carries the object's identity.
	find(ctx context.Context) (found T, ok bool, err error)
}

// allocator allocates one thing for an object.
type allocator[T any] interface {
	finder[T]
	// acquire waits for its turn, for however long that takes.
	acquire(ctx context.Context) error
	// checkOrAdopt is the last read before the call; it may find that there is
	// nothing to allocate.
	checkOrAdopt(ctx context.Context) (found T, ok bool, err error)
	// specField returns the field that a field of the request is made of, and its
	// value if that can be shown; nil if there is none.
	specField(f metal.RequestField) (path *field.Path, value any)
	// allocate calls the metal-api.
	allocate(ctx context.Context) (T, error)
}

// immediate is for allocators that wait for no turn.
type immediate struct{}

func (immediate) acquire(context.Context) error { return nil }

// maxCalls is how many calls one operation makes if their answers are all
// lost; the next request makes more.
const maxCalls = 3

// ensureAllocated allocates what carries the object's identity, or finds it: it
// calls only right after a compare-and-swap and a read, and again only once it
// is certain that no earlier call is in flight. A *refusal means that nothing was
// allocated; after any other error the record is left as it is.
func ensureAllocated[R record, T any](ctx context.Context, o *operation[R], a allocator[T]) (T, error) {
	var none T
	p, inFlightUntil := o.p, o.inFlightUntil
	for range maxCalls {
		if !inFlightUntil.IsZero() {
			found, ok, err := awaitOutcome(ctx, p, a, inFlightUntil, o.recordUncertain)
			if err != nil || ok {
				return found, err
			}
		}
		if err := a.acquire(ctx); err != nil {
			return none, err
		}
		began := p.clock.Now()
		if err := o.beginAttempt(ctx); err != nil {
			return none, err
		}
		p.crashPoint(a.what() + "/begun")
		// From here on, a failure without a call has to be a *refusal, for which the
		// caller makes the record a claim again.
		found, ok, err := findOrCheck(ctx, a)
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
			// By now, other operations assume that the call was made.
			inFlightUntil = p.clock.Now()
			continue
		}
		p.crashPoint(a.what() + "/observed")
		found, err = a.allocate(context.WithoutCancel(ctx))
		p.crashPoint(a.what() + "/called")
		if err == nil {
			return found, nil
		}
		if kind := metal.KindOf(err); kind != metal.Uncertain && kind != metal.Conflict {
			return none, allocationRefusalOf(err, a.specField)
		}
		inFlightUntil = p.clock.Now().Add(p.timing.UncertainDuration)
		klog.FromContext(ctx).Info("Allocation outcome unknown: reconciling", "kind", a.what(), "until", inFlightUntil)
		o.recordUncertain(ctx, refusalOf(err).message)
	}
	if found, ok, err := awaitOutcome(ctx, p, a, inFlightUntil, o.recordUncertain); err != nil || ok {
		return found, err
	}
	return none, refuse(http.StatusServiceUnavailable, "the metal-api did not answer %d allocation requests; nothing was allocated: retry", maxCalls)
}

// findOrCheck looks for what is there already, right before a call.
func findOrCheck[T any](ctx context.Context, a allocator[T]) (found T, ok bool, err error) {
	found, ok, err = a.find(ctx)
	if err == nil && !ok {
		found, ok, err = a.checkOrAdopt(ctx)
	}
	return found, ok, err
}

// agreeingReads is how many reads have to agree, one after the other, that
// something is not there: an answer can be cut short and look whole.
const agreeingReads = 2

// awaitOutcome looks for the outcome of earlier calls until it is found, or
// until reads that began after the last of them can have been in flight found
// nothing. report, if it is set, is called if the outcome cannot be looked for.
func awaitOutcome[T any](ctx context.Context, p *Protocol, f finder[T], inFlightUntil time.Time, report func(ctx context.Context, message string)) (found T, ok bool, err error) {
	pause, missed, reported := p.timing.PollInterval, 0, false
	for {
		began := p.clock.Now()
		found, ok, err = f.find(ctx)
		switch {
		case ctx.Err() != nil:
			return found, false, errInterrupted
		case err == nil && ok:
			return found, true, nil
		case err == nil && !began.Before(inFlightUntil):
			if missed++; missed == agreeingReads {
				return found, false, nil
			}
			pause = p.timing.PollInterval
		case err != nil:
			missed = 0
			klog.FromContext(ctx).Info("Failed to read the outcome of an allocation: retrying", "kind", f.what(), "err", err)
			if report != nil && !reported {
				report(ctx, refusalOf(err).message)
				reported = true
			}
		}
		p.crashPoint(f.what() + "/uncertain")
		if err := p.pause(ctx, pause); err != nil {
			return found, false, err
		}
		// A find costs the metal-api the more the larger the fleet is.
		pause = min(2*pause, 8*p.timing.PollInterval)
	}
}
