// SPDX-License-Identifier: Apache-2.0

package model

// Who takes a step: a server (0 or 1), or
const (
	metalAPI uint8 = iota + 2
	environment
	clock
)

// step is one way on from a state.
type step[S comparable] struct {
	who  uint8
	what string
	to   S
	// wrong says which promise is broken by it.
	wrong string
}

// model makes steps.
type model struct {
	bounds
	steps []step[state]
}

func (m *model) keeps(r rule) bool { return m.broken != r }

func (m *model) add(who uint8, what string, to state) {
	for i := range to.servers {
		to.servers[i].tidy()
	}
	m.steps = append(m.steps, step[state]{who: who, what: what, to: to})
}

func (b *bounds) start() state {
	return state{left: budget{
		takeovers: b.takeovers, crashes: b.crashes, losses: b.losses, refusals: b.refusals, stalls: b.stalls,
		lateCalls: b.lateCalls, deletions: b.deletions, foreignFrees: b.foreignFrees, foreignAllocations: b.foreignAllocations,
	}}
}

// next returns all that can come after s. The slice is used again.
func (m *model) next(s state) []step[state] {
	m.steps = m.steps[:0]
	for i := range s.servers {
		m.server(s, uint8(i))
	}
	m.metalAPI(s)
	m.environment(s)
	m.tick(s)
	return m.steps
}

// environment is what nobody here decides about.
func (m *model) environment(s state) {
	if s.left.deletions > 0 && !s.unwanted {
		t := s
		t.left.deletions--
		t.unwanted = true
		m.add(environment, "the object is deleted", t)
	}
	if s.unwanted && s.record.phase == released && !m.kept {
		t := s
		t.record = record{phase: forgotten}
		m.add(environment, "the record is deleted", t)
	}
	for i, f := range s.machines {
		if f.owner == us && s.left.foreignFrees > 0 {
			t := s
			t.left.foreignFrees--
			t.machines[i].owner, t.machines[i].idle = nobody, 0
			m.add(environment, "an administrator frees machine "+name(i), t)
		}
		if f.owner == nobody && f.uuid > 0 && f.idle >= m.wipe && s.left.foreignAllocations > 0 {
			t := s
			t.left.foreignAllocations--
			t.machines[i] = machine{owner: them, uuid: f.uuid + 1}
			m.add(environment, "machine "+name(i)+" is allocated to another project", t)
		}
	}
	for i := range s.servers {
		m.serverFaults(s, uint8(i))
	}
}

// serverFaults adds the faults that can happen to a server.
func (m *model) serverFaults(s state, i uint8) {
	if v := s.servers[i]; v.at != idle && s.left.crashes > 0 {
		t := s
		t.left.crashes--
		t.servers[i] = server{sweepDelay: m.sweepDelay()}
		t.abandon(i)
		m.add(i, "crashes, and is started again", t)
	}
	if other := 1 - i; m.lease && s.active == i && s.left.takeovers > 0 && s.servers[other].at == idle {
		t := s
		t.left.takeovers--
		t.active = other
		t.servers[other] = server{sweepDelay: m.sweepDelay()}
		switch v := &t.servers[i]; {
		case m.broken == fences:
		case swaps[v.at]:
			v.late, v.seen = true, s.record
		case v.at == allocChecked, v.at == freeChecked, v.at == sweepChecked:
		case v.at == allocWait, v.at == freeWait, v.at == sweepWait:
		default:
			// It may look, and waits, but whatever it does next is refused.
			v.leave()
		}
		m.add(i, "loses the Lease to the other", t)
	}
}

// sweepDelay is how long a server that took over sweeps nothing.
func (m *model) sweepDelay() uint8 {
	if m.lateCalls == 0 || !m.keeps(waitsBeforeSweeping) {
		return 0
	}
	return open
}

// abandon makes the requests of a server nobody's.
func (s *state) abandon(i uint8) {
	for k := range s.requests {
		if r := &s.requests[k]; r.verb != 0 && r.from == i {
			r.orphan()
		}
	}
	s.sort()
}

// orphan takes the client of a request away. What it was answered is lost.
func (r *request) orphan() {
	if r.stage != working {
		*r = request{}
		return
	}
	r.from, r.left = orphan, lost-1
}

// tick lets time pass, unless something has to happen before.
func (m *model) tick(s state) {
	t := s
	for i := range t.servers {
		v := &t.servers[i]
		switch v.at {
		case allocChecked, freeChecked, sweepChecked:
			// A process that stops here for longer is out of reach of the protocol.
			if v.age >= begin {
				if v.at != allocChecked || t.left.lateCalls == 0 {
					return
				}
				t.left.lateCalls--
			}
		case allocLook, allocLooked, freeLook, freeLooked, sweepLook, sweepLooked:
			if v.age == begin {
				if t.left.stalls == 0 {
					return
				}
				t.left.stalls--
			}
		}
		if v.at != idle {
			v.age = min(v.age+1, begin+1)
			if v.wait > 0 {
				v.wait--
			}
			if v.start != certain {
				v.start = min(v.start+1, open)
			}
			if v.late && v.seen.open {
				v.seen.age = min(v.seen.age+1, open)
			}
		}
		if v.sweepDelay > 0 {
			v.sweepDelay--
		}
	}
	for i := range t.requests {
		if r := &t.requests[i]; r.verb != 0 {
			if r.left == 0 {
				return
			}
			r.left--
		}
	}
	t.sort()
	if t.record.open {
		t.record.age = min(t.record.age+1, open)
	}
	for i := range t.machines {
		if f := &t.machines[i]; f.owner == nobody && f.uuid > 0 {
			f.idle = min(f.idle+1, m.wipe)
		}
	}
	m.add(clock, "time passes", t)
}

func name(i int) string { return [...]string{"1", "2"}[i] }
