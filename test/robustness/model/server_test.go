// SPDX-License-Identifier: Apache-2.0

package model

// swap is a compare-and-swap of the record by a server: change says what it
// makes of the record as it is, and goes on from there. Whoever lost the Lease
// is refused; what it had begun before is done if nobody else wrote, and
// acknowledged to nobody.
func (m *model) swap(s state, i uint8, what string, change func(r *record, v *server)) {
	if !m.lease || s.active == i || !m.keeps(fences) {
		t := s
		change(&t.record, &t.servers[i])
		m.add(i, what, t)
		return
	}
	t := s
	t.servers[i].leave()
	m.add(i, "may not write any more", t)
	if v := s.servers[i]; v.late && v.seen == s.record {
		t := s
		change(&t.record, &t.servers[i])
		t.servers[i].leave()
		m.add(i, what+" late, acknowledged to nobody", t)
	}
}

// active: the server begins operations.
func (m *model) active(s *state, i uint8) bool { return !m.lease || s.active == i }

// openFor is how long a call that the record shows can still be at work
// (inFlightUntil).
func (m *model) openFor(r record) int8 {
	if !r.open || (r.phase != allocating && r.phase != releasing) {
		return certain
	}
	limit := int8(open)
	if !m.keeps(waitsLongEnough) {
		limit--
	}
	return max(limit-int8(r.age), 0)
}

// server makes the steps of one server.
func (m *model) server(s state, i uint8) {
	switch v := s.servers[i]; {
	case v.at == idle && m.active(&s, i):
		m.begin(s, i)
	case v.at == idle:
	case v.at <= resumeLook:
		m.allocation(s, i)
	case v.at <= freeDone:
		m.release(s, i)
	default:
		m.sweep(s, i)
	}
}

// begin starts an operation: a request's, or the Recoverer's.
func (m *model) begin(s state, i uint8) {
	r := s.record
	t := s
	v := &t.servers[i]
	v.phase, v.attempt, v.machine, v.uuid, v.start = r.phase, r.attempt, r.machine, r.uuid, certain
	v.wait = m.openFor(r)
	if !s.unwanted && (r.phase == claim || r.phase == allocating) {
		v.at = allocBegin
		if v.wait != certain && m.keeps(waitsForOpenCalls) {
			v.at = allocSettle
		}
		m.add(i, "is asked to allocate, and reads the record", t)
	}
	if r.phase == allocating {
		v.at = resumeLook
		m.add(i, "takes up an open attempt, and reads the record", t)
	}
	if (s.unwanted && r.phase != released && r.phase != forgotten) || r.phase == releasing {
		if v.at = freeBegin; r.phase == releasing {
			if r.open {
				v.start = int8(r.age)
			}
			v.at = freeSettle
			switch {
			case r.machine == 0 && r.attempt == 0:
				v.at = freeDone
			case r.machine == 0:
				v.at = freeFind
			case v.wait == certain || !m.keeps(waitsForOpenFrees):
				v.at = freeBeginAnew
			}
		}
		m.add(i, "is asked to release, and reads the record", t)
	}
	if machine, uuid, ok := s.suspect(); ok && s.servers[i].sweepDelay == 0 {
		v.at, v.machine, v.uuid, v.wait = sweepLook, machine, uuid, certain
		m.add(i, "suspects a duplicate", t)
	}
}

// allocation makes the steps of allocateMachineLike and resumeAttempt.
func (m *model) allocation(s state, i uint8) {
	v := s.servers[i]
	switch v.at {
	case allocSettle:
		if !m.keeps(looksBeforeCalling) {
			if v.wait <= 0 {
				t := s
				t.servers[i].at = allocBegin
				m.add(i, "does not look, and knows that nothing is at work", t)
			}
			return
		}
		m.found(s, i, func(t *state) {
			if v.wait <= 0 {
				t.servers[i].at = allocBegin
				if v.tries > 1 {
					t.servers[i].at = allocGiveUp
				}
				m.add(i, "finds nothing, and knows that nothing is at work", *t)
			}
		})
	case allocBegin:
		m.swap(s, i, "records an attempt", func(r *record, v *server) {
			switch {
			case r.phase != claim && r.phase != allocating,
				r.attempt != v.attempt && m.keeps(beginsByCompareAndSwap):
				v.leave()
				return
			}
			r.phase, r.attempt, r.open, r.age = allocating, r.attempt+1, true, 0
			v.attempt, v.age, v.at = r.attempt, 0, allocLook
		})
	case allocLook:
		if !m.keeps(looksBeforeCalling) {
			t := s
			t.servers[i].at = allocLooked
			m.add(i, "does not look", t)
			return
		}
		m.found(s, i, func(t *state) {
			t.servers[i].at = allocLooked
			m.add(i, "looks once more, and finds nothing", *t)
		})
		m.failed(s, i, allocGiveUp)
	case allocLooked:
		t := s
		t.servers[i].at = allocChecked
		if v.age > begin && m.keeps(startsOverWhenLate) {
			t.servers[i].at, t.servers[i].wait = allocSettle, 0
		}
		m.add(i, "asks its clock and its fence", t)
	case allocChecked:
		m.call(s, i, request{verb: toAllocate}, allocWait)
	case allocGiveUp:
		m.swap(s, i, "makes a claim of the record again", func(r *record, v *server) {
			if r.phase == allocating && (r.attempt == v.attempt || !m.keeps(givesUpItsOwnAttempt)) {
				r.phase, r.open, r.age = claim, false, 0
			}
			v.leave()
		})
	case allocFinish:
		m.swap(s, i, "records the machine", func(r *record, v *server) {
			own := r.attempt == v.attempt || !m.keeps(recordsOverItsOwnAttempt)
			if (r.phase == claim || r.phase == allocating) && own {
				*r = record{phase: allocated, attempt: r.attempt, machine: v.machine, uuid: v.uuid}
			}
			v.leave()
		})
	case resumeLook:
		m.found(s, i, func(t *state) {
			if v.wait <= 0 || !m.keeps(waitsForOpenCalls) {
				t.servers[i].at = allocGiveUp
			} else {
				t.servers[i].leave()
			}
			m.add(i, "looks for the outcome, and finds nothing", *t)
		})
	}
}

// found makes a look for what carries the identity: a step for each that may
// be taken, or otherwise.
func (m *model) found(s state, i uint8, otherwise func(t *state)) {
	any := false
	for k, f := range s.machines {
		if f.owner != us {
			continue
		}
		any = true
		t := s
		v := &t.servers[i]
		v.at, v.machine, v.uuid = allocFinish, uint8(k+1), f.uuid
		m.add(i, "finds machine "+name(k), t)
	}
	if !any {
		otherwise(&s)
	}
}

// failed is a look that is not answered, or a check that refuses.
func (m *model) failed(s state, i uint8, at uint8) {
	if s.left.refusals > 0 {
		s.left.refusals--
		s.servers[i].at = at
		m.add(i, "cannot look, or may not go on", s)
	}
}

// call sends a request. The fence was asked before.
func (m *model) call(s state, i uint8, r request, at uint8) {
	t := s
	r.from, r.left = i, call
	t.servers[i].at = at
	t.send(r)
	m.add(i, "calls the metal-api", t)
	if m.lease && s.active != i {
		t := s
		t.servers[i].leave()
		m.add(i, "may not call any more", t)
	}
}

// over is true for the answer of a call of a server that lost its Lease: what
// follows would be refused.
func (m *model) over(s *state, i uint8) bool {
	return m.lease && s.active != i && m.keeps(fences)
}
