// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"errors"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// Recoverer reconciles records in the background: it latches what never goes
// back once it was true, recovers operations after a crash, and releases what was
// allocated twice. A pass is about the records that changed and those that are
// unfinished; every now and then it is about all.
type Recoverer struct {
	p *Protocol
	// slots limits how many operations are recovered at a time.
	slots chan struct{}
	wg    sync.WaitGroup
	// duplicateSlot is taken while a duplicate is released: an object may have
	// several, and one operation at a time.
	duplicateSlot chan struct{}

	machines, firewalls *reconciledRecords[*machineLike]
	clusters            *reconciledRecords[*clusterRecord]
	networks            *reconciledRecords[*networkRecord]
	ips                 *reconciledRecords[*ipRecord]
	// fullPassTime is when the last pass over all records began.
	fullPassTime time.Time
	// schedules are of the attempts and releases to recover, and of duplicates.
	schedules map[string]*schedule
	// startTime is when the first pass began.
	startTime time.Time
	// unrecorded is what was last counted as such.
	unrecorded []unrecorded
}

// schedule is when something is reconciled next.
type schedule struct {
	next     time.Time
	interval time.Duration
	seen     bool
}

const (
	// reconcileInterval is the pause between two passes.
	reconcileInterval = 2 * time.Second
	// fullPassInterval is how often a pass is over all records, which are in memory: metal
	// that carries the identity of a finished record does not change the record.
	fullPassInterval = 30 * time.Second
	// maxParallelRecoveries keeps a restart from calling the metal-api about
	// everything at once.
	maxParallelRecoveries = 4
)

// NewRecoverer returns a Recoverer that does nothing until it runs.
func NewRecoverer(p *Protocol) *Recoverer {
	r := &Recoverer{
		p: p, slots: make(chan struct{}, maxParallelRecoveries), duplicateSlot: make(chan struct{}, 1), schedules: map[string]*schedule{},
	}
	machineLikeRecords := func(kind *machineLikeKind) *reconciledRecords[*machineLike] {
		return newReconciledRecords(p, kind, kind.resource, func(ctx context.Context, m *machineLike) (bool, error) {
			return r.reconcileMachineLike(ctx, kind, m)
		})
	}
	r.machines, r.firewalls = machineLikeRecords(p.machines), machineLikeRecords(p.firewalls)
	r.clusters = newReconciledRecords(p, p.clusters, clusterResource, r.reconcileCluster)
	r.networks, r.ips = newReconciledClaims(r, p.networks), newReconciledClaims(r, p.ips)
	return r
}

// Run reconciles until ctx ends. Only the active replica runs it.
func (r *Recoverer) Run(ctx context.Context) {
	defer clearWaitingMetrics()
	defer clearUnrecordedMetrics()
	defer r.wg.Wait()
	for {
		r.reconcile(ctx)
		timer := r.p.clock.NewTimer(reconcileInterval)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C():
		}
	}
}

// reconcile reconciles what changed and what is unfinished, or all records if that is due.
func (r *Recoverer) reconcile(ctx context.Context) {
	if r.fullPassTime.IsZero() || r.p.clock.Since(r.fullPassTime) >= fullPassInterval {
		r.reconcileAll(ctx)
		return
	}
	r.pass(func() {
		r.machines.reconcileChanged(ctx)
		r.firewalls.reconcileChanged(ctx)
		r.clusters.reconcileChanged(ctx)
		r.networks.reconcileChanged(ctx)
		r.ips.reconcileChanged(ctx)
	})
}

// reconcileAll reconciles every record once. What takes long is done in the
// background.
func (r *Recoverer) reconcileAll(ctx context.Context) {
	r.fullPassTime = r.p.clock.Now()
	if r.startTime.IsZero() {
		r.startTime = r.fullPassTime
	}
	r.pass(func() {
		machines, machinesErr := r.machines.reconcileAll(ctx)
		firewalls, firewallsErr := r.firewalls.reconcileAll(ctx)
		clusters, clustersErr := r.clusters.reconcileAll(ctx)
		networks, networksErr := r.networks.reconcileAll(ctx)
		ips, ipsErr := r.ips.reconcileAll(ctx)
		if errors.Join(machinesErr, firewallsErr, clustersErr, networksErr, ipsErr) == nil {
			r.countUnrecorded(ctx, &allRecords{append(machines, firewalls...), clusters, networks, ips})
		}
	})
}

// pass does one pass, and forgets the schedules that it has no use for.
func (r *Recoverer) pass(reconcile func()) {
	for _, s := range r.schedules {
		s.seen = false
	}
	reconcile()
	for key, s := range r.schedules {
		if !s.seen {
			delete(r.schedules, key)
		}
	}
}

