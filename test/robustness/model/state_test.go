// SPDX-License-Identifier: Apache-2.0

package model

// The phases of a record. forgotten is that of one that was deleted.
const (
	claim uint8 = iota
	allocating
	allocated
	releasing
	released
	forgotten
)

// record is what the ledger has of the object.
type record struct {
	phase, attempt uint8
	// machine and uuid are the allocation that it names; machine 0: none.
	machine, uuid uint8
	// open: it has a StartTime, of age ticks, as long as that matters.
	open bool
	age  uint8
}

// Who a machine is allocated to.
const (
	nobody uint8 = iota
	us
	them
)

// machine is one of the metal-api's.
type machine struct {
	owner uint8
	// uuid counts its allocations.
	uuid uint8
	// idle is for how long it has been free.
	idle uint8
}

// The places in a server at which it can be stopped, or die.
const (
	idle uint8 = iota

	allocSettle
	allocBegin
	allocLook
	allocLooked
	allocChecked
	allocWait
	allocGiveUp
	allocFinish
	resumeLook

	freeBegin
	freeFind
	freeName
	freeSettle
	freeBeginAnew
	freeLook
	freeLooked
	freeChecked
	freeWait
	freeHold
	freeDone

	sweepLook
	sweepLooked
	sweepChecked
	sweepWait
	sweepSettle
)

// swaps are the places at which the next step is a compare-and-swap.
var swaps = [sweepSettle + 1]bool{
	allocBegin: true, allocGiveUp: true, allocFinish: true,
	freeBegin: true, freeName: true, freeBeginAnew: true, freeHold: true, freeDone: true,
}

// certain: nothing is open, and no look is needed.
const certain = -1

// server is one process.
type server struct {
	at uint8
	// phase is that of the record when it was read, for a release.
	phase uint8
	// attempt is the last that it saw or began.
	attempt uint8
	// wait is how long an open call may still be at work; certain: none is.
	wait int8
	// age is the time since it recorded that it is about to call.
	age uint8
	// start is the age of the release that it saw or began; certain: none.
	start int8
	// machine and uuid are what it works on.
	machine, uuid uint8
	// tries are the calls of this operation.
	tries uint8
	// late: the swap was under way when the Lease was lost, against seen.
	late bool
	seen record
	// sweepDelay is how long it sweeps nothing.
	sweepDelay uint8
}

// Verbs and stages of a call of the metal-api.
const (
	toAllocate uint8 = iota + 1
	toFree
	toSweep
)

const (
	working uint8 = iota
	done
	refused
)

// orphan: the client of the call is gone.
const orphan = 2

// request is a call of the metal-api that it may be working on.
type request struct {
	verb, from, stage uint8
	// left is how long the client waits, or the metal-api works.
	left uint8
	// machine and uuid are what is to be freed, or was allocated.
	machine, uuid uint8
}

// state is all that there is. It is comparable.
type state struct {
	record   record
	servers  [2]server
	machines [2]machine
	requests [4]request
	active   uint8
	// unwanted: the object was deleted.
	unwanted bool
	left     budget
}

// budget is what may still go wrong.
type budget struct {
	takeovers, crashes, losses, refusals, stalls, lateCalls, deletions, foreignFrees, foreignAllocations uint8
}

// send adds a request; they are kept in order, so that equal states are equal.
func (s *state) send(r request) {
	for i := range s.requests {
		if s.requests[i].verb == 0 {
			s.requests[i] = r
			s.sort()
			return
		}
	}
	panic("more calls at a time than the model has room for")
}

func (s *state) sort() {
	less := func(a, b request) bool {
		x := [...]uint8{a.verb, a.from, a.stage, a.left, a.machine, a.uuid}
		y := [...]uint8{b.verb, b.from, b.stage, b.left, b.machine, b.uuid}
		for i := range x {
			if x[i] != y[i] {
				return x[i] > y[i]
			}
		}
		return false
	}
	for i := 1; i < len(s.requests); i++ {
		for j := i; j > 0 && less(s.requests[j], s.requests[j-1]); j-- {
			s.requests[j], s.requests[j-1] = s.requests[j-1], s.requests[j]
		}
	}
}

// leave ends the operation of a server.
func (s *server) leave() { *s = server{sweepDelay: s.sweepDelay} }

// tidy forgets what does not matter any more, so that states are equal which
// nothing can distinguish.
func (s *server) tidy() {
	was := *s
	*s = server{at: was.at, sweepDelay: was.sweepDelay, late: was.late, seen: was.seen}
	switch was.at {
	case allocSettle, allocBegin, allocLook, allocLooked, allocChecked, allocWait, allocGiveUp, allocFinish, resumeLook, freeBegin, freeFind:
		s.attempt = was.attempt
	}
	switch was.at {
	case allocSettle, resumeLook, freeBegin, freeFind, freeName, freeSettle, sweepSettle:
		s.wait = was.wait
	}
	switch was.at {
	case allocLook, allocLooked, allocChecked, freeFind, freeName, freeLook, freeLooked, freeChecked, sweepLook, sweepLooked, sweepChecked:
		s.age = was.age
	}
	switch was.at {
	case freeBegin, freeFind, freeName:
		s.phase = was.phase
	}
	if was.at >= allocFinish && was.at != resumeLook && was.at != freeDone {
		s.machine, s.uuid = was.machine, was.uuid
	}
	if was.at >= freeBegin && was.at < freeDone {
		s.start = was.start
	}
	if was.at != allocFinish && was.at != freeDone {
		s.tries = was.tries
	}
}

// ours is true for the machine in the very allocation.
func (s *state) ours(machine, uuid uint8) bool {
	m := s.machines[machine-1]
	return m.owner == us && m.uuid == uuid
}

// suspect is a machine that carries the identity, and that the record does not
// name although it names one, or none any more.
func (s *state) suspect() (machine, uuid uint8, ok bool) {
	if s.record.phase != allocated && s.record.phase != released {
		return 0, 0, false
	}
	for i, m := range s.machines {
		named := s.record.phase == allocated && s.record.machine == uint8(i+1) && s.record.uuid == m.uuid
		if m.owner == us && !named {
			return uint8(i + 1), m.uuid, true
		}
	}
	return 0, 0, false
}

// quiet: nobody does anything, or has anything to do.
func (s *state) quiet(b *bounds) bool {
	for i := range s.servers {
		if s.servers[i].at != idle {
			return false
		}
	}
	if s.requests[0].verb != 0 {
		return false
	}
	if _, _, ok := s.suspect(); ok {
		return false
	}
	switch {
	case !s.unwanted:
		return s.record.phase == allocated
	case b.kept:
		return s.record.phase == released
	}
	return s.record.phase == forgotten
}
