// SPDX-License-Identifier: Apache-2.0

package simulator_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// scene is one data centre and the stretch of recordings that was made in it.
type scene struct {
	name     string
	from, to int // numbers of recordings
	start    time.Time
	// awake: machines give signs of life, and report when they are installed.
	awake  bool
	config func(t testing.TB) simulator.Config
	setups []setup
}

// setup brings the data centre where the recorded one was: it does what
// a client did without recording it, or what an experiment left behind.
type setup struct {
	// before is the number of the recording that needs it. If unless is
	// given and the recordings have an exchange of that number, that does it.
	before, unless int
	// at is when it was done; empty: just before the recording.
	at string
	do func(t testing.TB, r *replay)
}

// play replays the recordings of a scene, each as a subtest named after its
// file. Later ones need what earlier ones did, so they are not parallel.
func (s *scene) play(t *testing.T, recordings []*recording) {
	var mine []*recording
	for _, rec := range recordings {
		if rec.exchange() && s.from <= rec.number && rec.number <= s.to {
			mine = append(mine, rec)
		}
	}
	r := newReplay(t, s.config(t), s.start)
	r.awake = s.awake
	r.machines = collectTimelines(t, mine)
	for _, rec := range mine {
		t.Run(rec.file, func(t *testing.T) {
			s.prepare(t, r, mine, rec)
			for _, wrong := range r.exchange(t, rec) {
				assert.Fail(t, wrong)
			}
			r.settle(rec)
		})
	}
}

// prepare plays what happened before a recording, in the order of time.
func (s *scene) prepare(t testing.TB, r *replay, mine []*recording, rec *recording) {
	t.Helper()
	until := lastMoment(decode(t, rec.Response))
	if rec.At != "" {
		until, _ = time.Parse(time.RFC3339Nano, rec.At)
	}
	type operation struct {
		at time.Time
		do func()
	}
	var operations []operation
	for _, e := range r.machines.due(until) {
		if e.event == ownEvents[rec.name()] {
			continue
		}
		operations = append(operations, operation{e.at, func() { r.play(t, e) }})
	}
	for _, su := range s.setups {
		if su.before != rec.number || su.unless != 0 && slices.ContainsFunc(mine, func(m *recording) bool { return m.number == su.unless }) {
			continue
		}
		at, err := time.Parse(time.RFC3339Nano, su.at)
		if err != nil {
			at = until.Add(time.Hour) // last
		}
		operations = append(operations, operation{at, func() {
			if err == nil {
				r.at(at)
			} else {
				r.at(time.Time{})
			}
			su.do(t, r)
			r.sim.Advance()
		}})
	}
	slices.SortStableFunc(operations, func(a, b operation) int { return a.at.Compare(b.at) })
	for _, d := range operations {
		d.do()
	}
	r.at(until)
}

// settle lets the data centre do what was put off, and notes the events that
// the exchange itself made.
func (r *replay) settle(rec *recording) {
	machine := uuidPattern.FindString(rec.Path)
	if own, ok := ownEvents[rec.name()]; ok {
		r.machines.skip(machine, own)
	}
	if rec.Method == "DELETE" && strings.HasSuffix(rec.Path, "/free") && rec.Status == 200 {
		r.machines.skip(machine, "Machine Reclaim")
	}
	r.sim.Advance()
}
