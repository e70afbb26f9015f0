// SPDX-License-Identifier: Apache-2.0

package metal

import (
	"context"
	"sync/atomic"
	"time"
)

// AnswerTime adds up for how long calls wait for the metal-api: until the head
// of an answer arrives, and then for the rest of it. The time in between, in
// which the answer is decoded, is this process's own. So is the delay: the part of
// the waits in which the answer was there, but not noticed, for want of a processor.
type AnswerTime struct {
	waited, delayed atomic.Int64
	// parent is that of the call which this one is a part of; nil: there is none.
	parent *AnswerTime
}

type answerTimeKey struct{}

// WithAnswerTime returns a context in which the waits of calls are added to the
// returned AnswerTime, and to that of the parent context, if it has one.
func WithAnswerTime(ctx context.Context) (context.Context, *AnswerTime) {
	t := &AnswerTime{parent: AnswerTimeOf(ctx)}
	return context.WithValue(ctx, answerTimeKey{}, t), t
}

// AnswerTimeOf returns what a backend adds the waits of the calls under the
// context to; nil: they are not measured.
func AnswerTimeOf(ctx context.Context) *AnswerTime {
	t, _ := ctx.Value(answerTimeKey{}).(*AnswerTime)
	return t
}

// Add adds a wait.
func (t *AnswerTime) Add(d time.Duration) {
	for ; t != nil; t = t.parent {
		t.waited.Add(int64(d))
	}
}

// AddDelay adds the delay of waits that are added by Add.
func (t *AnswerTime) AddDelay(d time.Duration) {
	for ; t != nil; t = t.parent {
		t.delayed.Add(int64(d))
	}
}

// Total is how long the calls have waited.
func (t *AnswerTime) Total() time.Duration { return time.Duration(t.waited.Load()) }

// Delay is which part of Total was a delay in this process, as far as is known.
func (t *AnswerTime) Delay() time.Duration { return time.Duration(t.delayed.Load()) }
