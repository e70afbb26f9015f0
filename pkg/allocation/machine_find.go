// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"slices"

	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/providerid"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

func (o *machineOperation) what() string { return "machine" }

// find looks for the machine that carries the object's identity, and that no
// other record names.
func (o *machineOperation) find(ctx context.Context) (*metal.Machine, bool, error) {
	project, err := o.p.projectOf(o.ref.namespace)
	if err != nil {
		return nil, false, err
	}
	identified, err := o.p.findByIdentity(ctx, string(o.identity.uid), project, o.machineKind.role)
	if err != nil {
		return nil, false, err
	}
	var found []*metal.Machine
	for _, m := range identified {
		referrer, _, err := o.findReferrer(ctx, m, hasMachine)
		if err != nil {
			return nil, false, err
		}
		if referrer == nil {
			found = append(found, m)
		}
	}
	if len(found) == 0 {
		return nil, false, nil
	}
	if len(found) > 1 {
		klog.FromContext(ctx).Info("Several machines carry the identity: keeping the oldest, releasing the others", "machines", len(found))
	}
	return found[0], true, nil
}

// findByIdentity returns the machines of a project that carry an identity, oldest
// first. In another project, its tenant could have written the tag.
func (p *Protocol) findByIdentity(ctx context.Context, uid, project, role string) ([]*metal.Machine, error) {
	found, err := p.opts.Metal.FindMachines(ctx, metal.MachineQuery{
		Project: project, Tags: []string{metal.Tag(metal.TagUID, LabelValue(uid))},
	})
	if err != nil {
		return nil, err
	}
	found = slices.DeleteFunc(found, func(m *metal.Machine) bool {
		return m.AllocationUUID() == "" || m.Project() != project || m.Allocation.Role != role || m.UID() != LabelValue(uid)
	})
	slices.SortFunc(found, func(a, b *metal.Machine) int { return a.Allocation.Created.Compare(b.Allocation.Created) })
	return found, nil
}

// findMachine returns a machine, nil if it does not exist. A get would answer
// NotFound for a machine without an event container (docs/metal-api.md, Q24).
func (p *Protocol) findMachine(ctx context.Context, id string) (*metal.Machine, error) {
	found, err := p.opts.Metal.FindMachines(ctx, metal.MachineQuery{ID: id})
	if err != nil {
		return nil, err
	}
	for _, m := range found {
		if m.ID == id {
			return m, nil
		}
	}
	return nil, nil
}

// findReferrer returns another object whose record refers to the machine, or has it,
// and its phase: of two objects that find each other, both step back.
func (o *machineOperation) findReferrer(ctx context.Context, m *metal.Machine, is func(*machineLike, *metal.Machine) bool) (*objectRef, infrastructure.AllocationPhase, error) {
	for _, k := range []*machineLikeKind{o.p.machines, o.p.firewalls} {
		all, err := k.list(ctx)
		if err != nil {
			return nil, "", err
		}
		for _, object := range all {
			other := k.refOf(object)
			if other != o.ref && is(object, m) {
				return &other, object.allocation().Phase, nil
			}
		}
	}
	return nil, "", nil
}

// refersToMachine reports whether a record stands for the machine as it is now, or for
// an attempt to allocate it.
func refersToMachine(object *machineLike, m *metal.Machine) bool {
	// Attempts of the object, and the Recoverer, take what carries its identity
	// whatever the record says: a backup may be older than the allocation.
	if uid := m.UID(); uid != "" && m.Allocation != nil && uid == LabelValue(string(object.identityUID())) {
		return true
	}
	switch a := object.allocation(); a.Phase {
	case infrastructure.AllocationAllocated, infrastructure.AllocationReleasing:
		if a.MachineID != "" {
			return hasMachine(object, m)
		}
	case infrastructure.AllocationAllocating:
	default:
		return false
	}
	id, err := providerid.Parse(*object.providerID)
	return err == nil && id.MachineID == m.ID
}

// hasMachine reports whether a record names the machine, and its allocation if it
// has one.
func hasMachine(object *machineLike, m *metal.Machine) bool {
	a := object.allocation()
	allocated := a.Phase == infrastructure.AllocationAllocated || a.Phase == infrastructure.AllocationReleasing
	return allocated && a.MachineID == m.ID && (m.Allocation == nil || a.AllocationUUID == m.AllocationUUID())
}
