package allocation

import (
	"context"
	"net/http"
	"time"

	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// resume looks once for the outcome of an attempt that nobody works on: what
// was allocated is recorded; a claim is made again of a record of which it is
// certain that nothing was. A new attempt needs a request, for its user data.
func (p *Protocol) resume(ctx context.Context, k servers, sub subject) error {
	s, err := k.get(ctx, sub.namespace, sub.name)
	if err != nil {
		return err
	}
	a := s.allocation()
	if a.Phase != infrastructure.AllocationAllocating {
		return nil
	}
	w := p.serverWork(k, sub, s)
	openUntil := p.openUntil(&a.AllocationState)
	began := p.clock.Now()
	m, found, err := w.find(ctx)
	switch {
	case err != nil:
		return asRefusal(err)
	case found:
		_, err := w.finish(ctx, m)
		return err
	case began.Before(openUntil):
		return nil
	}
	w.giveUp(ctx, &refusal{
		code: http.StatusServiceUnavailable, reason: infrastructure.ReasonAllocationUncertain, after: time.Second,
		words: "The server stopped in the middle of an attempt, by which nothing was allocated; it is made again.",
	})
	return nil
}

// duplicates releases machines that carry the identity of an object whose
// record names another, or none any more. The observation only raises the
// suspicion.
func (k *Keeper) duplicates(ctx context.Context, records servers, s *server) {
	a := s.allocation()
	if a.UID == "" {
		return
	}
	sub := subject{records.resource(), s.meta.Namespace, s.meta.Name}
	for _, suspect := range k.p.opts.Observer.MachinesByUID(LabelValue(string(a.UID))) {
		if a.Phase == infrastructure.AllocationAllocated && suspect.AllocationUUID() == a.AllocationUUID {
			continue
		}
		key := "duplicate/" + suspect.AllocationUUID()
		// A release of it whose answer was lost is over by the next look.
		k.watch(key, k.p.timing.Lost)
		k.background(ctx, nil, key, func(ctx context.Context) error {
			k.duplicate.Lock()
			defer k.duplicate.Unlock()
			return k.keep(ctx, sub, func(ctx context.Context) error { return k.p.releaseDuplicate(ctx, records, sub, suspect) })
		})
	}
}

// releaseDuplicate frees a machine with every check of a release, and one
// more: that no record stands for it.
func (p *Protocol) releaseDuplicate(ctx context.Context, k servers, sub subject, suspect *metal.Machine) error {
	s, err := k.get(ctx, sub.namespace, sub.name)
	if err != nil {
		return err
	}
	project, err := p.project(sub.namespace)
	if err != nil {
		return err
	}
	a := s.allocation()
	named := a.Phase == infrastructure.AllocationAllocated && a.AllocationUUID == suspect.AllocationUUID()
	if named || (a.Phase != infrastructure.AllocationAllocated && a.Phase != infrastructure.AllocationReleased) {
		return nil
	}
	m, err := p.machine(ctx, suspect.ID)
	if err != nil {
		return asRefusal(err)
	}
	duplicate := &infrastructure.MachineAllocation{MachineID: suspect.ID, AllocationUUID: suspect.AllocationUUID()}
	duplicate.UID = a.UID
	if whose, err := p.judge(m, duplicate, project); err != nil || whose != ours {
		return err
	}
	// After a move, what carries the uid may be another management cluster's.
	if cluster, _ := metal.TagValue(m.Tags, metal.TagManagementCluster); cluster != LabelValue(p.opts.ManagementCluster) || m.Allocation.Role != k.role() {
		return nil
	}
	if holder, err := p.serverWork(k, sub, s).holder(ctx, m); err != nil || holder != nil {
		return err
	}
	logger := klog.FromContext(ctx).WithValues("machine", m.ID, "recorded", a.MachineID)
	p.at("duplicate/looked")
	if err := p.freeMachine(context.WithoutCancel(ctx), m.ID); err != nil {
		duplicates.WithLabelValues(duplicateHeld).Inc()
		logger.Error(err, "A machine that was allocated twice could not be released: it is tried again")
		return asRefusal(err)
	}
	duplicates.WithLabelValues(duplicateReleased).Inc()
	logger.Info("Released a machine that was allocated twice for one object")
	return nil
}
