// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// source is the kind of call that an observation was made by.
type source int

const (
	// sourceList: a list or a find by anything else than the id.
	sourceList source = iota
	// sourceGet: a GET of the very id that answered 200.
	sourceGet
	// sourceFind: a find of the very id.
	sourceFind
	// sourceWrite: the answer of our own write.
	sourceWrite
)

// observationTime is the place of an observation in the order of observations.
type observationTime struct {
	// seq grows with every observation and write, in the order in which observations began.
	seq uint64
	// start is when.
	start time.Time
}

// entry is what is known of one piece of metal.
type entry[T any] struct {
	fact     *T // nil unless Present
	presence metal.Presence
	// seq is of the observation or write that brought the fact.
	seq uint64
	// observedAt is when the last observation began that agrees with the fact; zero: never.
	observedAt time.Time
	// changedAt is when the fact last changed, as far as is known.
	changedAt time.Time
	// pendingSeq is the seq of the first observation that did not show what the fact
	// shows, 0 if there is none. The fact stays until a second observation agrees.
	pendingSeq uint64
	// pendingSource is the kind of that observation.
	pendingSource source
	// noEvents: a GET answers 404, a find shows it (docs/metal-api.md, Q24).
	noEvents bool
	// lastWrite is the answer of a write that is already known.
	lastWrite *T
}

// cache holds one kind of metal.
type cache[T any] struct {
	entries map[string]*entry[T]
	// disappeared reports whether after shows that what before showed is gone; either
	// can be nil.
	disappeared func(before, after *T) bool
	// equal reports whether nothing changed that listeners are notified of.
	equal func(before, after *T) bool
	// reuse returns after, which is equal to before, sharing with it what is the same; it
	// can be nil.
	reuse func(before, after *T) *T
	// onChange is notified of every change of a fact, for indexes and listeners.
	onChange func(id string, before, after *T)
	// onUpdate is notified of every new entry, and of every observation of one; it can be nil.
	onUpdate func(id string, e *entry[T])
	// needsVerification: whether its disappearance is to be verified by a second observation.
	needsVerification func(id string, fact *T) bool
}

func (c *cache[T]) getOrCreate(id string, now time.Time) *entry[T] {
	h := c.entries[id]
	if h == nil {
		h = &entry[T]{presence: metal.Unobserved, changedAt: now}
		c.entries[id] = h
		c.updated(id, h)
	}
	return h
}

func (c *cache[T]) updated(id string, h *entry[T]) {
	if c.onUpdate != nil {
		c.onUpdate(id, h)
	}
}

// apply records what an observation has shown of id: a fact, or nil if it did not show it.
// It returns true if that is pending verification and wants a second observation.
func (c *cache[T]) apply(id string, fact *T, m observationTime, by source) (pending bool) {
	h := c.getOrCreate(id, m.start)
	defer c.updated(id, h)
	if m.seq < h.seq {
		// A slower, older observation, or one that began before a write of ours ended.
		return h.pendingSeq != 0
	}
	contrary := h.presence != metal.Gone && c.disappeared(h.fact, fact)
	if contrary && by != sourceWrite && c.needsVerification(id, h.fact) {
		if h.pendingSeq == 0 {
			h.pendingSeq, h.pendingSource = m.seq, by
			return true
		}
		if by != sourceFind || m.seq <= h.pendingSeq {
			return true
		}
	}
	if h.pendingSeq != 0 && m.seq < h.pendingSeq {
		// It was there before it was missed; that says nothing of now.
		return true
	}
	h.pendingSeq = 0
	h.seq, h.observedAt = m.seq, m.start
	before, was := h.fact, h.presence
	h.fact, h.presence = fact, metal.Present
	if fact == nil {
		h.presence = metal.Gone
	}
	if h.presence != was || !c.equal(before, fact) {
		h.changedAt = m.start
		c.onChange(id, before, fact)
	} else if c.reuse != nil && before != nil {
		h.fact = c.reuse(before, fact)
	}
	return false
}

// applyAbsence records that a complete observation, which would have shown id, did not.
func (c *cache[T]) applyAbsence(id string, m observationTime) (pending bool) {
	if h := c.entries[id]; h == nil || h.presence == metal.Gone {
		return false
	}
	return c.apply(id, nil, m, sourceList)
}
