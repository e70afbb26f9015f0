// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"context"
	"errors"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// timedCall makes one call of an observation: under the limit of parallel calls, at a
// moment of its own, on an account. hits is for the estimates of costs.
func timedCall[T any](ctx context.Context, o *Observer, a *costTally, k callKind, hits func(T) int, f func(context.Context) (T, error)) (T, observationTime, error) {
	var none T
	limit := o.bulkLimiter
	if k.isConcurrent() {
		limit = o.getLimiter
	}
	if err := acquire(ctx, limit); err != nil {
		return none, observationTime{}, err
	}
	m := o.facts.nextObservation(o.opts.Clock.Now())
	began := o.costs.start(k)
	measured, wait := metal.WithAnswerTime(ctx)
	answer, err := f(measured)
	lost := isUnanswered(err)
	exception := o.costs.finish(k, began, !lost)
	n := 1
	if err == nil {
		n = hits(answer)
	}
	took := o.costs.answerTime(k, n, wait)
	slow := o.costs.isSlow(k, n, took)
	limit.release(m.start, o.opts.Clock.Now(), slow)
	if slow && !exception && (lost || !k.isConcurrent()) {
		a.markSlow()
	}
	switch {
	case lost:
		a.add(o.recordUnanswered(k, m.start, took, exception, err))
	case err != nil:
		a.add(took)
		o.recordAnswered()
	default:
		o.recordAnswered()
		if k == callList {
			o.costs.setFleetSize(n)
		}
		if k.isConcurrent() {
			a.addConcurrent(k, took, exception)
			break
		}
		if !exception {
			o.costs.recordCost(k, n, took)
		}
		a.add(took)
	}
	return answer, m, err
}

type startDeadlineKey struct{}

// withStartDeadline returns a context under which a call does not begin if it would have
// to wait for others until after t. Calls that have begun go on.
func withStartDeadline(ctx context.Context, t time.Time) context.Context {
	return context.WithValue(ctx, startDeadlineKey{}, t)
}

func acquire(ctx context.Context, l *limiter) error {
	by, limited := ctx.Value(startDeadlineKey{}).(time.Time)
	if !limited {
		return l.acquire(ctx)
	}
	waiting, cancel := context.WithDeadline(ctx, by)
	defer cancel()
	err := l.acquire(waiting)
	if err != nil && ctx.Err() == nil {
		return metal.ErrTimeout
	}
	return err
}

// recordUnanswered records that a call got no answer, and returns what it is charged. The
// metal-api works on for who gave up waiting, so that costs what was waited, at
// least; unless it answers no call: then it is unavailable, and works on no call.
func (o *Observer) recordUnanswered(k callKind, began time.Time, took time.Duration, exception bool, err error) time.Duration {
	gone := o.breaker.wasOpenSince(began)
	timeout := errors.Is(err, context.DeadlineExceeded)
	switch {
	case isStatus(err):
		o.breaker.recordFailureStatus(err)
	case !timeout || !o.costs.answeredSince(began):
		o.breaker.recordFailure(err)
	}
	switch {
	case isNotSent(err):
		return 0
	case gone:
		return min(took, o.costs.cost(k, 1))
	case timeout && !exception:
		o.costs.recordTimeout(k, 1, took)
	}
	return took
}

func isUnanswered(err error) bool {
	e, ok := errors.AsType[*metal.Error](err)
	return ok && e.Unanswered()
}

// isStatus reports whether something answered for the metal-api, such as a proxy.
func isStatus(err error) bool {
	e, ok := errors.AsType[*metal.Error](err)
	return ok && e.Status != 0
}

func isNotSent(err error) bool {
	e, ok := errors.AsType[*metal.Error](err)
	return ok && e.NotSent
}

// recordAnswered notes that the metal-api answers, and sweeps at once if it did not.
func (o *Observer) recordAnswered() {
	if o.breaker.recordSuccess() {
		o.requestSweep()
	}
}

func (o *Observer) requestSweep() {
	select {
	case o.sweepRequests <- struct{}{}:
	default:
	}
}

func countOne[T any](T) int     { return 1 }
func countAll[T any](s []T) int { return len(s) }
