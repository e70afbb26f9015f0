// SPDX-License-Identifier: Apache-2.0

package model

import "slices"

// next returns all that can come after s.
func (a adopting) next(s adoptionState) []step[adoptionState] {
	var steps []step[adoptionState]
	for who := range uint8(len(s.workers)) {
		if who == recoverer {
			steps = append(steps, a.sweep(s)...)
		} else {
			steps = append(steps, a.work(s, who)...)
		}
		steps = append(steps, a.metal(s, who)...)
		if s.workers[who].at != idle && s.left.crashes > 0 {
			t := s
			t.left.crashes--
			t.end(who)
			steps = append(steps, step[adoptionState]{who: who, what: "crashes", to: t})
		}
	}
	return append(steps, a.administrator(s)...)
}

// end ends an operation. Its call, if one is at work, is nobody's from now on.
func (s *adoptionState) end(who uint8) {
	s.workers[who] = worker{}
	if s.calls[who].stage == atWork {
		s.calls[who].stage = abandoned
	} else if s.calls[who].stage == answered {
		s.calls[who] = freeing{}
	}
}

// on is a step that leads to a place.
func (s adoptionState) on(who uint8, what string, at uint8) []step[adoptionState] {
	if s.workers[who].at = at; at == idle {
		s.end(who)
	}
	return []step[adoptionState]{{who: who, what: what, to: s}}
}

// work makes the steps of an object's server: one way on from each place.
func (a adopting) work(s adoptionState, who uint8) []step[adoptionState] {
	on := func(what string, at uint8) []step[adoptionState] { return s.on(who, what, at) }
	v, r := &s.workers[who], &s.records[who]
	switch v.at {
	case idle:
		switch {
		case s.unwanted[who] && r.phase == releasing:
			return on("takes up a release", giveSettle)
		case s.unwanted[who] && r.phase != released && r.phase != forgotten:
			return on("is asked to release", giveBegin)
		case !s.unwanted[who] && (r.phase == claim || r.phase == allocating):
			return on("is asked to allocate", adoptBegin)
		}
		return nil
	case adoptBegin:
		if a.keeps(recordsBeforeAsking) {
			r.phase = allocating
		}
		return on("records an attempt", adoptFind)
	case adoptFind:
		switch v.seen = s.thing; {
		case a.finds(&s, who):
			return on("finds what carries its identity", adoptFinish)
		case a.names(who):
			return on("finds nothing that carries its identity", adoptLook)
		}
		v.seen = thing{uuid: another}
		return on("finds nothing, and allocates another one", adoptFinish)
	case adoptLook:
		if v.seen = s.thing; s.thing.owner != us {
			return on("looks, and sees that it is not to be had", adoptGiveUp)
		}
		return on("looks at what it names", adoptAsk)
	case adoptAsk:
		if a.stands(s.records[1-who], 1-who, v.seen) {
			return on("asks, and sees that it is the other's", adoptGiveUp)
		}
		return on("asks whose it is, and sees that it is nobody's", adoptLookAgain)
	case adoptLookAgain:
		if a.keeps(looksOnceMore) && (s.thing.owner != us || s.thing.uuid != v.seen.uuid) {
			return on("looks again, and sees that it was given back", adoptGiveUp)
		}
		return on("looks again", adoptFinish)
	case adoptFinish:
		if r.phase == allocating || !a.keeps(recordsBeforeAsking) {
			r.phase, r.uuid = allocated, v.seen.uuid
		}
		return on("records what it has", idle)
	case adoptGiveUp:
		if r.phase == allocating {
			r.phase = claim
		}
		return on("gives up", idle)
	}
	return a.give(s, who)
}

// give makes the steps of a release.
func (a adopting) give(s adoptionState, who uint8) []step[adoptionState] {
	on := func(what string, at uint8) []step[adoptionState] { return s.on(who, what, at) }
	r := &s.records[who]
	ours := s.thing.owner == us && s.thing.uuid == r.uuid
	switch s.workers[who].at {
	case giveBegin:
		was := r.phase
		r.phase = releasing
		switch {
		case r.uuid == another:
			return on("records a release of another one", giveDone)
		case was == claim:
			return on("records a release of nothing", giveDone)
		case r.uuid == 0:
			return on("records a release", giveFind)
		}
		return on("records a release", giveLook)
	case giveFind:
		if a.finds(&s, who) {
			r.uuid = s.thing.uuid
			return on("finds what an attempt left", giveLook)
		}
		return on("finds nothing", giveDone)
	case giveSettle:
		switch {
		case s.calls[who].stage != noCall:
			return nil // until nothing can be at work any more
		case r.uuid == 0:
			return on("knows that nothing is at work", giveFind)
		}
		return on("knows that nothing is at work", giveLook)
	case giveLook:
		if !ours {
			return on("looks, and sees that it is not ours any more", giveDone)
		}
		return on("looks, and sees that it is ours", giveCall)
	case giveCall:
		s.calls[who] = freeing{atWork, r.uuid}
		return on("calls to free it", giveWait)
	case giveWait:
		if s.calls[who].stage != answered {
			return nil
		}
		s.calls[who] = freeing{}
		return on("gets the answer that it is free", giveDone)
	case giveDone:
		*r = wish{phase: released}
		return on("records that it is released", idle)
	}
	panic("a place without a step")
}

