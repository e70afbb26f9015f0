package allocation

import (
	"context"
	"errors"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/providerid"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// machineOperation is one operation on a machine or firewall.
type machineOperation struct {
	*Protocol
	records machineLikeRecords
	ref     objectRef
	// uid is the uid of the object, id the identity of its metal.
	uid  types.UID
	id   identity
	plan *plan
	// attempt is the last one that is recorded.
	attempt int32
	// leave gives the place in the partition back.
	leave func()
	// observed is the record as a release saw it, or left it, last.
	observed observedState
	// adopted: what was found had been allocated before.
	adopted bool
	// dryRun: nothing is written.
	dryRun bool
}

// allocateMachineLike takes a machine or firewall from a claim to metal.
func (p *Protocol) allocateMachineLike(ctx context.Context, k machineLikeRecords, sub objectRef, body *infrastructure.Allocation) (*machineLike, error) {
	s, err := k.get(ctx, sub.namespace, sub.name)
	if err != nil {
		return nil, err
	}
	a := s.allocation()
	if err := checkUID(s.meta, uidOf(body)); err != nil {
		return nil, err
	}
	if a.Phase == infrastructure.AllocationAllocated {
		return s, nil
	}
	if err := checkAllocatable(s.meta, a.Phase); err != nil {
		return nil, err
	}
	if err := p.checkBackoff(&a.AllocationState, s.status.Conditions); err != nil {
		return nil, err
	}
	var userData []byte
	cluster := a.ClusterName
	if body != nil {
		userData = body.UserData
		if body.ClusterRef != nil {
			cluster = body.ClusterRef.Name
		}
	}
	w := p.newMachineOperation(k, sub, s)
	w.dryRun = IsDryRun(ctx)
	defer w.leaveGate()
	if w.plan, err = p.newPlan(ctx, k, s, cluster); err != nil {
		return nil, w.recordInvalidSpec(ctx, err)
	}
	w.id.cluster = w.plan.clusterUID
	switch id := w.plan.machineID; {
	case id == "":
		if err := w.plan.checkComplete(); err != nil {
			return nil, w.recordInvalidSpec(ctx, err)
		}
	case !w.dryRun:
		give, taken := p.reservations.reserve(id, sub)
		if !taken {
			return nil, refuse(http.StatusConflict, "the machine %s is being asked for already", id)
		}
		defer give()
	}
	if w.dryRun {
		return s, w.dryRunAllocate(ctx)
	}
	work := allocating[*metal.Machine]{
		what: "machine", find: w.find, enter: w.enter, begin: w.begin, uncertain: w.recordUncertain, check: w.check,
		inFlightUntil: p.inFlightUntil(&a.AllocationState),
		call:          func(ctx context.Context) (*metal.Machine, error) { return w.call(ctx, s, userData) },
	}
	m, err := ensureAllocated(ctx, p, work)
	w.leaveGate()
	if err != nil {
		return nil, w.recordRefusal(ctx, err)
	}
	return w.recordAllocated(ctx, m)
}

func (p *Protocol) newMachineOperation(k machineLikeRecords, sub objectRef, s *machineLike) *machineOperation {
	w := &machineOperation{Protocol: p, records: k, ref: sub, uid: s.meta.UID, attempt: s.allocation().Attempt}
	w.id = identity{uid: s.identityUID(), namespace: sub.namespace, name: sub.name}
	return w
}

// serverChange changes a record; the allocation is never nil.
type serverChange func(s *machineLike, a *infrastructure.MachineAllocation) error

// update changes the record by compare-and-swap, until it is done.
func (w *machineOperation) update(ctx context.Context, change serverChange) (swapped *machineLike, err error) {
	err = w.updateUntilCertain(ctx, func(ctx context.Context) error {
		swapped, err = w.updateRecord(ctx, change)
		return err
	})
	return swapped, err
}

func (w *machineOperation) updateRecord(ctx context.Context, change serverChange) (*machineLike, error) {
	return w.records.update(ctx, w.ref.namespace, w.ref.name, func(s *machineLike) error {
		if err := checkUID(s.meta, w.uid); err != nil {
			return err
		}
		if s.status.Allocation == nil {
			s.status.Allocation = &infrastructure.MachineAllocation{}
		}
		if err := change(s, s.status.Allocation); err != nil || !w.dryRun {
			return err
		}
		return errDryRun
	})
}

// enter takes a place in the partition.
func (w *machineOperation) enter(ctx context.Context) (err error) {
	w.leaveGate()
	w.leave, err = w.limiter.acquire(ctx, w.plan.partition, w.plan.machineID != "")
	return err
}

// begin records an attempt.
func (w *machineOperation) begin(ctx context.Context) error {
	err := w.updateOnce(ctx, func(ctx context.Context) error {
		_, err := w.updateRecord(ctx, func(s *machineLike, a *infrastructure.MachineAllocation) error {
			if err := checkAllocatable(s.meta, a.Phase); err != nil {
				return err
			}
			if err := w.Protocol.begin(&a.AllocationState, w.attempt); err != nil {
				return err
			}
			a.UID, a.ClusterName = w.id.uid, w.plan.clusterName
			w.setAllocatedCondition(&s.status.Conditions, s.meta.Generation, metav1.ConditionFalse, infrastructure.ReasonAllocating,
				"The metal-api is being asked for a machine.")
			return nil
		})
		return err
	})
	if err != nil {
		return &notBegun{err}
	}
	w.attempt++
	return nil
}

// notBegun is why an attempt was not recorded; the record is left as it is.
type notBegun struct{ error }

func (e *notBegun) Unwrap() error { return e.error }

func (w *machineOperation) leaveGate() {
	if w.leave != nil {
		w.leave()
		w.leave = nil
	}
}

// call makes the one call that allocates machines and firewalls.
func (w *machineOperation) call(ctx context.Context, s *machineLike, userData []byte) (*metal.Machine, error) {
	defer w.leaveGate()
	request := w.machineRequest(s, w.records.kind(), w.plan, w.id, userData)
	var m *metal.Machine
	var err error
	if w.records.role() == metal.RoleFirewall {
		m, err = w.opts.Metal.AllocateFirewall(ctx, metal.FirewallRequest{MachineRequest: request, Rules: firewallRules(s.rules)})
	} else {
		m, err = w.opts.Metal.AllocateMachine(ctx, request)
	}
	switch {
	case err == nil && m.AllocationUUID() == "":
		err = &metal.Error{Kind: metal.Uncertain, Op: "machine allocate", Message: "the answer names no allocation"}
	case err == nil:
		w.limiter.recordSuccess(w.plan.partition)
	case failedAfterMachineChoice(err):
		w.limiter.recordFailure(w.plan.partition)
	}
	return m, err
}

// recordRefusal records how an attempt ended without metal.
func (w *machineOperation) recordRefusal(ctx context.Context, err error) error {
	var early *notBegun
	if errors.As(err, &early) {
		return early.error
	}
	var r *refusal
	if !errors.As(err, &r) {
		return err
	}
	_, err = w.update(ctx, func(s *machineLike, a *infrastructure.MachineAllocation) error {
		if a.Phase != infrastructure.AllocationAllocating || a.Attempt != w.attempt {
			return nil
		}
		w.backOffAllocation(&a.AllocationState, r)
		w.setAllocatedCondition(&s.status.Conditions, s.meta.Generation, metav1.ConditionFalse, allocationReason(r), r.message)
		return nil
	})
	w.crashPoint("machine/swapped-back")
	if err != nil && !apierrors.IsNotFound(err) {
		klog.FromContext(ctx).Error(err, "Cannot record that an attempt was refused: it is found out again later")
	}
	return r
}

// recordInvalidSpec makes a condition of a refusal that comes before the first attempt.
func (w *machineOperation) recordInvalidSpec(ctx context.Context, err error) error {
	var r *refusal
	if !errors.As(err, &r) || r.code != http.StatusUnprocessableEntity {
		return err
	}
	if _, err := w.update(ctx, func(s *machineLike, a *infrastructure.MachineAllocation) error {
		if a.Phase == "" {
			w.setAllocatedCondition(&s.status.Conditions, s.meta.Generation, metav1.ConditionFalse, allocationReason(r), r.message)
		}
		return nil
	}); ignoreDryRun(err) != nil {
		return err
	}
	return r
}

// recordUncertain says in the record why it takes so long.
func (w *machineOperation) recordUncertain(ctx context.Context, words string) {
	if _, err := w.update(ctx, func(s *machineLike, a *infrastructure.MachineAllocation) error {
		if a.Phase == infrastructure.AllocationAllocating && a.Attempt == w.attempt {
			w.setAllocatedCondition(&s.status.Conditions, s.meta.Generation, metav1.ConditionFalse, infrastructure.ReasonAllocationUncertain,
				"The outcome of the allocation is unknown; the server checks it before it tries again: "+words)
		}
		return nil
	}); err != nil {
		klog.FromContext(ctx).Info("Cannot record that an answer was lost", "reason", err.Error())
	}
}

// recordAllocated records the metal that was allocated, found or adopted.
func (w *machineOperation) recordAllocated(ctx context.Context, m *metal.Machine) (*machineLike, error) {
	w.opts.Observer.LearnMachine(m)
	w.crashPoint("machine/learned")
	s, err := w.update(ctx, func(s *machineLike, a *infrastructure.MachineAllocation) error {
		same := a.MachineID == m.ID && a.AllocationUUID == m.AllocationUUID()
		switch {
		case a.Phase == infrastructure.AllocationAllocated && same:
			return nil
		case a.Phase != infrastructure.AllocationAllocating && a.Phase != "", a.Attempt != w.attempt:
			// A later attempt may be about to allocate another machine.
			return refuse(http.StatusConflict, "another operation was faster")
		}
		a.Phase, a.StartTime, a.NotBefore = infrastructure.AllocationAllocated, w.recordTime(), nil
		a.MachineID, a.AllocationUUID, a.Adopted = m.ID, m.AllocationUUID(), w.adopted
		a.UID = w.id.uid
		if uid := m.UID(); w.adopted && uid != "" {
			a.UID = types.UID(uid)
		}
		if *s.providerID == "" {
			*s.providerID = providerid.New(m.Partition, m.ID)
		}
		return nil
	})
	w.crashPoint("machine/allocated")
	if err != nil {
		// What no record names is shown as discovered, and kept.
		klog.FromContext(ctx).Error(err, "Allocated metal could not be recorded", "machine", m.ID)
	}
	return s, err
}

// failedAfterMachineChoice tells whether a refusal comes from behind the metal-api's choice
// of a machine, so that there is something for it to clean up.
func failedAfterMachineChoice(err error) bool {
	var e *metal.Error
	if !errors.As(err, &e) || (e.Kind != metal.Refused && e.Kind != metal.NotFound) {
		return false
	}
	// Unknown images, sizes and partitions are 400.
	return e.Status != http.StatusBadRequest && !refusedBeforeMachineChoice.MatchString(e.Message)
}
