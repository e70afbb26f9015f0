// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// releaseMachineLike takes a machine or firewall from metal, or from an attempt
// to get it, to nothing.
func (p *Protocol) releaseMachineLike(ctx context.Context, kind *machineLikeKind, ref objectRef, uid types.UID) (*machineLike, error) {
	m, err := kind.get(ctx, ref.namespace, ref.name)
	if err != nil {
		return nil, err
	}
	a := m.allocation().DeepCopy()
	if err := checkUID(m.meta, uid); err != nil {
		return nil, err
	}
	switch a.Phase {
	case infrastructure.AllocationReleased:
		return m, nil
	case infrastructure.AllocationReleasing:
		err = p.checkBackoff(m)
	default:
		err = p.checkMarkedBeforeTakeover(m.meta)
	}
	if err != nil {
		return nil, err
	}
	o := p.newMachineOperation(kind, ref, m)
	o.observed = observedStateOf(&a.AllocationState)
	if o.dryRun = IsDryRun(ctx); o.dryRun {
		return m, o.dryRunRelease(ctx, a)
	}
	freeInFlightUntil := p.freeInFlightUntil(&a.AllocationState)
	var begun time.Time
	if a.Phase != infrastructure.AllocationReleasing {
		// Nothing is allocated for this object from here on.
		begun = p.clock.Now()
		if err := o.beginRelease(ctx, p.recordTime()); err != nil {
			return nil, err
		}
		p.crashPoint("machine/releasing")
	}
	if a.MachineID == "" && a.Attempt > 0 {
		if err := o.findUnrecorded(ctx, a); err != nil {
			return nil, err
		}
	}
	whose := gone
	if a.MachineID != "" {
		if whose, err = ensureFreed(ctx, p, machineFreer{o, a}, freeInFlightUntil, begun); err != nil {
			return nil, o.recordReleaseRefusal(ctx, err)
		}
	}
	reason, message := infrastructure.ReasonReleased, "Nothing was allocated."
	switch {
	case whose == foreign:
		reason = infrastructure.ReasonOwnershipMismatch
		message = "Machine " + a.MachineID + " is allocated for another owner, and was not freed."
	case a.MachineID != "":
		message = "Machine " + a.MachineID + " was released."
	}
	return o.recordReleased(ctx, reason, message)
}

// findUnrecorded finds and records what an attempt that was not finished may
// have allocated.
func (o *machineOperation) findUnrecorded(ctx context.Context, a *infrastructure.MachineAllocation) error {
	m, found, err := awaitOutcome[*metal.Machine](ctx, o.p, o, o.inFlightUntil, nil)
	if err != nil {
		return o.recordReleaseRefusal(ctx, asRefusal(err))
	}
	if !found {
		return nil
	}
	a.MachineID, a.AllocationUUID = m.ID, m.AllocationUUID()
	if _, err := o.update(ctx, func(current *machineLike) error {
		recorded := current.allocation()
		recorded.MachineID, recorded.AllocationUUID = a.MachineID, a.AllocationUUID
		return nil
	}); err != nil {
		return err
	}
	o.p.crashPoint("machine/found")
	return nil
}

// machineFreer frees the machine of a recorded allocation.
type machineFreer struct {
	*machineOperation
	allocation *infrastructure.MachineAllocation
}

var _ freer = machineFreer{}

// ownership reads with a find, since a 404 would prove nothing.
func (f machineFreer) ownership(ctx context.Context) (ownership, error) {
	return f.machineOwnership(ctx, f.allocation)
}

func (f machineFreer) begin(ctx context.Context) error { return f.beginRelease(ctx, f.p.recordTime()) }

func (f machineFreer) free(ctx context.Context) error {
	return f.p.freeMachine(ctx, f.allocation.MachineID)
}

// machineOwnership reads whose the machine of a record is.
func (o *machineOperation) machineOwnership(ctx context.Context, a *infrastructure.MachineAllocation) (ownership, error) {
	project, err := o.p.projectOf(o.ref.namespace)
	if err != nil {
		return owned, err
	}
	m, err := o.p.findMachine(ctx, a.MachineID)
	if err != nil {
		return owned, err
	}
	return ownershipOf(m, a, project)
}

// ownershipOf says whose a machine is. Only one in the very allocation that is
// recorded, in the object's project, and with the recorded identity is owned.
func ownershipOf(m *metal.Machine, a *infrastructure.MachineAllocation, project string) (ownership, error) {
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
		"machine %s is in the recorded allocation, but lost its identity tag %s, and is not freed: restore the tag, or free the machine with `metalctl machine delete %s`",
		m.ID, metal.Tag(metal.TagUID, LabelValue(string(a.UID))), m.ID)
}

// freeMachine makes the one call that frees machines and firewalls.
func (p *Protocol) freeMachine(ctx context.Context, id string) error {
	_, err := p.opts.Metal.FreeMachine(ctx, id)
	return err
}
