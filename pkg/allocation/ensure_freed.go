// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// ownership is what a read says about metal that shall be released.
type ownership string

const (
	// owned: it is what the record names, and carries the object's identity.
	owned ownership = "owned"
	// gone: it is not allocated any more.
	gone ownership = "gone"
	// absent: it is not shown. If that is confirmed, it is gone.
	absent ownership = "absent"
	// foreign: it is allocated for another object, or by another owner.
	foreign ownership = "foreign"
)

// freer frees one thing of an object, and no other one in its place.
type freer interface {
	// what names the thing: machine, network, address, duplicate.
	what() string
	// ownership says whose it is now; a *refusal if it must not be freed yet.
	ownership(ctx context.Context) (ownership, error)
	// begin records that a call is about to be made, by compare-and-swap.
	begin(ctx context.Context) error
	// recordReleaseUncertain records that an answer was lost, or that the
	// outcome cannot be looked up.
	recordReleaseUncertain(ctx context.Context, message string)
	// free calls the metal-api.
	free(ctx context.Context) error
}

// ensureFreed frees what is owned. It calls only right after a read that says
// that it still is; calls again only once no earlier call can be in flight, since
// by then it might free what was allocated for another object; and returns once a
// read says that it is not owned any more. inFlightUntil is until when a call of
// another operation may be in flight; zero if there was none. begun is when begin
// was called, if it was.
func ensureFreed(ctx context.Context, p *Protocol, f freer, inFlightUntil, begun time.Time) (ownership, error) {
	for range maxCalls {
		if !inFlightUntil.IsZero() {
			whose, err := awaitFreeOutcome(ctx, p, f, inFlightUntil)
			if err != nil || whose != owned {
				return whose, err
			}
		}
		if begun.IsZero() {
			begun = p.clock.Now()
			if err := f.begin(ctx); err != nil {
				return owned, err
			}
		}
		began := begun
		begun = time.Time{}
		p.crashPoint(f.what() + "/free-begun")
		whose, err := confirmedOwnership(ctx, p, f)
		switch {
		case ctx.Err() != nil:
			return owned, errInterrupted
		case err != nil:
			return owned, asRefusal(err)
		case whose != owned:
			return whose, nil
		case p.clock.Since(began) > p.timing.BeginTimeout:
			inFlightUntil = p.clock.Now()
			continue
		}
		p.crashPoint(f.what() + "/free-observed")
		err = f.free(context.WithoutCancel(ctx))
		p.crashPoint(f.what() + "/freed")
		switch metal.KindOf(err) {
		case "", metal.NotFound:
			inFlightUntil = p.clock.Now()
		case metal.Conflict:
			// Another client was changing it, which the metal-api itself does for
			// a moment after an allocation (docs/metal-api.md, Q47).
			inFlightUntil = p.clock.Now()
			if err := p.pause(ctx, p.timing.PollInterval); err != nil {
				return owned, err
			}
		case metal.Uncertain:
			inFlightUntil = p.clock.Now().Add(p.timing.UncertainDuration)
			klog.FromContext(ctx).Info("Release outcome unknown: reconciling", "kind", f.what(), "until", inFlightUntil)
			f.recordReleaseUncertain(ctx, refusalOf(err).message)
		default:
			return owned, releaseRefusalOf(err)
		}
	}
	whose, err := awaitFreeOutcome(ctx, p, f, inFlightUntil)
	if err != nil || whose != owned {
		return whose, err
	}
	return owned, refuse(http.StatusConflict, "the %s is still allocated after %d requests to free it", f.what(), maxCalls)
}

// confirmedOwnership reads again what a read does not show, before it takes it
// for gone.
func confirmedOwnership(ctx context.Context, p *Protocol, f freer) (ownership, error) {
	for range agreeingReads - 1 {
		if whose, err := f.ownership(ctx); err != nil || whose != absent {
			return whose, err
		}
		if err := p.pause(ctx, p.timing.PollInterval); err != nil {
			return owned, err
		}
	}
	whose, err := f.ownership(ctx)
	if err == nil && whose == absent {
		return gone, nil
	}
	return whose, err
}

// awaitFreeOutcome reads until it is not owned any more, or until no earlier
// call can be in flight.
func awaitFreeOutcome(ctx context.Context, p *Protocol, f freer, inFlightUntil time.Time) (ownership, error) {
	pause, reported := p.timing.PollInterval, false
	for {
		began := p.clock.Now()
		whose, err := confirmedOwnership(ctx, p, f)
		switch {
		case ctx.Err() != nil:
			return owned, errInterrupted
		case err != nil && (inFlightUntil.IsZero() || !began.Before(inFlightUntil)):
			return owned, asRefusal(err)
		case err != nil:
			klog.FromContext(ctx).Info("Failed to read the outcome of a release: retrying", "kind", f.what(), "err", err)
			if !reported {
				f.recordReleaseUncertain(ctx, refusalOf(err).message)
				reported = true
			}
		case whose != owned || !began.Before(inFlightUntil):
			return whose, nil
		}
		p.crashPoint(f.what() + "/free-uncertain")
		if err := p.pause(ctx, pause); err != nil {
			return owned, err
		}
		pause = min(2*pause, 8*p.timing.PollInterval)
	}
}

func asRefusal(err error) error {
	if err == nil {
		return nil
	}
	var r *refusal
	if errors.As(err, &r) {
		return r
	}
	if errors.Is(err, errInterrupted) {
		return err
	}
	var e *metal.Error
	if errors.As(err, &e) {
		return releaseRefusalOf(err)
	}
	return fmt.Errorf("failed to read metal and records: %w", err)
}
