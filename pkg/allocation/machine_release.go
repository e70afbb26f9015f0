package allocation

import (
	"context"
	"errors"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// releaseMachineLike takes a machine or firewall from metal, or from an attempt to
// get it, to nothing.
func (p *Protocol) releaseMachineLike(ctx context.Context, k machineLikeRecords, sub objectRef, uid types.UID) (*machineLike, error) {
	s, err := k.get(ctx, sub.namespace, sub.name)
	if err != nil {
		return nil, err
	}
	a := s.allocation().DeepCopy()
	if err := checkUID(s.meta, uid); err != nil {
		return nil, err
	}
	if a.Phase == infrastructure.AllocationReleased {
		return s, nil
	}
	if a.Phase == infrastructure.AllocationReleasing {
		if err := p.checkBackoff(&a.AllocationState, s.status.Conditions); err != nil {
			return nil, err
		}
	}
	if a.Phase != infrastructure.AllocationReleasing {
		if err := p.checkMarkedBeforeTakeover(s.meta); err != nil {
			return nil, err
		}
	}
	w := p.newMachineOperation(k, sub, s)
	w.observed = observedStateOf(&a.AllocationState)
	if w.dryRun = IsDryRun(ctx); w.dryRun {
		return s, w.dryRunRelease(ctx, a)
	}
	work := releasing{what: "machine", begin: w.beginFree, uncertain: w.recordReleaseUncertain}
	// Either an attempt to allocate whose answer may still come, or a release.
	openUntil := p.inFlightUntil(&a.AllocationState)
	work.inFlightUntil = p.freeInFlightUntil(&a.AllocationState)
	if a.Phase != infrastructure.AllocationReleasing {
		// Nothing is allocated for this object from here on.
		work.begun = p.clock.Now()
		if err := w.beginFree(ctx); err != nil {
			return nil, err
		}
		p.crashPoint("machine/releasing")
	}
	if a.MachineID == "" && a.Attempt > 0 {
		m, found, err := awaitOutcome(ctx, p, allocating[*metal.Machine]{what: "machine", inFlightUntil: openUntil, find: w.find})
		if err != nil {
			return nil, w.recordReleaseRefusal(ctx, asRefusal(err))
		}
		if found {
			a.MachineID, a.AllocationUUID = m.ID, m.AllocationUUID()
			if _, err := w.update(ctx, func(_ *machineLike, r *infrastructure.MachineAllocation) error {
				r.MachineID, r.AllocationUUID = a.MachineID, a.AllocationUUID
				return nil
			}); err != nil {
				return nil, err
			}
			p.crashPoint("machine/found")
		}
	}
	whose := gone
	if a.MachineID != "" {
		work.look = func(ctx context.Context) (ownership, error) { return w.machineOwnership(ctx, a) }
		work.call = func(ctx context.Context) error { return p.freeMachine(ctx, a.MachineID) }
		if whose, err = ensureFreed(ctx, p, work); err != nil {
			return nil, w.recordReleaseRefusal(ctx, err)
		}
	}
	return w.recordReleased(ctx, a, whose)
}

// beginFree records that a machine is about to be freed.
func (w *machineOperation) beginFree(ctx context.Context) error {
	start := w.recordTime()
	err := w.updateOnce(ctx, func(ctx context.Context) error {
		_, err := w.updateRecord(ctx, func(s *machineLike, a *infrastructure.MachineAllocation) error {
			if err := w.Protocol.beginFree(&a.AllocationState, w.observed, start); err != nil {
				return err
			}
			if a.UID == "" {
				a.UID = w.id.uid
			}
			w.setAllocatedCondition(&s.status.Conditions, s.meta.Generation, metav1.ConditionFalse, infrastructure.ReasonReleasing,
				"The machine is being given back to the metal-api.")
			return nil
		})
		return err
	})
	if err == nil {
		w.observed.phase, w.observed.start = infrastructure.AllocationReleasing, start
	}
	return err
}

// machineOwnership looks at the machine of a record. A 404 would prove nothing, so it is
// asked for with a find.
func (w *machineOperation) machineOwnership(ctx context.Context, a *infrastructure.MachineAllocation) (ownership, error) {
	project, err := w.projectOf(w.ref.namespace)
	if err != nil {
		return owned, err
	}
	m, err := w.findMachine(ctx, a.MachineID)
	if err != nil {
		return owned, err
	}
	return w.ownershipOf(m, a, project)
}

// ownershipOf says whose a machine is. Only one in the very allocation that is
// recorded, in our project, and with the recorded identity is ours.
func (p *Protocol) ownershipOf(m *metal.Machine, a *infrastructure.MachineAllocation, project string) (ownership, error) {
	switch {
	case m == nil:
		return absent, nil
	case m.Allocation == nil:
		return gone, nil
	case m.AllocationUUID() != a.AllocationUUID || m.Project() != project:
		return foreign, nil
	case m.UID() == LabelValue(string(a.UID)), m.UID() == "" && a.Adopted:
		return owned, nil
	case m.UID() != "":
		return foreign, nil
	}
	return owned, refuse(http.StatusConflict,
		"machine %s is in the allocation that is recorded, but lost the tag %s, which says whose it is, and is not touched: free it with `metalctl machine delete %s`, or write the tag again",
		m.ID, metal.Tag(metal.TagUID, LabelValue(string(a.UID))), m.ID)
}

// freeMachine makes the one call that frees machines and firewalls.
func (p *Protocol) freeMachine(ctx context.Context, id string) error {
	_, err := p.opts.Metal.FreeMachine(ctx, id)
	return err
}

// recordReleaseRefusal records why a release does not get on; it is tried again. One that
// somebody else has begun since is theirs to hold back: its call may be open.
func (w *machineOperation) recordReleaseRefusal(ctx context.Context, err error) error {
	var r *refusal
	if !errors.As(err, &r) {
		return err
	}
	if _, err := w.update(ctx, func(s *machineLike, a *infrastructure.MachineAllocation) error {
		if a.Phase != infrastructure.AllocationReleasing || !w.observed.matches(&a.AllocationState) {
			return nil
		}
		w.backOffRelease(&a.AllocationState, r)
		w.setAllocatedCondition(&s.status.Conditions, s.meta.Generation, metav1.ConditionFalse, releaseReason(r), r.message)
		return nil
	}); err != nil {
		klog.FromContext(ctx).Info("Cannot record why a release was refused", "reason", err.Error())
	}
	w.crashPoint("machine/held-back")
	return r
}

// recordReleaseUncertain says in the record why a release takes so long.
func (w *machineOperation) recordReleaseUncertain(ctx context.Context, words string) {
	if _, err := w.update(ctx, func(s *machineLike, a *infrastructure.MachineAllocation) error {
		if a.Phase == infrastructure.AllocationReleasing && w.observed.matches(&a.AllocationState) {
			w.setAllocatedCondition(&s.status.Conditions, s.meta.Generation, metav1.ConditionFalse, infrastructure.ReasonReleaseUncertain,
				"The outcome of the release is unknown; the server checks it before it tries again: "+words)
		}
		return nil
	}); err != nil {
		klog.FromContext(ctx).Info("Cannot record that an answer was lost", "reason", err.Error())
	}
}

// recordReleased records that the object holds nothing any more.
func (w *machineOperation) recordReleased(ctx context.Context, was *infrastructure.MachineAllocation, whose ownership) (*machineLike, error) {
	reason, message := infrastructure.ReasonReleased, "Nothing had been allocated."
	switch {
	case whose == foreign:
		reason = infrastructure.ReasonNotOurs
		message = "Machine " + was.MachineID + " belongs to somebody else by now, and was not touched."
	case was.MachineID != "":
		message = "Machine " + was.MachineID + " was given back."
	}
	s, err := w.update(ctx, func(s *machineLike, a *infrastructure.MachineAllocation) error {
		if a.Phase == infrastructure.AllocationReleased {
			return nil
		}
		a.Phase, a.StartTime, a.NotBefore = infrastructure.AllocationReleased, w.recordTime(), nil
		w.setAllocatedCondition(&s.status.Conditions, s.meta.Generation, metav1.ConditionFalse, reason, message)
		return nil
	})
	w.crashPoint("machine/released")
	return s, err
}
