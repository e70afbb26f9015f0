// SPDX-License-Identifier: Apache-2.0

package simulator_test

import (
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// timelines is what happened to the machines of a data centre between and
// during the recorded exchanges: the events in all the logs that were ever
// answered. Machines' events do not come over REST, so this is how the
// replayed data centre gets to be where the recorded one was.
type timelines struct {
	entries  map[string][]entry // by machine, in the order of time
	played   map[string]int
	machines map[string]simulator.Machine
}

type entry struct {
	at                      time.Time
	machine, event, message string
}

// decoration is what the server puts before the message of an event that it
// did not expect; what was sent is the rest.
var decoration = regexp.MustCompile(`^\[unexpectedly received in [^]]*\](: )?`)

func collectTimelines(t testing.TB, recordings []*recording) *timelines {
	t.Helper()
	tl := &timelines{entries: map[string][]entry{}, played: map[string]int{}, machines: map[string]simulator.Machine{}}
	for _, rec := range recordings {
		if rec.exchange() {
			everyObject(decode(t, rec.Response), func(m map[string]any) { tl.collect(t, m) })
		}
	}
	for id := range tl.entries {
		slices.SortStableFunc(tl.entries[id], func(a, b entry) int { return a.at.Compare(b.at) })
	}
	return tl
}

func (tl *timelines) collect(t testing.TB, m map[string]any) {
	events, ok := m["events"].(map[string]any)
	id, _ := m["id"].(string)
	if !ok {
		return
	}
	if size, ok := m["size"].(map[string]any); ok {
		number, err := strconv.ParseInt(id[len(id)-4:], 16, 32)
		require.NoError(t, err)
		tl.machines[id] = simulator.Machine{
			ID:        id,
			Partition: m["partition"].(map[string]any)["id"].(string),
			Rack:      m["rackid"].(string),
			Size:      size["id"].(string),
			Number:    int(number),
		}
	}
	for _, e := range events["log"].([]any) {
		e := e.(map[string]any)
		at, err := time.Parse(time.RFC3339Nano, e["time"].(string))
		require.NoError(t, err)
		message, _ := e["message"].(string)
		found := entry{at: at, machine: id, event: e["event"].(string), message: decoration.ReplaceAllString(message, "")}
		if !slices.Contains(tl.entries[id], found) {
			tl.entries[id] = append(tl.entries[id], found)
		}
	}
}

// due are the entries until a moment that have not been played, of all
// machines, in the order of time.
func (tl *timelines) due(until time.Time) []entry {
	var due []entry
	for id, entries := range tl.entries {
		for _, e := range entries[tl.played[id]:] {
			if !e.at.After(until) {
				due = append(due, e)
			}
		}
	}
	slices.SortStableFunc(due, func(a, b entry) int { return a.at.Compare(b.at) })
	return due
}

// skip notes that the next entry of a machine has come about by an exchange.
func (tl *timelines) skip(machine, event string) {
	if next := tl.played[machine]; next < len(tl.entries[machine]) && tl.entries[machine][next].event == event {
		tl.played[machine]++
	}
}

// play makes an entry happen: a reclaim is a client's free, everything else
// is sent by the machine.
func (r *replay) play(t testing.TB, e entry) {
	t.Helper()
	r.at(e.at)
	tl := r.machines
	first := tl.played[e.machine] == 0
	tl.played[e.machine]++
	// The server keeps the last events only, so a log may begin with a reclaim.
	if e.event == "Machine Reclaim" && !first {
		r.ask(t, "DELETE", "/v1/machine/"+e.machine+"/free", nil)
	} else {
		if r.awake && e.event == "Booting New Kernel" {
			// One whose allocation is not replayed has nothing to report.
			_ = r.sim.ReportInstalled(e.machine)
		}
		require.NoError(t, r.sim.SendEvent(e.machine, e.event, e.message))
	}
	if first && !r.awake {
		// Nobody in the recordings sent signs of life.
		require.NoError(t, r.sim.Silence(e.machine))
	}
	if e.event == "Registering" {
		require.NoError(t, r.sim.Register(e.machine, tl.machines[e.machine]))
	}
	r.sim.Advance()
}

// lastMoment is the latest time at which something had happened when an
// answer was given.
func lastMoment(v any) time.Time {
	var last time.Time
	everyObject(v, func(m map[string]any) {
		for _, k := range []string{"created", "changed", "time", "last_event_time", "created_time", "updated_time"} {
			s, _ := m[k].(string)
			if at, err := time.Parse(time.RFC3339Nano, s); err == nil && at.After(last) {
				last = at
			}
		}
	})
	return last
}

func everyObject(v any, visit func(map[string]any)) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			everyObject(e, visit)
		}
	case map[string]any:
		visit(v)
		for _, e := range v {
			everyObject(e, visit)
		}
	}
}
