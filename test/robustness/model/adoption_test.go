// SPDX-License-Identifier: Apache-2.0

package model

// The second model is of adoption: two objects, a Recoverer, and one thing - a
// machine, a network or an address - that another client allocated before. The second
// object names it; the first one has it, wants it as well, or would find it by
// the identity that it carries. Each step of allocateMachineLike, adopt and
// releaseDuplicate is one here, and any of them may be the last of its server.

// precaution is something that adoption keeps to, and that a test can break.
type precaution int

const (
	_ precaution = iota // none
	// An attempt is recorded before others are asked (beginAttempt, adopt).
	recordsBeforeAsking
	// What another record names is not found (find, findNetwork, findAddress).
	findsNothingOfOthers
	// Others' attempts that are about to get the thing count (refersToMachine, refersTo).
	countsAttempts
	// Its identity counts in every phase of another's record (refersToMachine, refersTo).
	countsIdentities
	// It is looked at once more after others were asked (check, adopt).
	looksOnceMore
	// The Recoverer asks whether another record names a duplicate (releaseDuplicate),
	asksBeforeSweeping
	// and does so before it looks.
	asksBeforeLooking
)

// beginning is what there is before anything happens.
type beginning struct {
	thing         thing
	first, second wish
	// names: the first object names the thing, too.
	names bool
}

// The beginnings that are explored. The thing is in its first allocation.
var (
	byHand    = beginning{thing: thing{owner: us, uuid: 1}, names: true}
	held      = beginning{thing: thing{owner: us, uuid: 1, of: 1}, first: wish{phase: allocated, uuid: 1}}
	restored  = beginning{thing: thing{owner: us, uuid: 1, of: 1}}
	lostReply = beginning{thing: thing{owner: us, uuid: 1, of: 1}, first: wish{phase: allocating}}
	duplicate = beginning{thing: thing{owner: us, uuid: 1, of: 1}, first: wish{phase: allocated, uuid: another}}
	handed    = beginning{thing: thing{owner: us, uuid: 1, of: 1}, second: wish{phase: allocated, uuid: 1}}
	copied    = beginning{
		thing: thing{owner: us, uuid: 1, of: 1}, first: wish{phase: allocated, uuid: another}, second: wish{phase: allocated, uuid: 1},
	}
)

// adopting are the bounds of an exploration of adoption.
type adopting struct {
	beginning
	// crashes of servers, losses of answers.
	crashes, losses uint8
	// foreignFrees are frees of the thing by other clients; foreignAllocations
	// allocate it for another project, or by hand in ours.
	foreignFrees, foreignAllocations uint8
	// hasty: a record is deleted while the Recoverer frees a duplicate of it.
	hasty  bool
	broken precaution
}

// thing is what the second object names.
type thing struct {
	owner uint8
	// uuid counts its allocations.
	uuid uint8
	// of is the number of the object whose identity it carries, from 1; 0: none.
	of uint8
}

// another is what a record names that names another thing.
const another = 9

// wish is a record. uuid is the allocation of the thing that it names; 0: none.
type wish struct{ phase, uuid uint8 }

// Who works: one server for each object, and the Recoverer for the first.
const (
	first uint8 = iota
	second
	recoverer
	administrator
)

// The places at which a worker can be stopped.
const (
	adoptBegin uint8 = iota + 1
	adoptFind
	adoptLook
	adoptAsk
	adoptLookAgain
	adoptFinish
	adoptGiveUp
	giveBegin
	giveFind
	giveSettle
	giveLook
	giveCall
	giveWait
	giveDone
	dupAsk
	dupLook
	dupCall
	dupWait
)

// worker is an operation under way, and what it saw.
type worker struct {
	at   uint8
	seen thing
}

// Stages of a call that frees. An abandoned one is at work, and nobody waits.
const (
	noCall uint8 = iota
	atWork
	abandoned
	answered
)

// freeing is a call that frees the thing, whatever allocation it is in by then.
type freeing struct{ stage, uuid uint8 }

// adoptionState is all that there is. It is comparable.
type adoptionState struct {
	thing    thing
	records  [2]wish
	unwanted [2]bool
	workers  [3]worker
	calls    [3]freeing
	left     struct{ crashes, losses, foreignFrees, foreignAllocations uint8 }
}

func (a adopting) explore() found {
	s := adoptionState{thing: a.thing, records: [2]wish{a.first, a.second}}
	s.left.crashes, s.left.losses, s.left.foreignFrees, s.left.foreignAllocations = a.crashes, a.losses, a.foreignFrees, a.foreignAllocations
	return space[adoptionState]{
		start: s, next: a.next, wrong: a.wrong, quiet: a.quiet,
		who: []string{"first", "second", "Recoverer", "administrator"},
	}.explore()
}

func (a adopting) keeps(p precaution) bool { return a.broken != p }

// names reports whether an object names the thing.
func (a adopting) names(o uint8) bool { return o == second || a.beginning.names }

// stands reports whether another object's record stands for the thing as it was
// seen (refersToMachine, refersTo).
func (a adopting) stands(r wish, o uint8, seen thing) bool {
	identity := seen.of == o+1
	switch r.phase {
	case forgotten:
		return false
	case allocating:
		return identity || (a.names(o) && a.keeps(countsAttempts))
	case allocated, releasing:
		if r.uuid == seen.uuid {
			return true
		}
	}
	return identity && a.keeps(countsIdentities)
}

// finds reports whether an object finds the thing by its identity.
func (a adopting) finds(s *adoptionState, o uint8) bool {
	other := s.records[1-o]
	held := (other.phase == allocated || other.phase == releasing) && other.uuid == s.thing.uuid
	return s.thing.owner == us && s.thing.of == o+1 && !(held && a.keeps(findsNothingOfOthers))
}

// wrong says which promise a state breaks.
func (a adopting) wrong(s *adoptionState) string {
	holders := 0
	for _, r := range s.records {
		switch there := s.thing.owner == us && r.uuid == s.thing.uuid; {
		case r.phase != allocated || r.uuid == another:
		case there:
			holders++
		case a.foreignFrees == 0 && a.quiet(s):
			return "a record names what was given back"
		}
	}
	if holders > 1 {
		return "two objects have it"
	}
	return ""
}

// quiet: nobody does anything, or has anything to do but to ask once more for
// what is another's.
func (a adopting) quiet(s *adoptionState) bool {
	if s.workers != [3]worker{} || s.calls != [3]freeing{} || a.suspects(s) {
		return false
	}
	for o, r := range s.records {
		switch {
		case s.unwanted[o] && r.phase != forgotten:
			return false
		case !s.unwanted[o] && r.phase != allocated && (r.phase != claim || a.finds(s, uint8(o))):
			return false
		}
	}
	return true
}

// suspects reports whether the thing is a duplicate of the first object's.
func (a adopting) suspects(s *adoptionState) bool {
	r := s.records[first]
	settled := r.phase == released || (r.phase == allocated && r.uuid != s.thing.uuid)
	return settled && s.thing.owner == us && s.thing.of == first+1
}
