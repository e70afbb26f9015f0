// SPDX-License-Identifier: Apache-2.0

package model

// release makes the steps of releaseMachineLike.
func (m *model) release(s state, i uint8) {
	v := s.servers[i]
	switch v.at {
	case freeBegin:
		m.swap(s, i, "records a release", func(r *record, v *server) {
			if r.phase == released || r.phase == forgotten || r.phase == releasing ||
				(m.keeps(releasesWhatItRead) && (r.phase != v.phase || r.attempt != v.attempt)) {
				v.leave()
				return
			}
			r.phase, r.open, r.age = releasing, true, 0
			v.start, v.age = 0, 0
			switch {
			case v.machine != 0:
				v.at = freeLook
			case v.attempt > 0 && m.keeps(looksForWhatWasLost):
				v.at = freeFind
			default:
				v.at = freeDone
			}
		})
	case freeFind:
		m.find(s, i)
	case freeName:
		m.swap(s, i, "records what it found", func(r *record, w *server) {
			if r.phase == forgotten {
				w.leave()
				return
			}
			r.machine, r.uuid = w.machine, w.uuid
			w.at = freeLook
			if w.phase == releasing {
				w.at = freeSettle
			}
		})
	case freeSettle:
		m.checkOwnership(s, i, freeDone, func(t *state) {
			if v.wait <= 0 || !m.keeps(waitsForOpenFrees) {
				t.servers[i].at = freeBeginAnew
				if v.tries > 1 {
					t.servers[i].at = freeHold
				}
				m.add(i, "sees that it is still ours, and that nothing is at work", *t)
			}
		})
	case freeBeginAnew:
		m.swap(s, i, "records another call", func(r *record, v *server) {
			start := int8(certain)
			if r.open {
				start = int8(r.age)
			}
			if r.phase != releasing || (start != v.start && m.keeps(beginsFreeByCompareAndSwap)) {
				// A release that was begun by another server is recorded as refused by that one.
				v.at = freeHold
				return
			}
			r.open, r.age = true, 0
			v.start, v.age, v.at = 0, 0, freeLook
		})
	case freeLook:
		m.checkOwnership(s, i, freeDone, func(t *state) {
			t.servers[i].at = freeLooked
			m.add(i, "looks, and sees that it is ours", *t)
		})
		m.failed(s, i, freeHold)
	case freeLooked:
		t := s
		t.servers[i].at = freeChecked
		if v.age > begin && m.keeps(startsOverWhenLate) {
			t.servers[i].at, t.servers[i].wait = freeSettle, 0
		}
		m.add(i, "asks its clock and its fence", t)
	case freeChecked:
		m.call(s, i, request{verb: toFree, machine: v.machine, uuid: v.uuid}, freeWait)
	case freeHold:
		m.swap(s, i, "holds the release back", func(r *record, v *server) {
			own := !m.keeps(holdsBackItsOwn)
			if r.open && v.start == int8(r.age) || !r.open && v.start == certain {
				own = true
			}
			if r.phase == releasing && own {
				r.open, r.age = false, 0
			}
			v.leave()
		})
	case freeDone:
		m.swap(s, i, "records that it is released", func(r *record, v *server) {
			if r.phase != forgotten {
				*r = record{phase: released, attempt: r.attempt}
			}
			v.leave()
		})
	}
}

// find looks for what an attempt that was not finished may have allocated.
func (m *model) find(s state, i uint8) {
	v := s.servers[i]
	any := false
	for k, f := range s.machines {
		if f.owner == us {
			any = true
			t := s
			t.servers[i].at, t.servers[i].machine, t.servers[i].uuid = freeName, uint8(k+1), f.uuid
			m.add(i, "finds machine "+name(k), t)
		}
	}
	if !any && (v.wait <= 0 || !m.keeps(waitsForOpenCalls)) {
		t := s
		t.servers[i].at = freeDone
		m.add(i, "finds nothing, and knows that nothing is at work", t)
	}
}

// checkOwnership observes the machine: on, if it is not what the record names.
func (m *model) checkOwnership(s state, i uint8, on uint8, ours func(t *state)) {
	v := s.servers[i]
	f := s.machines[v.machine-1]
	if s.ours(v.machine, v.uuid) || (f.owner != nobody && !m.keeps(checksIdentity)) {
		ours(&s)
		return
	}
	t := s
	if t.servers[i].at = on; on == idle {
		t.servers[i].leave()
	}
	m.add(i, "looks, and sees that it is not ours any more", t)
}

// sweep makes the steps of releaseDuplicate.
func (m *model) sweep(s state, i uint8) {
	v := s.servers[i]
	switch v.at {
	case sweepLook:
		m.checkOwnership(s, i, idle, func(t *state) {
			w := &t.servers[i]
			w.at, w.age = sweepLooked, 0
			m.add(i, "looks, and sees that it is ours", *t)
		})
	case sweepLooked:
		t := s
		w := &t.servers[i]
		w.at = sweepChecked
		if v.age > begin {
			w.leave()
		}
		m.add(i, "asks its clock and its fence", t)
	case sweepChecked:
		m.call(s, i, request{verb: toSweep, machine: v.machine, uuid: v.uuid}, sweepWait)
	case sweepSettle:
		m.checkOwnership(s, i, idle, func(t *state) {
			if v.wait <= 0 {
				t.servers[i].leave()
				m.add(i, "sees that it is still ours, and that nothing is at work", *t)
			}
		})
	}
}
