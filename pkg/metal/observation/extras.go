package observation

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// lateShare is the part of the budget that sweeps may spend on networks and
// addresses whose last look was late.
const lateShare = 0.2

// extras remembers how sweeps looked at the networks and addresses that records
// name.
type extras struct {
	mu sync.Mutex
	// tried is when each was last looked at, whatever came of it.
	tried map[string]time.Time
	// late are those whose last look waited for longer than the read limit, and
	// again is when one of them may be looked at next.
	late  map[string]bool
	again time.Time
}

// lookAtExtras looks at networks and IPs by id, those first that were not looked
// at for longest, as far as the allowance goes.
func (o *Observer) lookAtExtras(ctx context.Context, a *account, most time.Duration) {
	refs, due := o.extrasDue()
	_ = o.inBatches(ctx, &allowance{most, a}, due, []call{callNetworkGet}, func(ctx context.Context, a *account, key string) (err error) {
		began := o.opts.Clock.Now()
		ctx, answered := metal.WithAnswerTime(ctx)
		if ref := refs[key]; ref.Kind == metal.KindNetwork {
			err = o.lookAtNetwork(ctx, a, ref.ID)
		} else {
			err = o.lookAtIP(ctx, a, ref.ID)
		}
		o.extraTried(key, began, answered.Total())
		return err
	})
}

// extrasDue returns the networks and addresses to look at, in order. Of those that
// were late it is one at most.
func (o *Observer) extrasDue() (refs map[string]metal.Ref, due []string) {
	refs, last := map[string]metal.Ref{}, map[string]time.Time{}
	o.facts.mu.RLock()
	for ref := range o.facts.named {
		key := string(ref.Kind) + " " + ref.ID
		switch ref.Kind {
		case metal.KindNetwork:
			refs[key], last[key] = ref, lookedAt(&o.facts.networks, ref.ID)
		case metal.KindIP:
			refs[key], last[key] = ref, lookedAt(&o.facts.ips, ref.ID)
		}
	}
	o.facts.mu.RUnlock()

	e := &o.extras
	e.mu.Lock()
	defer e.mu.Unlock()
	for key, tried := range e.tried {
		switch looked, named := last[key]; {
		case !named:
			delete(e.tried, key)
			delete(e.late, key)
		case looked.After(tried):
			// A read has looked at it since.
			delete(e.late, key)
		default:
			last[key] = tried
		}
	}
	mayBeLate := !o.opts.Clock.Now().Before(e.again)
	for _, key := range slices.SortedFunc(maps.Keys(refs), func(a, b string) int {
		return cmp.Or(last[a].Compare(last[b]), cmp.Compare(a, b))
	}) {
		if e.late[key] {
			if !mayBeLate {
				continue
			}
			mayBeLate = false
		}
		due = append(due, key)
	}
	return refs, due
}

// extraTried takes in a look at a network or an address that waited for so long.
func (o *Observer) extraTried(key string, began time.Time, waited time.Duration) {
	e := &o.extras
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tried[key] = began
	switch {
	case waited > o.opts.ReadLimit:
		e.late[key] = true
		e.again = o.opts.Clock.Now().Add(scale(waited, 1/(o.opts.Budget*lateShare)))
	case e.late[key]:
		// What delayed one of them may have delayed the others.
		clear(e.late)
		e.again = time.Time{}
	}
}
