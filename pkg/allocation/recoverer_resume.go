// SPDX-License-Identifier: Apache-2.0

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

// resumeAttempt reads the outcome of an attempt that no operation continues: what
// was allocated is recorded; a record for which it is certain that nothing was
// allocated becomes a claim again. A new attempt needs a request, for its user
// data.
func (p *Protocol) resumeAttempt(ctx context.Context, kind *machineLikeKind, ref objectRef) error {
	m, err := kind.get(ctx, ref.namespace, ref.name)
	if err != nil {
		return err
	}
	a := m.allocation()
	if a.Phase != infrastructure.AllocationAllocating {
		return nil
	}
	o := p.newMachineOperation(kind, ref, m)
	began := p.clock.Now()
	found, ok, err := o.find(ctx)
	switch {
	case err != nil:
		return asRefusal(err)
	case ok:
		_, err := o.recordAllocated(ctx, found, false)
		return err
	case began.Before(o.inFlightUntil):
		return nil
	}
	_ = o.recordRefusal(ctx, &refusal{
		code: http.StatusServiceUnavailable, reason: infrastructure.ReasonAllocationUncertain, retryAfter: time.Second,
		message: "The server stopped during an attempt, and nothing was allocated: retrying.",
	})
	return nil
}

// releaseDuplicates releases machines that carry the identity of an object whose
// record names another machine, or none any more. The observation only raises the
// suspicion, and whether there is any is reported. No record shows a call that frees a
// duplicate, so one of an earlier process is waited for: it could free the machine once
// that is allocated for another object.
func (r *Recoverer) releaseDuplicates(ctx context.Context, kind *machineLikeKind, m *machineLike) (suspected bool) {
	a := m.allocation()
	if a.UID == "" {
		return false
	}
	ref := kind.refOf(m)
	for _, suspect := range r.p.opts.Observer.MachinesByUID(LabelValue(string(a.UID))) {
		if a.Phase == infrastructure.AllocationAllocated && suspect.AllocationUUID() == a.AllocationUUID {
			continue
		}
		suspected = true
		if r.p.clock.Since(r.startTime) < r.p.timing.allocateInFlight() {
			break
		}
		key := "duplicate/" + suspect.AllocationUUID()
		r.keepSchedule(key, r.p.timing.UncertainDuration)
		r.startInBackground(ctx, nil, key, func(ctx context.Context) error {
			select {
			case r.duplicateSlot <- struct{}{}:
				defer func() { <-r.duplicateSlot }()
			case <-ctx.Done():
				return ctx.Err()
			}
			return r.runExclusively(ctx, ref, func(ctx context.Context) error { return r.p.releaseDuplicate(ctx, kind, ref, suspect) })
		})
	}
	return suspected
}

// errMachineHeld: the suspect is no duplicate, since another record names it.
var errMachineHeld = errors.New("another record names the machine")

// releaseDuplicate frees a machine with every check of a release, and one
// more: that no record stands for it.
func (p *Protocol) releaseDuplicate(ctx context.Context, kind *machineLikeKind, ref objectRef, suspect *metal.Machine) error {
	m, err := kind.get(ctx, ref.namespace, ref.name)
	if err != nil {
		return err
	}
	project, err := p.projectOf(ref.namespace)
	if err != nil {
		return err
	}
	a := m.allocation()
	named := a.Phase == infrastructure.AllocationAllocated && a.AllocationUUID == suspect.AllocationUUID()
	if named || (a.Phase != infrastructure.AllocationAllocated && a.Phase != infrastructure.AllocationReleased) {
		return nil
	}
	f := &duplicateFreer{
		o: p.newMachineOperation(kind, ref, m), suspect: suspect, project: project,
		allocation: &infrastructure.MachineAllocation{MachineID: suspect.ID, AllocationUUID: suspect.AllocationUUID()},
	}
	f.allocation.UID = a.UID
	_, err = ensureFreed(ctx, p, f, time.Time{}, time.Time{})
	logger := klog.FromContext(ctx).WithValues("machine", suspect.ID, "recorded", a.MachineID)
	switch {
	case errors.Is(err, errMachineHeld):
		return nil
	case err != nil && f.called:
		duplicatesCounter.WithLabelValues(duplicateHeld).Inc()
		logger.Error(err, "Failed to release a duplicate machine: retrying")
	case f.called:
		duplicatesCounter.WithLabelValues(duplicateReleased).Inc()
		logger.Info("Released a duplicate machine")
	}
	return err
}

// duplicateFreer frees a machine that carries the identity of an object whose
// record does not name it.
type duplicateFreer struct {
	o       *machineOperation
	suspect *metal.Machine
	project string
	// allocation is what a record of the suspect would say.
	allocation *infrastructure.MachineAllocation
	// called: the metal-api was asked to free it.
	called bool
}

var _ freer = &duplicateFreer{}

func (f *duplicateFreer) what() string { return "duplicate" }

func (f *duplicateFreer) ownership(ctx context.Context) (ownership, error) {
	m, err := f.o.p.findMachine(ctx, f.suspect.ID)
	if err != nil {
		return owned, err
	}
	if whose, err := ownershipOf(m, f.allocation, f.project); err != nil || whose != owned {
		return whose, err
	}
	// After a move, what carries the uid may be another management cluster's.
	cluster, _ := metal.TagValue(m.Tags, metal.TagManagementCluster)
	if cluster != LabelValue(f.o.p.opts.ManagementCluster) || m.Allocation.Role != f.o.machineKind.role {
		return foreign, nil
	}
	return owned, nil
}

// begin swaps no record: see releaseDuplicates. But the other records are read,
// before the machine is: what its referrer releases after that is seen to be gone.
func (f *duplicateFreer) begin(ctx context.Context) error {
	referrer, _, err := f.o.findReferrer(ctx, f.suspect, refersToMachine)
	if err == nil && referrer != nil {
		err = errMachineHeld
	}
	return err
}

func (f *duplicateFreer) recordReleaseUncertain(context.Context, string) {}

func (f *duplicateFreer) free(ctx context.Context) error {
	f.called = true
	return f.o.p.freeMachine(ctx, f.suspect.ID)
}
