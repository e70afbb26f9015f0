// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestLoadCompare_EventsAreDelivered has both kinds under load in turn, in slices of the
// same length. It fails if a watcher that reads misses an event without having been told
// that its revision is too old. What it measures it reports, and never judges.
func TestLoadCompare_EventsAreDelivered(t *testing.T) {
	if *loading == 0 {
		t.Skip("load only if -compare.load says for how long: make load-compare")
	}
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	require.GreaterOrEqual(t, *objects, minObjects)
	require.Less(t, *slow, *watchers)
	*repetitions = max(1, int(*loading / *slice / 2))
	l := load{rate: *rate, writes: int(slice.Seconds() * float64(*rate)), watchers: *watchers - *slow, slow: *slow, expire: true}
	c := &comparison{report: report{began: time.Now()}}
	m := measure{name: "load", rows: loadRows()}
	c.rows = m.rows
	e := newEnvironment(t)
	e.install()
	e.fill(e.content())
	samples := &memorySamples{began: time.Now()}
	m.run = func(ctx context.Context, e *environment, s *side) ([]float64, error) {
		samples.begin(s.name)
		before, err := cpuTime(os.Getpid())
		if err != nil {
			return nil, err
		}
		f, err := s.fan(ctx, e.layout, l)
		if err != nil {
			return nil, err
		}
		after, err := cpuTime(os.Getpid())
		clients := (after - before).Seconds() / float64(len(f.delays))
		return append(f.values(), clients, float64(f.expired), float64(f.refused), float64(f.slowEnded), samples.peak()), err
	}
	sampling, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		samples.take(sampling, e)
	}()
	for i := range *repetitions {
		sides := []*side{e.theirs, e.ours}
		if i%2 == 1 {
			sides = []*side{e.ours, e.theirs}
		}
		for _, s := range sides {
			e.revive()
			c.take(t, m, e, s)
		}
		t.Logf("slices %d and %d of %d\n%s", 2*i+1, 2*i+2, 2**repetitions, c.table())
	}
	stop()
	<-ended
	if len(c.loads) == 0 {
		return
	}
	t.Log(c.text() + "\n" + samples.table())
	if *markdown != "" {
		require.NoError(t, c.writeMarkdown(*markdown))
	}
}

func loadRows() []*row {
	rows := fanOutRows(fmt.Sprintf("%d watchers, %d of them slow, %d writes a second, %s", *watchers, *slow, *rate, *slice))
	subject := rows[0].subject
	return append(rows,
		&row{subject: subject, part: "CPU of a delivery in clients, simulator and network, which is in no other figure"},
		&row{subject: subject, part: "watches that began anew, their revision too old", unit: number},
		&row{subject: subject, part: "writes that were refused and sent again", unit: number},
		&row{subject: subject, part: "slow watches that ended", unit: number},
		&row{subject: subject, part: "most memory of kube-apiserver, etcd and our server meanwhile", unit: bytesUnit},
	)
}