// sweep makes the steps of the Recoverer, which frees duplicates of the first's.
func (a adopting) sweep(s adoptionState) []step[adoptionState] {
	on := func(what string, at uint8) []step[adoptionState] { return s.on(recoverer, what, at) }
	v := &s.workers[recoverer]
	order := []uint8{dupAsk, dupLook, dupCall}
	if !a.keeps(asksBeforeLooking) {
		order = []uint8{dupLook, dupAsk, dupCall}
	}
	after := func(at uint8) uint8 { return order[slices.Index(order, at)+1] }
	switch v.at {
	case idle:
		// A predecessor's call is waited for.
		if !a.suspects(&s) || s.calls[recoverer].stage != noCall {
			return nil
		}
		v.seen = s.thing
		return on("suspects a duplicate", order[0])
	case dupAsk:
		if a.keeps(asksBeforeSweeping) && a.stands(s.records[second], second, v.seen) {
			return on("asks, and sees that the other's record names it", idle)
		}
		return on("asks, and sees that no record names it", after(dupAsk))
	case dupLook:
		if !a.suspects(&s) || s.thing != v.seen {
			return on("looks, and sees that it is none", idle)
		}
		return on("looks, and sees that it is one", after(dupLook))
	case dupCall:
		s.calls[recoverer] = freeing{atWork, v.seen.uuid}
		return on("calls to free it", dupWait)
	}
	if s.calls[recoverer].stage != answered {
		return nil
	}
	return on("gets the answer that it is free", idle)
}

// metal works on a call that frees, and answers.
func (a adopting) metal(s adoptionState, who uint8) (steps []step[adoptionState]) {
	c := s.calls[who]
	if c.stage != atWork && c.stage != abandoned {
		return nil
	}
	t := s
	if t.calls[who].stage = answered; c.stage == abandoned {
		t.calls[who] = freeing{}
	}
	wrong := ""
	switch {
	case s.thing.owner == them:
		wrong = "another client's was freed"
	case s.thing.owner == us && s.thing.uuid != c.uuid:
		wrong = "it was freed in another allocation"
	case s.thing.owner == us:
		for o, r := range s.records {
			if uint8(o) != who && r.phase == allocated && r.uuid == c.uuid {
				wrong = "it was freed, and the " + [...]string{"first", "second"}[o] + " object has it"
			}
		}
	case a.foreignFrees == 0:
		wrong = "it was freed, and was nobody's"
	}
	if t.thing.owner != them {
		t.thing.owner, t.thing.of = nobody, 0
	}
	steps = append(steps, step[adoptionState]{who: who, what: "the metal-api frees it", to: t, wrong: wrong})
	if c.stage == abandoned {
		t = s
		t.calls[who] = freeing{}
		steps = append(steps, step[adoptionState]{who: who, what: "the metal-api gives up a call that no client waits for", to: t})
	} else if s.left.losses > 0 {
		t = s
		t.left.losses--
		t.calls[who].stage = abandoned
		if t.workers[who].at = giveSettle; who == recoverer {
			t.workers[who] = worker{}
		}
		steps = append(steps, step[adoptionState]{who: who, what: "the answer is lost", to: t})
	}
	return steps
}

// administrator is what another client of the metal-api does.
func (a adopting) administrator(s adoptionState) (steps []step[adoptionState]) {
	add := func(what string, to adoptionState) {
		steps = append(steps, step[adoptionState]{who: administrator, what: what, to: to})
	}
	for o := range s.records {
		name := [...]string{"first", "second"}[o]
		t := s
		switch sweeping := s.workers[recoverer].at != idle || s.calls[recoverer].stage != noCall; {
		case !s.unwanted[o]:
			t.unwanted[o] = true
			add("the "+name+" object is deleted", t)
		case s.records[o].phase == released && (a.hasty || o != int(first) || !sweeping):
			t.records[o] = wish{phase: forgotten}
			add("the record of the "+name+" object is deleted", t)
		}
	}
	if s.thing.owner == us && s.left.foreignFrees > 0 {
		t := s
		t.left.foreignFrees--
		t.thing.owner, t.thing.of = nobody, 0
		add("an administrator frees it", t)
	}
	// The metal-api frees without a condition: it takes the time in which a freed
	// machine is wiped.
	for who, v := range s.workers {
		if v.at == giveCall || v.at == dupCall || s.calls[who].stage == atWork || s.calls[who].stage == abandoned {
			return steps
		}
	}
	if s.thing.owner == nobody && s.left.foreignAllocations > 0 {
		t := s
		t.left.foreignAllocations--
		t.thing = thing{owner: them, uuid: s.thing.uuid + 1}
		add("it is allocated to another project", t)
		t.thing.owner = us
		add("an administrator allocates it by hand in our project", t)
	}
	return steps
}
