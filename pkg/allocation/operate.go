// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"net/http"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// MachineRef names a machine or firewall. UID is its uid, or empty for whichever object has
// the name.
type MachineRef struct {
	Kind            string // MetalStackMachine or MetalStackFirewall
	Namespace, Name string
	UID             types.UID
	// Releasing: the object may be being deleted, or its machine being released.
	Releasing bool
}

// The operations on metal that is allocated whose errors say more than those of others.
const (
	VerbPower           = "power request"
	VerbReinstall       = "reinstallation"
	VerbConsolePassword = "console password request" //nolint:gosec // no password
)

// isOperation reports whether a verb is that of an operation on metal that is allocated.
func isOperation(verb string) bool {
	return verb != verbAllocate && verb != verbRelease && verb != verbRecover
}

func (p *Protocol) kindOf(ref MachineRef) *machineLikeKind {
	if ref.Kind == p.firewalls.name {
		return p.firewalls
	}
	return p.machines
}

func (p *Protocol) objectRefOf(ref MachineRef) objectRef {
	return objectRef{p.kindOf(ref).resource, ref.Namespace, ref.Name}
}

// StatusError returns an error of an operation on a machine or firewall as an API status.
func (p *Protocol) StatusError(ref MachineRef, err error) error {
	return p.objectRefOf(ref).apiError(err)
}

// Held is a machine or firewall whose record says that it holds metal.
type Held struct {
	// Meta is the object's.
	Meta *metav1.ObjectMeta
	// Allocation is the record of which metal it holds.
	Allocation *infrastructure.MachineAllocation

	operation     *machineOperation
	project       string
	lastOperation *infrastructure.MachineOperation
}

// Held returns an object that holds metal. It is refused with 409 if it does not.
func (p *Protocol) Held(ctx context.Context, ref MachineRef) (*Held, error) {
	h, err := p.held(ctx, ref)
	return h, p.StatusError(ref, err)
}

func (p *Protocol) held(ctx context.Context, ref MachineRef) (*Held, error) {
	kind := p.kindOf(ref)
	m, err := kind.get(ctx, ref.Namespace, ref.Name)
	if err != nil {
		return nil, err
	}
	if err := checkUID(m.meta, ref.UID); err != nil {
		return nil, err
	}
	if err := checkHoldsMetal(m); err != nil && !(ref.Releasing && isReleasing(m)) {
		return nil, err
	}
	project, err := p.projectOf(ref.Namespace)
	if err != nil {
		return nil, err
	}
	return &Held{
		Meta: m.meta, Allocation: m.allocation().DeepCopy(), project: project, lastOperation: (*m.status.LastOperation).DeepCopy(),
		operation: p.newMachineOperation(kind, p.objectRefOf(ref), m),
	}, nil
}

// Operate does work as the only operation on an object that holds metal, and is not being
// deleted unless ref.Releasing is set. Of the object and its metal, allocations, releases and other operations are refused
// meanwhile. In a dry run, work is to change nothing.
func Operate[T any](ctx context.Context, p *Protocol, ref MachineRef, verb string, work func(ctx context.Context, h *Held) (T, error)) (T, error) {
	return run(ctx, p, p.objectRefOf(ref), verb, func(ctx context.Context) (none T, _ error) {
		if err := p.checkWritable(verb); err != nil {
			return none, err
		}
		h, err := p.held(ctx, ref)
		if err != nil {
			return none, err
		}
		if h.Meta.DeletionTimestamp != nil && !ref.Releasing {
			return none, errBeingDeleted()
		}
		return work(ctx, h)
	})
}

// checkWritable refuses an operation that could not be recorded, or whose call of the metal-api
// would be refused, before it begins: so a dry run is answered as the operation. To read the
// console password changes nothing.
func (p *Protocol) checkWritable(verb string) error {
	if verb == VerbConsolePassword {
		return nil
	}
	return p.notWritable()
}

// notWritable returns why this process writes no record any more, as an API status; nil: it does.
func (p *Protocol) notWritable() error {
	if p.opts.Writable == nil {
		return nil
	}
	return p.opts.Writable()
}

// Discovered is a machine in an allocation that has no record.
type Discovered struct {
	p                         *Protocol
	ref                       MachineRef
	machineID, allocationUUID string
}

// OperateDiscovered does work as the only operation on a discovered machine. Work has to observe
// the machine before it changes something.
func OperateDiscovered[T any](ctx context.Context, p *Protocol, ref MachineRef, verb, machineID, allocationUUID string,
	work func(ctx context.Context, d *Discovered) (T, error),
) (T, error) {
	return run(ctx, p, p.objectRefOf(ref), verb, func(ctx context.Context) (none T, _ error) {
		if err := p.checkWritable(verb); err != nil {
			return none, err
		}
		return work(ctx, &Discovered{p, ref, machineID, allocationUUID})
	})
}

