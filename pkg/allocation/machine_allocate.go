// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"errors"
	"net/http"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/providerid"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// machineOperation is one operation on a machine or firewall.
type machineOperation struct {
	operation[*machineLike]
	machineKind *machineLikeKind
}

func (p *Protocol) newMachineOperation(kind *machineLikeKind, ref objectRef, m *machineLike) *machineOperation {
	return &machineOperation{machineKind: kind, operation: operation[*machineLike]{
		p: p, records: kind, traits: machineLikeOperations, ref: ref, uid: m.meta.UID, attempt: m.allocation().Attempt,
		inFlightUntil: p.inFlightUntil(&m.allocation().AllocationState),
		identity:      identity{uid: m.identityUID(), namespace: ref.namespace, name: ref.name},
	}}
}

// allocateMachineLike takes a machine or firewall from a claim to metal.
func (p *Protocol) allocateMachineLike(ctx context.Context, kind *machineLikeKind, ref objectRef, body *infrastructure.Allocation) (*machineLike, error) {
	claim, err := kind.get(ctx, ref.namespace, ref.name)
	if err != nil {
		return nil, err
	}
	state := claim.allocation()
	if err := checkUID(claim.meta, uidOf(body)); err != nil {
		return nil, err
	}
	if state.Phase == infrastructure.AllocationAllocated {
		return claim, nil
	}
	if err := checkAllocatable(claim.meta, state.Phase); err != nil {
		return nil, err
	}
	if err := p.checkBackoff(claim); err != nil {
		return nil, err
	}
	var userData []byte
	cluster := state.ClusterName
	if body != nil {
		userData = body.UserData
		if body.ClusterRef != nil {
			cluster = body.ClusterRef.Name
		}
	}
	a := &machineAllocator{machineOperation: p.newMachineOperation(kind, ref, claim), claim: claim, userData: userData}
	a.dryRun = IsDryRun(ctx)
	defer a.releaseSlot()
	if a.plan, err = p.newPlan(ctx, kind, claim, cluster); err != nil {
		return nil, a.recordInvalidSpec(ctx, err)
	}
	a.identity.cluster, a.clusterName = a.plan.clusterID, a.plan.clusterName
	switch id := a.plan.machineID; {
	case id == "":
		if err := a.checkComplete(); err != nil {
			return nil, a.recordInvalidSpec(ctx, err)
		}
	case a.dryRun:
		if p.reservations.isReserved(id) {
			return nil, errMachineReserved(id)
		}
	default:
		cancel, reserved := p.reservations.reserve(id)
		if !reserved {
			return nil, errMachineReserved(id)
		}
		defer cancel()
	}
	if a.dryRun {
		return claim, a.dryRunAllocate(ctx)
	}
	m, err := ensureAllocated(ctx, &a.operation, a)
	a.releaseSlot()
	if err != nil {
		err = a.recordRefusal(ctx, a.withNumbers(err))
		a.readReservations(ctx, err)
		return nil, err
	}
	return a.recordAllocated(ctx, m, a.adopted)
}

func errMachineReserved(id string) error {
	return refuse(http.StatusConflict, "spec.providerID: machine %s is being allocated for another object: retry", id)
}

// recordInvalidSpec makes a condition of a refusal that comes before the first
// attempt.
func (o *machineOperation) recordInvalidSpec(ctx context.Context, err error) error {
	var r *refusal
	if !errors.As(err, &r) || r.code != http.StatusUnprocessableEntity {
		return err
	}
	if _, err := o.update(ctx, func(m *machineLike) error {
		if m.allocation().Phase == "" {
			o.setAllocatedCondition(m, allocationReason(r), r.message)
		}
		return nil
	}); ignoreDryRun(err) != nil {
		return err
	}
	return r
}

// recordAllocated records the metal that was allocated, found or adopted.
func (o *machineOperation) recordAllocated(ctx context.Context, m *metal.Machine, adopted bool) (*machineLike, error) {
	o.p.opts.Observer.LearnMachine(m)
	o.p.crashPoint("machine/answered")
	recorded, err := o.update(ctx, func(current *machineLike) error {
		a := current.allocation()
		same := a.MachineID == m.ID && a.AllocationUUID == m.AllocationUUID()
		switch {
		case a.Phase == infrastructure.AllocationAllocated && same:
			return nil
		case a.Phase != infrastructure.AllocationAllocating && a.Phase != "", a.Attempt != o.attempt:
			// A later attempt may be about to allocate another machine.
			return refuse(http.StatusConflict, "the record was changed by another operation: retry")
		}
		a.Phase, a.StartTime, a.NotBefore = infrastructure.AllocationAllocated, o.p.recordTime(), nil
		a.MachineID, a.AllocationUUID, a.Adopted = m.ID, m.AllocationUUID(), adopted
		if last := *current.status.LastOperation; last != nil && last.AllocationUUID != a.AllocationUUID {
			*current.status.LastOperation = nil
		}
		a.UID = o.identity.uid
		if uid := m.UID(); adopted && uid != "" {
			a.UID = types.UID(uid)
		}
		if *current.providerID == "" {
			*current.providerID = providerid.New(m.Partition, m.ID)
		}
		return nil
	})
	o.p.crashPoint("machine/allocated")
	if err != nil {
		// Metal that no record names is shown as discovered, and kept.
		klog.FromContext(ctx).Error(err, "Failed to record allocated metal", "machine", m.ID)
	}
	return recorded, err
}
