package allocation

import (
	"context"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// Recoverer looks after records in the background: it latches what never goes
// back once it was true, takes up what a crash left open, and releases what
// was allocated twice.
type Recoverer struct {
	p *Protocol
	// slots is how many things are taken up at a time.
	slots chan struct{}
	wg    sync.WaitGroup
	// duplicateSlot is taken while one is looked at: an object may have several, and
	// has one flight at a time.
	duplicateSlot chan struct{}

	// schedules are when each open attempt, and each duplicate, is next looked at.
	schedules map[string]*schedule
	// startTime is when the first pass began.
	startTime time.Time
	// unrecorded is what was counted last as such, and counted is when.
	unrecorded     []unrecorded
	unrecordedTime time.Time
}

// schedule is when something is looked at next.
type schedule struct {
	next     time.Time
	interval time.Duration
	seen     bool
}

const (
	// reconcileInterval is the pause between two passes over the records, all of
	// which are in memory.
	reconcileInterval = 2 * time.Second
	// maxParallelRecoveries keeps a restart from asking everything of the metal-api at once.
	maxParallelRecoveries = 4
)

// NewRecoverer returns a Recoverer that does nothing until it runs.
func NewRecoverer(p *Protocol) *Recoverer {
	return &Recoverer{
		p: p, slots: make(chan struct{}, maxParallelRecoveries), duplicateSlot: make(chan struct{}, 1), schedules: map[string]*schedule{},
	}
}

// Run keeps until ctx ends. Only the active server runs it.
func (k *Recoverer) Run(ctx context.Context) {
	defer clearWaitingMetrics()
	defer clearUnrecordedMetrics()
	defer k.wg.Wait()
	for {
		k.ReconcileAll(ctx)
		timer := k.p.clock.NewTimer(reconcileInterval)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C():
		}
	}
}

// ReconcileAll looks at every record once. What takes long goes on in the background.
func (k *Recoverer) ReconcileAll(ctx context.Context) {
	if k.startTime.IsZero() {
		k.startTime = k.p.clock.Now()
	}
	for _, s := range k.schedules {
		s.seen = false
	}
	machines, machinesErr := reconcileRecords(ctx, k, k.p.machines, machineResource, func(m *machineLike) error {
		return k.reconcileMachineLike(ctx, k.p.machines, m)
	})
	firewalls, firewallsErr := reconcileRecords(ctx, k, k.p.firewalls, firewallResource, func(m *machineLike) error {
		return k.reconcileMachineLike(ctx, k.p.firewalls, m)
	})
	clusters, clustersErr := reconcileRecords(ctx, k, k.p.clusters, clusterResource, func(c *clusterRecord) error {
		return k.reconcileCluster(ctx, c)
	})
	if machinesErr == nil && firewallsErr == nil && clustersErr == nil {
		k.countUnrecorded(ctx, append(machines, firewalls...), clusters)
	}
	for key, s := range k.schedules {
		if !s.seen {
			delete(k.schedules, key)
		}
	}
}

// reconcileRecords looks at the records of one resource, and returns them.
func reconcileRecords[R record](ctx context.Context, k *Recoverer, records recordStore[R], resource schema.GroupResource, reconcile func(R) error) ([]R, error) {
	logger := klog.FromContext(ctx)
	all, err := records.list(ctx)
	if err != nil {
		logger.Error(err, "Failed to list records", "resource", resource.Resource)
		return nil, err
	}
	waiting := waitingRecords{}
	for _, r := range all {
		waiting.add(k.p, r)
		if err := reconcile(r); err != nil {
			m := r.objectMeta()
			logger.Info("Failed to reconcile a record", "resource", resource.Resource, "namespace", m.Namespace, "name", m.Name, "err", err)
		}
	}
	waiting.setMetrics(resource.Resource)
	return all, nil
}

