package allocation

import (
	"context"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// Keeper looks after records in the background: it latches what never goes
// back once it was true, takes up what a crash left open, and releases what
// was allocated twice.
type Keeper struct {
	p     *Protocol
	nudge chan struct{}
	// limit is how many things are taken up at a time.
	limit chan struct{}
	wg    sync.WaitGroup
	// duplicate is taken while one is looked at: an object may have several, and
	// has one flight at a time.
	duplicate chan struct{}

	// looks are when each open attempt, and each duplicate, is next looked at.
	looks map[string]*schedule
	// since is when the first pass began.
	since time.Time
	// unrecorded is what was counted last as such, and counted is when.
	unrecorded []unrecorded
	counted    time.Time
}

// schedule is when something is looked at next.
type schedule struct {
	next  time.Time
	pause time.Duration
	seen  bool
}

const (
	// keepInterval is the pause between two passes over the records, all of
	// which are in memory.
	keepInterval = 2 * time.Second
	// resumeLimit keeps a restart from asking everything of the metal-api at once.
	resumeLimit = 4
)

// NewKeeper returns a Keeper that does nothing until it runs.
func NewKeeper(p *Protocol) *Keeper {
	return &Keeper{
		p: p, nudge: make(chan struct{}, 1), limit: make(chan struct{}, resumeLimit), duplicate: make(chan struct{}, 1), looks: map[string]*schedule{},
	}
}

// Run keeps until ctx ends. Only the active server runs it.
func (k *Keeper) Run(ctx context.Context) {
	defer noneWaits()
	defer noneUnrecorded()
	defer k.wg.Wait()
	for {
		k.Pass(ctx)
		timer := k.p.clock.NewTimer(keepInterval)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C():
		case <-k.nudge:
			timer.Stop()
		}
	}
}

// Nudge makes the Keeper look soon, e.g. because an object has changed.
func (k *Keeper) Nudge() {
	select {
	case k.nudge <- struct{}{}:
	default:
	}
}

// Pass looks at every record once. What takes long goes on in the background.
func (k *Keeper) Pass(ctx context.Context) {
	logger := klog.FromContext(ctx)
	if k.since.IsZero() {
		k.since = k.p.clock.Now()
	}
	for _, s := range k.looks {
		s.seen = false
	}
	var everyServer []*server
	complete := true
	for _, records := range []servers{k.p.machines, k.p.firewalls} {
		all, err := records.list(ctx)
		if err != nil {
			logger.Error(err, "Cannot list records", "resource", records.resource().Resource)
			complete = false
			continue
		}
		everyServer = append(everyServer, all...)
		w := waiting{}
		for _, s := range all {
			w.add(k.p, s.meta, s.status.Conditions, &s.allocation().AllocationState)
			if err := k.server(ctx, records, s); err != nil {
				logger.Info("Cannot look after a record", "resource", records.resource().Resource, "namespace", s.meta.Namespace, "name", s.meta.Name, "reason", err.Error())
			}
		}
		w.show(records.resource().Resource)
	}
	clusters, err := k.p.opts.Clusters.List(ctx)
	if err != nil {
		logger.Error(err, "Cannot list records", "resource", clusterResource.Resource)
		complete = false
	}
	w := waiting{}
	for _, c := range clusters {
		w.add(k.p, &c.ObjectMeta, c.Status.Conditions, &clusterAllocation(c).AllocationState)
		if err := k.cluster(ctx, c); err != nil {
			logger.Info("Cannot look after a record", "resource", clusterResource.Resource, "namespace", c.Namespace, "name", c.Name, "reason", err.Error())
		}
	}
	w.show(clusterResource.Resource)
	if complete {
		k.countUnrecorded(ctx, everyServer, clusters)
	}
	for key, s := range k.looks {
		if !s.seen {
			delete(k.looks, key)
		}
	}
}

func (k *Keeper) server(ctx context.Context, records servers, s *server) error {
	sub := subject{records.resource(), s.meta.Namespace, s.meta.Name}
	if k.p.flights.under(sub) {
		return nil
	}
	switch a := s.allocation(); a.Phase {
	case infrastructure.AllocationAllocating:
		k.background(ctx, nil, "open/"+string(s.meta.UID), func(ctx context.Context) error {
			return k.keep(ctx, sub, func(ctx context.Context) error { return k.p.resume(ctx, records, sub) })
		})
		return nil
	case infrastructure.AllocationReleasing:
		k.background(ctx, a.NotBefore, "release/"+string(s.meta.UID), func(ctx context.Context) error {
			_, err := k.p.release(ctx, records, s.meta.Namespace, s.meta.Name, s.meta.UID)
			return err
		})
		return nil
	case infrastructure.AllocationAllocated:
		if err := k.latchServer(ctx, records, s); err != nil {
			return err
		}
	case infrastructure.AllocationReleased:
	default:
		return nil
	}
	k.duplicates(ctx, records, s)
	return nil
}

