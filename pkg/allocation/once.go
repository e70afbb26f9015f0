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

// allocating is one thing that shall be allocated exactly once.
type allocating[T any] struct {
	// what names it: machine, network, address.
	what string
	// openUntil is when an earlier call, of this process or another, can no
	// longer be at work; zero if there was none.
	openUntil time.Time
	// find looks for what carries our identity.
	find func(ctx context.Context) (found T, ok bool, err error)
	// begin records that a call is about to be made, by compare-and-swap.
	begin func(ctx context.Context) error
	// uncertain tells that an answer was lost.
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

// obtain allocates what carries our identity, or finds it: it calls only
// between a compare-and-swap and a look, and calls again only once it is
// certain that no earlier call is at work any more. A *refusal means that
// nothing was allocated; after any other error the record is left as it is.
func obtain[T any](ctx context.Context, p *Protocol, a allocating[T]) (T, error) {
	var none T
	for range maxCalls {
		if !a.openUntil.IsZero() {
			found, ok, err := settle(ctx, p, a)
			if err != nil || ok {
				return found, err
			}
		}
		began := p.clock.Now()
		if err := a.begin(ctx); err != nil {
			return none, err
		}
		p.at(a.what + "/begun")
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
			return none, &refusal{code: http.StatusServiceUnavailable, words: errInterrupted.Error(), after: time.Second}
		case err != nil:
			return none, refusalOf(err)
		case ok:
			return found, nil
		case p.clock.Since(began) > p.timing.Begin:
			// Whoever came after us counts on our having called by now.
			a.openUntil = p.clock.Now()
			continue
		}
		p.at(a.what + "/looked")
		found, err = a.call(context.WithoutCancel(ctx))
		p.at(a.what + "/called")
		if err == nil {
			return found, nil
		}
		if kind := metal.KindOf(err); kind != metal.Uncertain && kind != metal.Conflict {
			return none, refusalOf(err)
		}
		a.openUntil = p.clock.Now().Add(p.timing.Lost)
		klog.FromContext(ctx).Info("The answer of an allocation was lost: looking for its outcome", "what", a.what, "until", a.openUntil)
		a.uncertain(ctx, refusalOf(err).words)
	}
	if found, ok, err := settle(ctx, p, a); err != nil || ok {
		return found, err
	}
	return none, refuse(http.StatusServiceUnavailable, "the metal-api was asked %d times without an answer that arrived; nothing was allocated", maxCalls)
}

// settle looks for the outcome of earlier calls until it is found, or until a
// look that began after the last of them can have been at work found nothing.
func settle[T any](ctx context.Context, p *Protocol, a allocating[T]) (found T, ok bool, err error) {
	pause := p.timing.Look
	for {
		began := p.clock.Now()
		found, ok, err = a.find(ctx)
		switch {
		case ctx.Err() != nil:
			return found, false, errInterrupted
		case err == nil && ok:
			return found, true, nil
		case err == nil && !began.Before(a.openUntil):
			return found, false, nil
		case err != nil:
			klog.FromContext(ctx).Info("Cannot look for the outcome of an allocation", "what", a.what, "reason", err.Error())
		}
		p.at(a.what + "/settling")
		if err := p.pause(ctx, pause); err != nil {
			return found, false, err
		}
		// A find costs the metal-api the more the larger the fleet is.
		pause = min(2*pause, 8*p.timing.Look)
	}
}

// standing is what a look says about metal that shall be released.
type standing string

const (
	// ours: it is what the record names, and carries our identity.
	ours standing = "ours"
	// gone: it is nobody's any more.
	gone standing = "gone"
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
	// call frees.
	call func(ctx context.Context) error
}

// dispose frees what is ours. It calls only right after a look that says that
// it still is; calls again only once no earlier call can be at work any more,
// since by then it might free what was given to somebody else; and returns
// once a look says that it is not ours any more.
func dispose(ctx context.Context, p *Protocol, r releasing) (standing, error) {
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
			// a moment after an allocation (272).
			r.openUntil = p.clock.Now()
			if err := p.pause(ctx, p.timing.Look); err != nil {
				return ours, err
			}
		case metal.Uncertain:
			r.openUntil = p.clock.Now().Add(p.timing.Lost)
			klog.FromContext(ctx).Info("The answer of a release was lost: looking for its outcome", "what", r.what, "until", r.openUntil)
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

// settleFree looks until it is not ours any more, or until no earlier call can
// be at work.
func settleFree(ctx context.Context, p *Protocol, r releasing) (standing, error) {
	pause := p.timing.Look
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
