package observation

import (
	"context"
	"errors"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// timed makes one call of a look: under the limit of parallel calls, at a
// moment of its own, on an account. hits is for the estimates of costs.
func timed[T any](ctx context.Context, o *Observer, a *account, k call, hits func(T) int, f func(context.Context) (T, error)) (T, moment, error) {
	var none T
	limit := o.wide
	if k.sideBySide() {
		limit = o.narrow
	}
	if err := acquire(ctx, limit); err != nil {
		return none, moment{}, err
	}
	m := o.facts.next(o.opts.Clock.Now())
	began := o.costs.begin(k)
	measured, wait := metal.WithAnswerTime(ctx)
	answer, err := f(measured)
	took := wait.Total()
	lost := noAnswer(err)
	exception := o.costs.end(k, began, !lost)
	n := 1
	if err == nil {
		n = hits(answer)
	}
	slow := o.costs.slow(k, n, took)
	limit.release(m.began, o.opts.Clock.Now(), slow)
	if slow && !exception && (lost || !k.sideBySide()) {
		a.slowed()
	}
	switch {
	case lost:
		a.add(o.lost(k, m.began, took, exception, err))
	case err != nil:
		a.add(took)
		o.answered()
	default:
		o.answered()
		if k == callList {
			o.costs.counted(n)
		}
		if k.sideBySide() {
			a.addTogether(k, took, exception)
			break
		}
		if !exception {
			o.costs.learn(k, n, took)
		}
		a.add(took)
	}
	return answer, m, err
}

type startKey struct{}

// startingBy returns a context under which a call does not begin if it would have
// to wait for others until after t. Calls that have begun go on.
func startingBy(ctx context.Context, t time.Time) context.Context {
	return context.WithValue(ctx, startKey{}, t)
}

func acquire(ctx context.Context, l *limiter) error {
	by, limited := ctx.Value(startKey{}).(time.Time)
	if !limited {
		return l.acquire(ctx)
	}
	waiting, cancel := context.WithDeadline(ctx, by)
	defer cancel()
	err := l.acquire(waiting)
	if err != nil && ctx.Err() == nil {
		return metal.ErrTooSlow
	}
	return err
}

// lost takes in that a call got no answer, and returns what it is booked at. The
// metal-api works on for who gave up waiting, so that costs what was waited, at
// least; unless it answers nobody: then it is away, and works for nobody.
func (o *Observer) lost(k call, began time.Time, took time.Duration, exception bool, err error) time.Duration {
	gone := o.away.since(began)
	timeout := errors.Is(err, context.DeadlineExceeded)
	if !timeout || !o.costs.answeredSince(began) {
		o.away.missed(err)
	}
	switch {
	case notSent(err):
		return 0
	case gone:
		return min(took, o.costs.of(k, 1))
	case timeout && !exception:
		o.costs.missed(k, 1, took)
	}
	return took
}

func noAnswer(err error) bool {
	e, ok := errors.AsType[*metal.Error](err)
	return ok && e.Unanswered()
}

func notSent(err error) bool {
	e, ok := errors.AsType[*metal.Error](err)
	return ok && e.NotSent
}

// answered notes that the metal-api answers, and sweeps at once if it did not.
func (o *Observer) answered() {
	if o.away.reached() {
		o.sweepNow()
	}
}

func (o *Observer) sweepNow() {
	select {
	case o.kick <- struct{}{}:
	default:
	}
}

func single[T any](T) int     { return 1 }
func length[T any](s []T) int { return len(s) }
