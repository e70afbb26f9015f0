// SPDX-License-Identifier: Apache-2.0

package model

// next returns all that can come after s.
func (v services) next(s serviceState) []step[serviceState] {
	steps := v.release(s)
	for who := range uint8(len(s.calls)) {
		if who == ccm || who == otherCCM {
			steps = append(steps, v.request(s, who)...)
		}
		steps = append(steps, v.metal(s, who)...)
	}
	if s.left.crashes > 0 && (s.workers != [3]serviceWorker{} || s.lost != [4]bool{}) {
		steps = append(steps, step[serviceState]{who: release, what: "the server crashes", to: v.crash(s)})
	}
	return append(steps, v.outsider(s)...)
}

// crash ends all that is under way. A call that frees goes on without a client; a request of a
// metal-ccm has had its effect by then, or has none, unless it is late.
func (v services) crash(s serviceState) serviceState {
	s.left.crashes--
	s.workers, s.lock, s.lost = [3]serviceWorker{}, 0, [4]bool{}
	if s.calls[orphaned].verb != freeIt {
		s.calls[orphaned] = serviceCall{}
	}
	if s.calls[release].verb == freeIt {
		s.orphan()
	}
	s.calls[release] = serviceCall{}
	for _, who := range []uint8{ccm, otherCCM} {
		if c := &s.calls[who]; c.verb == v.late && (c.stage == atWork || c.stage == abandoned) {
			c.stage = abandoned
		} else {
			*c = serviceCall{}
		}
	}
	return s
}

// orphan takes its client from a call of the release.
func (s *serviceState) orphan() {
	if c := s.calls[release]; c.stage == atWork {
		c.stage = abandoned
		s.calls[orphaned] = c
	}
	s.calls[release] = serviceCall{}
}

// mayChange reports whether a call whose answer was lost may change the address.
func (s *serviceState) mayChange() bool {
	for i, lost := range s.lost {
		if c := s.calls[i]; lost && c.stage == abandoned && c.verb != allocateIt && c.uuid == s.address.uuid {
			return true
		}
	}
	return false
}

// on is a step that leads to a place.
func (s serviceState) on(who uint8, what string, at uint8) []step[serviceState] {
	if s.workers[who].at = at; at == idle {
		s.workers[who] = serviceWorker{}
		if s.lock == who+1 {
			s.lock = 0
		}
	}
	return []step[serviceState]{{who: who, what: what, to: s}}
}

// release makes the steps of the release: one way on from each place, and the refusal if a
// read fails.
func (v services) release(s serviceState) []step[serviceState] {
	steps := v.releaseSteps(s)
	at := s.workers[release].at
	if s.left.failures > 0 && (at == releaseList || at == releaseLook || at == releaseRead) {
		s.left.failures--
		s.forgotten = s.forgotten || !v.keeps(keepsStart) && s.calls[orphaned].stage != noCall
		steps = append(steps, s.on(release, "is refused, since a read fails", idle)...)
	}
	return steps
}

