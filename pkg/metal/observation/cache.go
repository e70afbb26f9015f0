package observation

import (
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// how a look saw what it saw.
type how int

const (
	// inList: a list or a find by anything else than the id.
	inList how = iota
	// byGet: a GET of the very id that answered 200.
	byGet
	// byFind: a find of the very id.
	byFind
	// byWrite: the answer of our own write.
	byWrite
)

// moment is the place of a look in the order of looks.
type moment struct {
	// seq grows with every look and write, in the order in which looks began.
	seq uint64
	// began is when.
	began time.Time
}

// held is what is known of one piece of metal.
type held[T any] struct {
	fact     *T // nil unless Present
	presence metal.Presence
	// seq is of the look or write that brought the fact.
	seq uint64
	// looked is when the last look began that bears the fact out; zero: never.
	looked time.Time
	// changed is when the fact last changed, as far as is known.
	changed time.Time
	// doubted is the seq of the first look that did not show what the fact
	// shows, 0 if there is none. The fact stays until a second look agrees.
	doubted uint64
	// doubt is how that look looked.
	doubt how
	// ghost: a GET answers 404, a find shows it (docs/metal-api.md, Q24).
	ghost bool
	// learned is the answer of a write that is already known.
	learned *T
}

// shelf holds one kind of metal.
type shelf[T any] struct {
	held map[string]*held[T]
	// gone tells whether after shows that what before showed is gone; either
	// can be nil.
	gone func(before, after *T) bool
	// same tells whether nothing changed that anyone is told of.
	same func(before, after *T) bool
	// moved is told every change of a fact, for indexes and listeners.
	moved func(id string, before, after *T)
	// guarded: whether what is shown of the fact is worth a second look.
	guarded func(id string, fact *T) bool
}

func (s *shelf[T]) of(id string, now time.Time) *held[T] {
	h := s.held[id]
	if h == nil {
		h = &held[T]{presence: metal.Unseen, changed: now}
		s.held[id] = h
	}
	return h
}

// take takes in what a look saw of id: a fact, or nil if it did not show it.
// It returns true if that is in doubt and wants a second look.
func (s *shelf[T]) take(id string, fact *T, m moment, by how) (doubtful bool) {
	h := s.of(id, m.began)
	if m.seq < h.seq {
		// A slower, older look, or one that began before a write of ours ended.
		return h.doubted != 0
	}
	contrary := h.presence != metal.Gone && s.gone(h.fact, fact)
	if contrary && by != byWrite && s.guarded(id, h.fact) {
		if h.doubted == 0 {
			h.doubted, h.doubt = m.seq, by
			return true
		}
		if by != byFind || m.seq <= h.doubted {
			return true
		}
	}
	if h.doubted != 0 && m.seq < h.doubted {
		// It was there before it was missed; that says nothing of now.
		return true
	}
	h.doubted = 0
	h.seq, h.looked = m.seq, m.began
	before, was := h.fact, h.presence
	h.fact, h.presence = fact, metal.Present
	if fact == nil {
		h.presence = metal.Gone
	}
	if h.presence != was || !s.same(before, fact) {
		h.changed = m.began
		s.moved(id, before, fact)
	}
	return false
}

// lacking takes in that a complete look, which would have shown id, did not.
func (s *shelf[T]) lacking(id string, m moment) (doubtful bool) {
	if h := s.held[id]; h == nil || h.presence == metal.Gone {
		return false
	}
	return s.take(id, nil, m, inList)
}