// reconcileMachineLike reconciles a record, and reports whether it is unfinished.
func (r *Recoverer) reconcileMachineLike(ctx context.Context, kind *machineLikeKind, m *machineLike) (unfinished bool, err error) {
	ref := kind.refOf(m)
	if r.p.operations.isRunning(ref) {
		return true, nil
	}
	switch a := m.allocation(); a.Phase {
	case infrastructure.AllocationAllocating:
		r.startInBackground(ctx, nil, "open/"+string(m.meta.UID), func(ctx context.Context) error {
			return r.runExclusively(ctx, ref, func(ctx context.Context) error { return r.p.resumeAttempt(ctx, kind, ref) })
		})
		return true, nil
	case infrastructure.AllocationReleasing:
		r.startInBackground(ctx, a.NotBefore, "release/"+string(m.meta.UID), func(ctx context.Context) error {
			_, err := r.p.release(ctx, kind, m.meta.Namespace, m.meta.Name, m.meta.UID)
			return err
		})
		return true, nil
	case infrastructure.AllocationAllocated:
		if err := latchProvisioned(ctx, kind, m); err != nil {
			return true, err
		}
	case infrastructure.AllocationReleased:
	default:
		return false, nil
	}
	return r.releaseDuplicates(ctx, kind, m), nil
}

// runExclusively does work as the only operation on an object.
func (r *Recoverer) runExclusively(ctx context.Context, ref objectRef, work func(ctx context.Context) error) error {
	_, err := runExclusive(ctx, r.p, ref, verbRecover, func(ctx context.Context) (struct{}, error) { return struct{}{}, work(ctx) })
	return err
}

// reconcileCluster reconciles a record, and reports whether it is unfinished.
func (r *Recoverer) reconcileCluster(ctx context.Context, c *clusterRecord) (unfinished bool, err error) {
	ref := objectRef{clusterResource, c.Namespace, c.Name}
	if r.p.operations.isRunning(ref) {
		return true, nil
	}
	switch a := c.allocation(); a.Phase {
	case infrastructure.AllocationAllocating:
		// A cluster needs nothing that only a request brings, so its allocation
		// is continued.
		r.startInBackground(ctx, a.NotBefore, "open/"+string(c.UID), func(ctx context.Context) error {
			_, err := r.p.AllocateCluster(ctx, c.Namespace, c.Name, &infrastructure.Allocation{ObjectMeta: metav1.ObjectMeta{UID: c.UID}})
			return err
		})
	case infrastructure.AllocationReleasing:
		r.startInBackground(ctx, a.NotBefore, "release/"+string(c.UID), func(ctx context.Context) error {
			_, err := r.p.ReleaseCluster(ctx, c.Namespace, c.Name, c.UID)
			return err
		})
	case infrastructure.AllocationAllocated:
		err := latchProvisioned(ctx, r.p.clusters, c)
		return err != nil, err
	default:
		return false, nil
	}
	return true, nil
}

// startInBackground starts do, unless it backs off, is not due, or no slot is
// free.
func (r *Recoverer) startInBackground(ctx context.Context, notBefore *metav1.Time, key string, do func(ctx context.Context) error) {
	r.keepSchedule(key, r.p.timing.PollInterval)
	if notBefore != nil && notBefore.After(r.p.clock.Now()) {
		return
	}
	select {
	case r.slots <- struct{}{}:
	default:
		return
	}
	if !r.isDue(key) {
		<-r.slots
		return
	}
	r.wg.Go(func() {
		defer func() { <-r.slots }()
		if err := do(ctx); err != nil {
			klog.FromContext(ctx).V(2).Info("Recovery failed: retrying", "key", key, "err", err)
		}
	})
}

// isDue reports whether something is to be reconciled now; the interval doubles each
// time, up to a minute.
func (r *Recoverer) isDue(key string) bool {
	now := r.p.clock.Now()
	s := r.schedules[key]
	if now.Before(s.next) {
		return false
	}
	s.next = now.Add(s.interval)
	s.interval = min(2*s.interval, time.Minute)
	return true
}

// keepSchedule makes a schedule, or keeps it until after the next pass; first is
// its first interval.
func (r *Recoverer) keepSchedule(key string, first time.Duration) {
	if r.schedules[key] == nil {
		r.schedules[key] = &schedule{interval: first}
	}
	r.schedules[key].seen = true
}

// latchProvisioned records that an object was ready once, which never goes back.
func latchProvisioned[R provisionedRecord](ctx context.Context, records recordStore[R], r R) error {
	if !r.ready() || isProvisioned(*r.initialization()) {
		return nil
	}
	m := r.objectMeta()
	_, err := records.update(ctx, m.Namespace, m.Name, func(current R) error {
		if err := checkUID(current.objectMeta(), m.UID); err != nil {
			return err
		}
		provisioned := true
		current.initialization().Provisioned = &provisioned
		return nil
	})
	return err
}

func isProvisioned(i infrastructure.Initialization) bool {
	return i.Provisioned != nil && *i.Provisioned
}
