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

// standing is what a look says about metal that shall be released.
type standing string

const (
	// ours: it is what the record names, and carries our identity.
	ours standing = "ours"
	// gone: it is nobody's any more.
	gone standing = "gone"
	// absent: it is not shown. If that is confirmed, it is gone.
	absent standing = "absent"
	// theirs: it is somebody else's now.
	theirs standing = "theirs"
)

// releasing is one thing that shall be freed, and nobody else's in its place.
type releasing struct {
	what string
	// openUntil is as for allocating.
	openUntil time.Time
	// begun is when begin was called, if it was.
	begun time.Time
	// look says whose it is now; a *refusal if it must not be freed yet.
	look func(ctx context.Context) (standing, error)
	// begin records that a call is about to be made, by compare-and-swap.
	begin func(ctx context.Context) error
	// uncertain tells that an answer was lost, or that the outcome cannot be
	// looked for. It is optional.
	uncertain func(ctx context.Context, words string)
	// call frees.
	call func(ctx context.Context) error
}

// dispose frees what is ours. It calls only right after a look that says that
// it still is; calls again only once no earlier call can be at work any more,
// since by then it might free what was given to somebody else; and returns
// once a look says that it is not ours any more.
func dispose(ctx context.Context, p *Protocol, r releasing) (standing, error) {
	r.look = confirmed(p, r.look)
	for range maxCalls {
		if !r.openUntil.IsZero() {
			whose, err := settleFree(ctx, p, r)
			if err != nil || whose != ours {
				return whose, err
			}
		}
		if r.begun.IsZero() {
			r.begun = p.clock.Now()
			if err := r.begin(ctx); err != nil {
				return ours, err
			}
		}
		began := r.begun
		r.begun = time.Time{}
		p.at(r.what + "/free-begun")
		whose, err := r.look(ctx)
		switch {
		case ctx.Err() != nil:
			return ours, errInterrupted
		case err != nil:
			return ours, asRefusal(err)
		case whose != ours:
			return whose, nil
		case p.clock.Since(began) > p.timing.Begin:
			r.openUntil = p.clock.Now()
			continue
		}
		p.at(r.what + "/free-looked")
		err = r.call(context.WithoutCancel(ctx))
		p.at(r.what + "/freed")
		switch metal.KindOf(err) {
		case "", metal.NotFound:
			r.openUntil = p.clock.Now()
		case metal.Conflict:
			// Somebody else was changing it, which the metal-api itself does for
			// a moment after an allocation (docs/metal-api.md, Q47).
			r.openUntil = p.clock.Now()
			if err := p.pause(ctx, p.timing.Look); err != nil {
				return ours, err
			}
		case metal.Uncertain:
			r.openUntil = p.clock.Now().Add(p.timing.Lost)
			klog.FromContext(ctx).Info("The answer of a release was lost: looking for its outcome", "what", r.what, "until", r.openUntil)
			if r.uncertain != nil {
				r.uncertain(ctx, refusalOf(err).words)
			}
		default:
			return ours, refusalOf(err)
		}
	}
	whose, err := settleFree(ctx, p, r)
	if err != nil || whose != ours {
		return whose, err
	}
	return ours, refuse(http.StatusConflict, "the metal-api was asked %d times to release the %s, and it is still there", maxCalls, r.what)
}

// confirmed looks again at what a look does not show, before it takes it for
// gone.
func confirmed(p *Protocol, look func(context.Context) (standing, error)) func(context.Context) (standing, error) {
	return func(ctx context.Context) (standing, error) {
		for range agreeing - 1 {
			if whose, err := look(ctx); err != nil || whose != absent {
				return whose, err
			}
			if err := p.pause(ctx, p.timing.Look); err != nil {
				return ours, err
			}
		}
		whose, err := look(ctx)
		if err == nil && whose == absent {
			return gone, nil
		}
		return whose, err
	}
}

// settleFree looks until it is not ours any more, or until no earlier call can
// be at work.
func settleFree(ctx context.Context, p *Protocol, r releasing) (standing, error) {
	pause, told := p.timing.Look, false
	for {
		began := p.clock.Now()
		whose, err := r.look(ctx)
		switch {
		case ctx.Err() != nil:
			return ours, errInterrupted
		case err != nil && (r.openUntil.IsZero() || !began.Before(r.openUntil)):
			return ours, asRefusal(err)
		case err != nil:
			klog.FromContext(ctx).Info("Cannot look for the outcome of a release", "what", r.what, "reason", err.Error())
			if r.uncertain != nil && !told {
				r.uncertain(ctx, refusalOf(err).words)
				told = true
			}
		case whose != ours || !began.Before(r.openUntil):
			return whose, nil
		}
		p.at(r.what + "/free-settling")
		if err := p.pause(ctx, pause); err != nil {
			return ours, err
		}
		pause = min(2*pause, 8*p.timing.Look)
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