// Observe reads the machine, and refuses one that is not allocated in the namespace's project, in
// this allocation, or that a record refers to.
func (d *Discovered) Observe(ctx context.Context) (*metal.Machine, error) {
	p, ref, machineID, allocationUUID := d.p, d.ref, d.machineID, d.allocationUUID
	project, err := p.projectOf(ref.Namespace)
	if err != nil {
		return nil, err
	}
	m, err := p.ObserveMachine(ctx, machineID)
	switch {
	case err != nil:
		return nil, refusalOf(err)
	case m == nil, m.Allocation == nil, m.AllocationUUID() != allocationUUID, m.Project() != project, m.Allocation.Role != p.kindOf(ref).role:
		return nil, refuse(http.StatusConflict, "machine %s is not any more in the allocation %s that is shown", machineID, allocationUUID)
	}
	for _, k := range []*machineLikeKind{p.machines, p.firewalls} {
		all, err := k.list(ctx)
		if err != nil {
			return nil, refusalOf(err)
		}
		for _, object := range all {
			if refersToMachine(object, m) {
				return nil, refuse(http.StatusConflict, "machine %s is not only discovered: an object has it, or is about to", machineID)
			}
		}
	}
	return m, nil
}

// Observe reads the machine, and refuses one that is not the object's: another allocation,
// another project, or another identity.
func (h *Held) Observe(ctx context.Context) (*metal.Machine, error) {
	m, err := h.operation.p.ObserveMachine(ctx, h.Allocation.MachineID)
	if err != nil {
		return nil, refusalOf(err)
	}
	return m, h.Check(m)
}

// ObserveMachine reads a machine; nil if it does not exist. It costs a get, which is constant: a
// find costs the more the larger the fleet is. Only what a get does not show has to be found.
func (p *Protocol) ObserveMachine(ctx context.Context, id string) (*metal.Machine, error) {
	m, err := p.opts.Metal.Machine(ctx, id)
	if metal.IsNotFound(err) {
		return p.findMachine(ctx, id)
	}
	return m, err
}

// Check refuses a machine that is not the object's. A nil one is not shown.
func (h *Held) Check(m *metal.Machine) error {
	id := h.Allocation.MachineID
	whose, err := ownershipOf(m, h.Allocation, h.project)
	switch {
	case err != nil:
		tag := metal.Tag(metal.TagUID, LabelValue(string(h.Allocation.UID)))
		return refuse(http.StatusConflict, "machine %s is in the recorded allocation, but lost its identity tag %s: restore the tag", id, tag)
	case whose == owned:
		return nil
	case whose == foreign:
		return refuse(http.StatusConflict, "machine %s has another allocation than the recorded one, or is allocated for another object", id)
	case whose == absent:
		return refuse(http.StatusConflict, "the metal-api does not show machine %s", id)
	}
	return refuse(http.StatusConflict, "machine %s is not allocated any more", id)
}

// LastOperation is what is recorded of the operation that was requested last, of the
// object's allocation; nil if none was.
func (h *Held) LastOperation() *infrastructure.MachineOperation {
	if last := h.lastOperation; last != nil && last.AllocationUUID == h.Allocation.AllocationUUID {
		return last
	}
	return nil
}

// BeginOperation records, by compare-and-swap, that a call is about to be made. It is refused
// if the record is not as it was read.
func (h *Held) BeginOperation(ctx context.Context, begun *infrastructure.MachineOperation) error {
	err := h.operation.updateOnce(ctx, func(m *machineLike) error {
		if err := checkHoldsMetal(m); err != nil {
			return err
		}
		switch last := *m.status.LastOperation; {
		case m.meta.DeletionTimestamp != nil:
			return errBeingDeleted()
		case m.allocation().AllocationUUID != h.Allocation.AllocationUUID, !apiequality.Semantic.DeepEqual(last, h.lastOperation):
			return &refusal{code: http.StatusConflict, message: "the record was changed by another operation: retry", retryAfter: time.Second}
		}
		*m.status.LastOperation = begun.DeepCopy()
		return nil
	})
	return err
}

// EndOperation records how an operation ended that BeginOperation recorded; nil: as if it had
// not been requested. A later one is left as it is.
func (h *Held) EndOperation(ctx context.Context, begun, ended *infrastructure.MachineOperation) error {
	if ended == nil {
		ended = h.lastOperation
	}
	_, err := h.operation.update(ctx, func(m *machineLike) error {
		if apiequality.Semantic.DeepEqual(*m.status.LastOperation, begun) {
			*m.status.LastOperation = ended.DeepCopy()
		}
		return nil
	})
	return err
}

// checkHoldsMetal refuses an object without metal.
func checkHoldsMetal(m *machineLike) error {
	switch a := m.allocation(); a.Phase {
	case infrastructure.AllocationAllocated:
		return nil
	case infrastructure.AllocationReleasing:
		return refuse(http.StatusConflict, "the machine is being released")
	case infrastructure.AllocationReleased:
		return refuse(http.StatusConflict, "the machine was released")
	}
	return refuse(http.StatusConflict, "no machine is allocated")
}

// isReleasing reports whether an object has metal that is being released.
func isReleasing(m *machineLike) bool {
	a := m.allocation()
	return a.Phase == infrastructure.AllocationReleasing && a.MachineID != ""
}

func errBeingDeleted() error {
	return refuse(http.StatusConflict, "the object is being deleted")
}