func (v services) releaseSteps(s serviceState) []step[serviceState] {
	on := func(what string, at uint8) []step[serviceState] { return s.on(release, what, at) }
	w := &s.workers[release]
	same := s.address.allocated && s.address.uuid == w.seen.uuid
	switch w.at {
	case idle:
		switch s.phase {
		case allocated:
			s.phase = releasing
			return on("is recorded", releaseAwait)
		case releasing:
			return on("is taken up", releaseAwait)
		}
		return nil
	case releaseSettle:
		if v.keeps(awaitsFrees) && !s.forgotten && s.calls[orphaned].stage != noCall && same && v.freeable(s.address, ours) {
			return nil
		}
		return on("knows that no free is at work", releaseLook)
	case releaseAwait:
		if v.keeps(awaitsRequests) && s.lock != 0 || v.keeps(awaitsLostRequests) && (s.lost[ccm] || s.lost[orphaned]) {
			return nil
		}
		return on("knows that no request is in progress", releaseList)
	case releaseList:
		switch w.seen = s.address; {
		case v.freeable(w.seen, ours):
			return on("lists an address that only the cluster has", releaseSettle)
		case w.seen.allocated && w.seen.tags&ours != 0:
			return on("lists an address that others have, too", releaseLock)
		}
		return on("lists no address of the cluster's", releaseDone)
	case releaseLook:
		if v.keeps(looksBeforeFreeing) && (!same || !v.freeable(s.address, ours)) {
			return on("looks, and sees that only the cluster does not have it any more", releaseAwait)
		}
		return on("looks, and sees that only the cluster has it", releaseFree)
	case releaseFree:
		s.calls[release] = serviceCall{stage: atWork, verb: freeIt, uuid: s.address.uuid}
		if !v.keeps(looksBeforeFreeing) {
			s.calls[release].uuid = w.seen.uuid
		}
		return on("calls to free it", releaseFreeWait)
	case releaseFreeWait, releaseReplaceWait:
		if s.calls[release].stage != answered {
			return nil
		}
		if s.calls[release] = (serviceCall{}); s.lock == release+1 {
			s.lock = 0
		}
		return on("gets the answer", releaseAwait)
	case releaseLock:
		if s.lock != 0 {
			return nil
		}
		s.lock = release + 1
		return on("begins to remove the cluster's tags", releaseRead)
	case releaseRead:
		if v.keeps(readsTagsBeforeReplacing) {
			if !same || s.address.tags&ours == 0 || v.keeps(freesWhatOthersLeft) && v.freeable(s.address, ours) {
				s.lock = 0
				return on("reads that it has none of the cluster's tags, or no others", releaseAwait)
			}
			if v.keeps(refusesLostAddresses) && s.mayChange() {
				return on("reads that a lost call may change it, and is refused", idle)
			}
			w.seen = s.address
		}
		return on("reads its tags", releaseReplace)
	case releaseReplace:
		s.calls[release] = serviceCall{stage: atWork, verb: untagIt, uuid: w.seen.uuid, tags: w.seen.tags &^ ours}
		return on("calls to replace its tags", releaseReplaceWait)
	case releaseDone:
		s.phase = released
		return on("is over", idle)
	}
	panic("a place without a step")
}

// request makes the steps of a request of a metal-ccm.
func (v services) request(s serviceState, who uint8) (steps []step[serviceState]) {
	on := func(what string, at uint8) []step[serviceState] { return s.on(who, what, at) }
	own, others := ours, theirs
	if who == otherCCM {
		own, others = theirs, ours
	}
	w := &s.workers[who]
	switch w.at {
	case idle:
		refused := who == ccm && s.phase != allocated && v.keeps(refusesRequests)
		if s.left.requests == 0 || s.lock != 0 || s.calls[who].stage != noCall || refused || s.phase == released && who == ccm {
			return nil
		}
		for i, what := range []string{"allocate", "tag", "untag", "free"} {
			t := s
			t.left.requests--
			t.lock, t.workers[who].verb = who+1, allocateIt+uint8(i)
			steps = append(steps, t.on(who, "asks to "+what+" an address", requestRead)...)
		}
		return steps
	case requestRead:
		w.seen = s.address
		a := w.seen
		var possible bool
		switch w.verb {
		case allocateIt:
			possible = !a.allocated
		case tagIt:
			possible = a.allocated && a.tags&own == 0 && (a.tags&others == 0 || !v.keeps(refusesOthersAddresses))
		case untagIt:
			// An ephemeral address without other tags stays the cluster's.
			possible = a.allocated && a.tags&own != 0 && (v.static || a.tags != own)
		case freeIt:
			possible = a.allocated && !v.static && a.tags == own
		}
		if !possible || w.verb != allocateIt && v.keeps(refusesLostAddresses) && s.mayChange() {
			return on("reads the address, and is refused", idle)
		}
		return on("reads the address", requestCall)
	case requestCall:
		c := serviceCall{stage: atWork, verb: w.verb, uuid: w.seen.uuid, tags: own}
		switch w.verb {
		case tagIt:
			c.tags = w.seen.tags | own
		case untagIt:
			c.tags = w.seen.tags &^ own
		}
		s.calls[who] = c
		return on("calls", requestWait)
	case requestWait:
		if s.calls[who].stage != answered {
			return nil
		}
		s.calls[who] = serviceCall{}
		return on("gets the answer", idle)
	}
	return nil
}

