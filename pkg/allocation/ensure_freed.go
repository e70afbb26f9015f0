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

// ownership is what a look says about metal that shall be released.
type ownership string

const (
	// owned: it is what the record names, and carries our identity.
	owned ownership = "ours"
	// gone: it is nobody's any more.
	gone ownership = "gone"
	// absent: it is not shown. If that is confirmed, it is gone.
	absent ownership = "absent"
	// foreign: it is somebody else's now.
	foreign ownership = "theirs"
)

// releasing is one thing that shall be freed, and nobody else's in its place.
type releasing struct {
	what string
	// inFlightUntil is as for allocating.
	inFlightUntil time.Time
	// begun is when begin was called, if it was.
	begun time.Time
	// look says whose it is now; a *refusal if it must not be freed yet.
	look func(ctx context.Context) (ownership, error)
	// begin records that a call is about to be made, by compare-and-swap.
	begin func(ctx context.Context) error
	// uncertain tells that an answer was lost, or that the outcome cannot be
	// looked for. It is optional.
	uncertain func(ctx context.Context, words string)
	// call frees.
	call func(ctx context.Context) error
}

// ensureFreed frees what is ours. It calls only right after a look that says that
// it still is; calls again only once no earlier call can be at work any more,
// since by then it might free what was given to somebody else; and returns
// once a look says that it is not ours any more.
func ensureFreed(ctx context.Context, p *Protocol, r releasing) (ownership, error) {
	r.look = confirmAbsence(p, r.look)
	for range maxCalls {
		if !r.inFlightUntil.IsZero() {
			whose, err := awaitFreeOutcome(ctx, p, r)
			if err != nil || whose != owned {
				return whose, err
			}
		}
		if r.begun.IsZero() {
			r.begun = p.clock.Now()
			if err := r.begin(ctx); err != nil {
				return owned, err
			}
		}
		began := r.begun
		r.begun = time.Time{}
		p.crashPoint(r.what + "/free-begun")
		whose, err := r.look(ctx)
		switch {
		case ctx.Err() != nil:
			return owned, errInterrupted
		case err != nil:
			return owned, asRefusal(err)
		case whose != owned:
			return whose, nil
		case p.clock.Since(began) > p.timing.BeginTimeout:
			r.inFlightUntil = p.clock.Now()
			continue
		}
		p.crashPoint(r.what + "/free-looked")
		err = r.call(context.WithoutCancel(ctx))
		p.crashPoint(r.what + "/freed")
		switch metal.KindOf(err) {
		case "", metal.NotFound:
			r.inFlightUntil = p.clock.Now()
		case metal.Conflict:
			// Somebody else was changing it, which the metal-api itself does for
			// a moment after an allocation (docs/metal-api.md, Q47).
			r.inFlightUntil = p.clock.Now()
			if err := p.pause(ctx, p.timing.PollInterval); err != nil {
				return owned, err
			}
		case metal.Uncertain:
			r.inFlightUntil = p.clock.Now().Add(p.timing.UncertainDuration)
			klog.FromContext(ctx).Info("The answer of a release was lost: looking for its outcome", "what", r.what, "until", r.inFlightUntil)
			if r.uncertain != nil {
				r.uncertain(ctx, refusalOf(err).message)
			}
		default:
			return owned, refusalOf(err)
		}
	}
	whose, err := awaitFreeOutcome(ctx, p, r)
	if err != nil || whose != owned {
		return whose, err
	}
	return owned, refuse(http.StatusConflict, "the metal-api was asked %d times to release the %s, and it is still there", maxCalls, r.what)
}

// confirmAbsence looks again at what a look does not show, before it takes it for
// gone.
func confirmAbsence(p *Protocol, look func(context.Context) (ownership, error)) func(context.Context) (ownership, error) {
	return func(ctx context.Context) (ownership, error) {
		for range agreeingReads - 1 {
			if whose, err := look(ctx); err != nil || whose != absent {
				return whose, err
			}
			if err := p.pause(ctx, p.timing.PollInterval); err != nil {
				return owned, err
			}
		}
		whose, err := look(ctx)
		if err == nil && whose == absent {
			return gone, nil
		}
		return whose, err
	}
}

// awaitFreeOutcome looks until it is not ours any more, or until no earlier call can
// be at work.
func awaitFreeOutcome(ctx context.Context, p *Protocol, r releasing) (ownership, error) {
	pause, told := p.timing.PollInterval, false
	for {
		began := p.clock.Now()
		whose, err := r.look(ctx)
		switch {
		case ctx.Err() != nil:
			return owned, errInterrupted
		case err != nil && (r.inFlightUntil.IsZero() || !began.Before(r.inFlightUntil)):
			return owned, asRefusal(err)
		case err != nil:
			klog.FromContext(ctx).Info("Cannot look for the outcome of a release", "what", r.what, "reason", err.Error())
			if r.uncertain != nil && !told {
				r.uncertain(ctx, refusalOf(err).message)
				told = true
			}
		case whose != owned || !began.Before(r.inFlightUntil):
			return whose, nil
		}
		p.crashPoint(r.what + "/free-settling")
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
		return refusalOf(err)
	}
	return fmt.Errorf("cannot look: %w", err)
}