func (k *Recoverer) reconcileMachineLike(ctx context.Context, kind *machineLikeKind, m *machineLike) error {
	ref := kind.refOf(m)
	if k.p.operations.isRunning(ref) {
		return nil
	}
	switch a := m.allocation(); a.Phase {
	case infrastructure.AllocationAllocating:
		k.startInBackground(ctx, nil, "open/"+string(m.meta.UID), func(ctx context.Context) error {
			return k.runExclusively(ctx, ref, func(ctx context.Context) error { return k.p.resumeAttempt(ctx, kind, ref) })
		})
		return nil
	case infrastructure.AllocationReleasing:
		k.startInBackground(ctx, a.NotBefore, "release/"+string(m.meta.UID), func(ctx context.Context) error {
			_, err := k.p.release(ctx, kind, m.meta.Namespace, m.meta.Name, m.meta.UID)
			return err
		})
		return nil
	case infrastructure.AllocationAllocated:
		if err := latchProvisioned(ctx, kind, m); err != nil {
			return err
		}
	case infrastructure.AllocationReleased:
	default:
		return nil
	}
	k.releaseDuplicates(ctx, kind, m)
	return nil
}

// runExclusively does work on a subject in a flight of its own.
func (k *Recoverer) runExclusively(ctx context.Context, sub objectRef, work func(ctx context.Context) error) error {
	_, err := runExclusive(ctx, k.p, sub, verbRecover, func(ctx context.Context) (struct{}, error) { return struct{}{}, work(ctx) })
	return err
}

func (k *Recoverer) reconcileCluster(ctx context.Context, c *clusterRecord) error {
	sub := objectRef{clusterResource, c.Namespace, c.Name}
	if k.p.operations.isRunning(sub) {
		return nil
	}
	switch a := c.allocation(); a.Phase {
	case infrastructure.AllocationAllocating:
		// A cluster needs nothing that only a request brings, so that the
		// attempt is simply finished.
		k.startInBackground(ctx, a.NotBefore, "open/"+string(c.UID), func(ctx context.Context) error {
			_, err := k.p.AllocateCluster(ctx, c.Namespace, c.Name, &infrastructure.Allocation{ObjectMeta: metav1.ObjectMeta{UID: c.UID}})
			return err
		})
	case infrastructure.AllocationReleasing:
		k.startInBackground(ctx, a.NotBefore, "release/"+string(c.UID), func(ctx context.Context) error {
			_, err := k.p.ReleaseCluster(ctx, c.Namespace, c.Name, c.UID)
			return err
		})
	case infrastructure.AllocationAllocated:
		return latchProvisioned(ctx, k.p.clusters, c)
	}
	return nil
}

// startInBackground does something beside the pass, unless it pauses, is not due, or
// as much as may be is under way.
func (k *Recoverer) startInBackground(ctx context.Context, notBefore *metav1.Time, key string, do func(ctx context.Context) error) {
	k.keepSchedule(key, k.p.timing.PollInterval)
	if notBefore != nil && notBefore.After(k.p.clock.Now()) {
		return
	}
	select {
	case k.slots <- struct{}{}:
	default:
		return
	}
	if !k.isDue(key) {
		<-k.slots
		return
	}
	k.wg.Go(func() {
		defer func() { <-k.slots }()
		if err := do(ctx); err != nil {
			klog.FromContext(ctx).V(2).Info("Recovery failed: retrying", "what", key, "err", err)
		}
	})
}

// isDue tells whether something is to be looked at in this pass; the pause grows
// from time to time, up to a minute.
func (k *Recoverer) isDue(key string) bool {
	now := k.p.clock.Now()
	s := k.schedules[key]
	if now.Before(s.next) {
		return false
	}
	s.next = now.Add(s.interval)
	s.interval = min(2*s.interval, time.Minute)
	return true
}

// keepSchedule keeps the schedule of something for as long as passes see it; the
// first pause is first.
func (k *Recoverer) keepSchedule(key string, first time.Duration) {
	if k.schedules[key] == nil {
		k.schedules[key] = &schedule{interval: first}
	}
	k.schedules[key].seen = true
}

// latchProvisioned records that an object was ready once, which never goes back.
func latchProvisioned[R record](ctx context.Context, records recordStore[R], r R) error {
	if !r.ready() || isProvisioned(*r.initialization()) {
		return nil
	}
	m := r.objectMeta()
	_, err := records.update(ctx, m.Namespace, m.Name, func(now R) error {
		if err := checkUID(now.objectMeta(), m.UID); err != nil {
			return err
		}
		provisioned := true
		now.initialization().Provisioned = &provisioned
		return nil
	})
	return err
}

func isProvisioned(i infrastructure.Initialization) bool {
	return i.Provisioned != nil && *i.Provisioned
}