// metal works on a call, and answers.
func (v services) metal(s serviceState, who uint8) (steps []step[serviceState]) {
	c := s.calls[who]
	if c.stage != atWork && c.stage != abandoned {
		return nil
	}
	own := ours
	if who == otherCCM {
		own = theirs
	}
	finish := func(t *serviceState) {
		t.calls[who], t.lost[who] = serviceCall{}, false
		t.forgotten = t.forgotten && who != orphaned
	}
	add := func(what, wrong string, t serviceState) {
		steps = append(steps, step[serviceState]{who: who, what: what, to: t, wrong: wrong})
	}
	t := s
	if t.calls[who].stage = answered; c.stage == abandoned {
		finish(&t)
	}
	wrong, a := "", s.address
	switch {
	case c.verb == allocateIt && !a.allocated:
		t.address = serviceAddress{allocated: true, uuid: a.uuid + 1, tags: own}
	case c.verb == freeIt && a.allocated:
		switch {
		case v.static:
			wrong = "a static address was freed"
		case a.tags&^own&(ours|theirs) != 0:
			wrong = "an address of another cluster was freed"
		case a.tags&users != 0:
			wrong = "an address with a tag of others was freed"
		case a.uuid != c.uuid:
			wrong = "an address was freed that was allocated anew"
		}
		t.address = serviceAddress{uuid: a.uuid}
	case (c.verb == tagIt || c.verb == untagIt) && a.allocated:
		if a.tags&^own&^c.tags != 0 {
			wrong = "tags of others were removed"
		}
		t.address.tags = c.tags
	}
	add("the metal-api does it", wrong, t)
	t = s
	switch {
	case c.stage == abandoned:
		finish(&t)
		add("the metal-api gives up a call that no client waits for", "", t)
	case s.left.losses > 0 && who == release && c.verb == freeIt:
		t.left.losses--
		t.orphan()
		t.workers[who].at = releaseAwait
		add("the answer is lost", "", t)
	case s.left.losses > 0 && who == release && s.calls[orphaned].stage == noCall:
		t.left.losses--
		t.orphan()
		t.lost[orphaned] = true
		steps = append(steps, t.on(who, "the answer is lost, and it is refused", idle)...)
	case s.left.losses > 0 && (who == ccm || who == otherCCM):
		t.left.losses--
		t.calls[who].stage = abandoned
		t.lost[who] = true
		steps = append(steps, t.on(who, "the answer is lost", idle)...)
	}
	return steps
}

// outsider is what another client of the metal-api does: whoever has its key.
func (v services) outsider(s serviceState) (steps []step[serviceState]) {
	// The metal-api frees and replaces tags without a condition: from an observation to the
	// effect of a call it is a fraction of a second.
	critical := false
	for _, w := range s.workers {
		critical = critical || w.at == releaseFree || w.at == releaseReplace || w.at == requestCall
	}
	for _, c := range s.calls {
		critical = critical || c.stage == atWork || c.stage == abandoned
	}
	if critical && !v.atAnyTime || !s.address.allocated {
		return nil
	}
	if s.left.foreignTags > 0 && s.address.tags&users == 0 {
		t := s
		t.left.foreignTags--
		t.address.tags |= users
		steps = append(steps, step[serviceState]{who: outsider, what: "adds a tag", to: t})
	}
	if s.left.foreignFrees > 0 {
		t := s
		t.left.foreignFrees--
		t.address = serviceAddress{uuid: s.address.uuid}
		steps = append(steps, step[serviceState]{who: outsider, what: "frees it", to: t})
	}
	return steps
}