// keep does work on a subject in a flight of its own.
func (k *Keeper) keep(ctx context.Context, sub subject, work func(ctx context.Context) error) error {
	_, err := fly(ctx, k.p, sub, verbKeep, func(ctx context.Context) (struct{}, error) { return struct{}{}, work(ctx) })
	return err
}

func (k *Keeper) cluster(ctx context.Context, c *infrastructure.MetalStackCluster) error {
	sub := subject{clusterResource, c.Namespace, c.Name}
	if k.p.flights.under(sub) {
		return nil
	}
	switch a := clusterAllocation(c); a.Phase {
	case infrastructure.AllocationAllocating:
		// A cluster needs nothing that only a request brings, so that the
		// attempt is simply finished.
		k.background(ctx, a.NotBefore, "open/"+string(c.UID), func(ctx context.Context) error {
			_, err := k.p.AllocateCluster(ctx, c.Namespace, c.Name, &infrastructure.Allocation{ObjectMeta: metav1.ObjectMeta{UID: c.UID}})
			return err
		})
	case infrastructure.AllocationReleasing:
		k.background(ctx, a.NotBefore, "release/"+string(c.UID), func(ctx context.Context) error {
			_, err := k.p.ReleaseCluster(ctx, c.Namespace, c.Name, c.UID)
			return err
		})
	case infrastructure.AllocationAllocated:
		return k.latchCluster(ctx, c)
	}
	return nil
}

// background does something beside the pass, unless it pauses, is not due, or
// as much as may be is under way.
func (k *Keeper) background(ctx context.Context, notBefore *metav1.Time, key string, do func(ctx context.Context) error) {
	k.watch(key, k.p.timing.Look)
	if notBefore != nil && notBefore.After(k.p.clock.Now()) {
		return
	}
	select {
	case k.limit <- struct{}{}:
	default:
		return
	}
	if !k.due(key) {
		<-k.limit
		return
	}
	k.wg.Go(func() {
		defer func() { <-k.limit }()
		if err := do(ctx); err != nil {
			klog.FromContext(ctx).V(2).Info("Not done; it is tried again", "what", key, "reason", err.Error())
		}
	})
}

// due tells whether something is to be looked at in this pass; the pause grows
// from time to time, up to a minute.
func (k *Keeper) due(key string) bool {
	now := k.p.clock.Now()
	s := k.looks[key]
	if now.Before(s.next) {
		return false
	}
	s.next = now.Add(s.pause)
	s.pause = min(2*s.pause, time.Minute)
	return true
}

// watch keeps the schedule of something for as long as passes see it; the
// first pause is first.
func (k *Keeper) watch(key string, first time.Duration) {
	if k.looks[key] == nil {
		k.looks[key] = &schedule{pause: first}
	}
	k.looks[key].seen = true
}

// latchServer records that the metal was ready once, which never goes back.
func (k *Keeper) latchServer(ctx context.Context, records servers, s *server) error {
	if !s.status.Ready || provisioned(s.status.Initialization) {
		return nil
	}
	_, err := records.update(ctx, s.meta.Namespace, s.meta.Name, func(now *server) error {
		if err := sameObject(now.meta, s.meta.UID); err != nil {
			return err
		}
		latch(&now.status.Initialization)
		return nil
	})
	return err
}

func (k *Keeper) latchCluster(ctx context.Context, c *infrastructure.MetalStackCluster) error {
	if !c.Status.Ready || provisioned(c.Status.Initialization) {
		return nil
	}
	_, err := k.p.opts.Clusters.Update(ctx, c.Namespace, c.Name, func(now *infrastructure.MetalStackCluster) error {
		if err := sameObject(&now.ObjectMeta, c.UID); err != nil {
			return err
		}
		latch(&now.Status.Initialization)
		return nil
	})
	return err
}

func provisioned(i infrastructure.Initialization) bool { return i.Provisioned != nil && *i.Provisioned }

func latch(i *infrastructure.Initialization) {
	yes := true
	i.Provisioned = &yes
}
