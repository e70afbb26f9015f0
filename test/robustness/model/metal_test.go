// SPDX-License-Identifier: Apache-2.0

package model

// metalAPI works on requests, and answers them.
func (m *model) metalAPI(s state) {
	for k, r := range s.requests {
		switch {
		case r.verb == 0:
			continue
		case r.stage == working && r.verb == toAllocate:
			m.allocate(s, k)
		case r.stage == working:
			m.free(s, k)
		}
		if r.from == orphan {
			t := s
			t.requests[k] = request{}
			t.sort()
			m.add(metalAPI, "gives up a call that no client waits for", t)
			continue
		}
		if r.stage == working && s.left.refusals > 0 {
			t := s
			t.left.refusals--
			t.requests[k].stage = refused
			t.sort()
			m.add(metalAPI, "refuses", t)
		}
		if r.stage != working {
			t := s
			t.requests[k] = request{}
			t.sort()
			if m.answered(&t.servers[r.from], r); m.over(&s, r.from) {
				t.servers[r.from].leave()
			}
			m.add(metalAPI, "answers", t)
		}
		if s.left.losses > 0 {
			t := s
			t.left.losses--
			t.requests[k].orphan()
			t.sort()
			if m.unanswered(&t.servers[r.from], r); m.over(&s, r.from) {
				t.servers[r.from].leave()
			}
			m.add(metalAPI, "answers, and the answer is lost; or goes on working without a client", t)
		}
	}
}

// finish ends the work on a request.
func (s *state) finish(k int, stage uint8) {
	if s.requests[k].stage = stage; s.requests[k].from == orphan {
		s.requests[k] = request{}
	}
	s.sort()
}

func (m *model) allocate(s state, k int) {
	fresh := false
	none := true
	for i, f := range s.machines {
		if f.owner != nobody || (f.uuid > 0 && f.idle < m.wipe) || (f.uuid == 0 && fresh) {
			continue
		}
		// Of those that were never allocated, one is as good as another.
		fresh = fresh || f.uuid == 0
		none = false
		t := s
		t.machines[i] = machine{owner: us, uuid: f.uuid + 1}
		r := &t.requests[k]
		r.machine, r.uuid = uint8(i+1), f.uuid+1
		t.finish(k, done)
		m.add(metalAPI, "allocates machine "+name(i)+" for us", t)
	}
	if none {
		t := s
		t.finish(k, refused)
		m.add(metalAPI, "has no machine available", t)
	}
}

func (m *model) free(s state, k int) {
	t := s
	r := s.requests[k]
	f := &t.machines[r.machine-1]
	wrong := ""
	switch {
	case f.owner == them:
		wrong = "a foreign machine was freed"
	case f.owner == us && f.uuid != r.uuid:
		wrong = "a machine was freed that was allocated anew for the object"
	case f.owner == nobody && m.foreignFrees == 0:
		// It takes it out of the pool; another client's free cannot be prevented.
		wrong = "a machine was freed that was not allocated"
	}
	if f.owner != nobody {
		f.owner, f.idle = nobody, 0
	}
	t.finish(k, done)
	m.add(metalAPI, "frees machine "+name(int(r.machine-1)), t)
	m.steps[len(m.steps)-1].wrong = wrong
}

// answered is what a server does with an answer.
func (m *model) answered(v *server, r request) {
	v.tries++
	switch {
	case r.verb == toAllocate && r.stage == done:
		v.at, v.machine, v.uuid = allocFinish, r.machine, r.uuid
	case r.verb == toAllocate:
		v.at = allocGiveUp
	case r.verb == toFree && r.stage == done:
		v.at, v.wait = freeSettle, 0
	case r.verb == toFree:
		v.at = freeHold
	case r.stage == done && m.keeps(waitsForOwnFrees):
		v.at, v.wait = sweepSettle, 0
	default:
		v.leave()
	}
}

// unanswered is what a server does without one.
func (m *model) unanswered(v *server, r request) {
	v.tries++
	wait := int8(lost)
	if !m.keeps(waitsLongEnough) {
		wait--
	}
	switch {
	case r.verb == toAllocate && !m.keeps(takesLossForLoss):
		v.at = allocGiveUp
	case r.verb == toAllocate:
		v.at, v.wait = allocSettle, wait
	case r.verb == toFree:
		v.at, v.wait = freeSettle, wait
	case m.keeps(waitsForOwnFrees):
		v.at, v.wait = sweepSettle, wait
	default:
		v.leave()
	}
}
