package allocation

import (
	"context"
	"errors"
	"net/http"
	"time"

	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// resumeAttempt looks once for the outcome of an attempt that nobody works on: what
// was allocated is recorded; a claim is made again of a record of which it is
// certain that nothing was. A new attempt needs a request, for its user data.
func (p *Protocol) resumeAttempt(ctx context.Context, k machineLikeRecords, sub objectRef) error {
	s, err := k.get(ctx, sub.namespace, sub.name)
	if err != nil {
		return err
	}
	a := s.allocation()
	if a.Phase != infrastructure.AllocationAllocating {
		return nil
	}
	w := p.newMachineOperation(k, sub, s)
	openUntil := p.inFlightUntil(&a.AllocationState)
	began := p.clock.Now()
	m, found, err := w.find(ctx)
	switch {
	case err != nil:
		return asRefusal(err)
	case found:
		_, err := w.recordAllocated(ctx, m)
		return err
	case began.Before(openUntil):
		return nil
	}
	w.recordRefusal(ctx, &refusal{
		code: http.StatusServiceUnavailable, reason: infrastructure.ReasonAllocationUncertain, retryAfter: time.Second,
		message: "The server stopped in the middle of an attempt, by which nothing was allocated; it is made again.",
	})
	return nil
}

// releaseDuplicates releases machines that carry the identity of an object whose
// record names another, or none any more. The observation only raises the
// suspicion. No record tells of a call that frees a duplicate, so that of a
// server that was here before is waited for: once the machine is somebody
// else's, it would free that.
func (k *Recoverer) releaseDuplicates(ctx context.Context, records machineLikeRecords, s *machineLike) {
	a := s.allocation()
	if a.UID == "" || k.p.clock.Since(k.startTime) < k.p.timing.allocateInFlight() {
		return
	}
	sub := objectRef{records.resource(), s.meta.Namespace, s.meta.Name}
	for _, suspect := range k.p.opts.Observer.MachinesByUID(LabelValue(string(a.UID))) {
		if a.Phase == infrastructure.AllocationAllocated && suspect.AllocationUUID() == a.AllocationUUID {
			continue
		}
		key := "duplicate/" + suspect.AllocationUUID()
		k.keepSchedule(key, k.p.timing.UncertainDuration)
		k.startInBackground(ctx, nil, key, func(ctx context.Context) error {
			select {
			case k.duplicateSlot <- struct{}{}:
				defer func() { <-k.duplicateSlot }()
			case <-ctx.Done():
				return ctx.Err()
			}
			return k.runExclusively(ctx, sub, func(ctx context.Context) error { return k.p.releaseDuplicate(ctx, records, sub, suspect) })
		})
	}
}

// errMachineHeld: a suspect is no duplicate, another record names it.
var errMachineHeld = errors.New("another record names it")

// releaseDuplicate frees a machine with every check of a release, and one
// more: that no record stands for it.
func (p *Protocol) releaseDuplicate(ctx context.Context, k machineLikeRecords, sub objectRef, suspect *metal.Machine) error {
	s, err := k.get(ctx, sub.namespace, sub.name)
	if err != nil {
		return err
	}
	project, err := p.projectOf(sub.namespace)
	if err != nil {
		return err
	}
	a := s.allocation()
	named := a.Phase == infrastructure.AllocationAllocated && a.AllocationUUID == suspect.AllocationUUID()
	if named || (a.Phase != infrastructure.AllocationAllocated && a.Phase != infrastructure.AllocationReleased) {
		return nil
	}
	duplicate := &infrastructure.MachineAllocation{MachineID: suspect.ID, AllocationUUID: suspect.AllocationUUID()}
	duplicate.UID = a.UID
	called := false
	_, err = ensureFreed(ctx, p, releasing{
		what: "duplicate",
		look: func(ctx context.Context) (ownership, error) {
			m, err := p.findMachine(ctx, suspect.ID)
			if err != nil {
				return owned, err
			}
			if whose, err := p.ownershipOf(m, duplicate, project); err != nil || whose != owned {
				return whose, err
			}
			// After a move, what carries the uid may be another management cluster's.
			if cluster, _ := metal.TagValue(m.Tags, metal.TagManagementCluster); cluster != LabelValue(p.opts.ManagementCluster) || m.Allocation.Role != k.role() {
				return foreign, nil
			}
			return owned, nil
		},
		// There is no record to be swapped: see duplicates. But others are asked,
		// before the look: what its holder gives back after that is seen to be gone.
		begin: func(ctx context.Context) error {
			holder, _, err := p.newMachineOperation(k, sub, s).findHolder(ctx, suspect, claimsMachine)
			if err == nil && holder != nil {
				err = errMachineHeld
			}
			return err
		},
		call: func(ctx context.Context) error {
			called = true
			return p.freeMachine(ctx, suspect.ID)
		},
	})
	logger := klog.FromContext(ctx).WithValues("machine", suspect.ID, "recorded", a.MachineID)
	switch {
	case errors.Is(err, errMachineHeld):
		return nil
	case err != nil && called:
		duplicatesCounter.WithLabelValues(duplicateHeld).Inc()
		logger.Error(err, "A machine that was allocated twice could not be released: it is tried again")
	case called:
		duplicatesCounter.WithLabelValues(duplicateReleased).Inc()
		logger.Info("Released a machine that was allocated twice for one object")
	}
	return err
}
