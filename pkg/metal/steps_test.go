// SPDX-License-Identifier: Apache-2.0

package metal

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestSteps_AreThoseOfTheAllocationNewestFirst(t *testing.T) {
	t.Parallel()
	created := time.Date(2026, 11, 22, 13, 56, 3, 298054443, time.UTC)
	at := func(event string, after time.Duration) Event {
		return Event{Event: event, Time: created.Truncate(time.Millisecond).Add(after)}
	}
	home, installing := at("Phoned Home", time.Minute), at("Installing", 0)
	old := at("Phoned Home", -time.Minute)
	for name, events := range map[string][]Event{
		"in order":            {home, installing, old},
		"with a sign of life": {at(EventAlive, 2*time.Minute), home, at(EventAlive, time.Second), installing, old},
		"oldest first":        {old, installing, home},
		"mixed":               {installing, old, home},
	} {
		m := &Machine{Events: events, Allocation: &Allocation{Created: created}}
		before := slices.Clone(events)
		assert.Equal(t, []Event{home, installing}, m.Steps(), name)
		assert.Equal(t, before, events, "%s: facts do not change", name)
	}
	assert.Empty(t, (&Machine{Events: []Event{old}, Allocation: &Allocation{Created: created}}).Steps())
	assert.Nil(t, (&Machine{Events: []Event{home}}).Steps())
}
