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

// find looks for the machine that carries our identity, and that no other
// record names, whoever wrote the identity there.
func (o *machineOperation) find(ctx context.Context) (*metal.Machine, bool, error) {
	project, err := o.p.projectOf(o.ref.namespace)
	if err != nil {
		return nil, false, err
	}
	carriers, err := o.p.findByIdentity(ctx, string(o.identity.uid), project, o.machineKind.role)
	if err != nil {
		return nil, false, err
	}
	var found []*metal.Machine
	for _, m := range carriers {
		holder, _, err := o.findHolder(ctx, m, holdsMachine)
		if err != nil {
			return nil, false, err
		}
		if holder == nil {
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
// first. In another project anybody could have written the tag.
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

// findMachine looks at one machine, which is nil if the metal-api does not know it.
// A get would answer NotFound for a machine without an event container (docs/metal-api.md, Q24).
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

// findHolder returns another object whose record claims the machine, or holds it,
// and how far that object is: whoever sees the other steps back.
func (o *machineOperation) findHolder(ctx context.Context, m *metal.Machine, by func(*machineLike, *metal.Machine) bool) (*objectRef, infrastructure.AllocationPhase, error) {
	for _, k := range []*machineLikeKind{o.p.machines, o.p.firewalls} {
		all, err := k.list(ctx)
		if err != nil {
			return nil, "", err
		}
		for _, s := range all {
			other := k.refOf(s)
			if other != o.ref && by(s, m) {
				return &other, s.allocation().Phase, nil
			}
		}
	}
	return nil, "", nil
}

// claimsMachine tells whether a record stands for the machine as it is now, or for an
// attempt to get it.
func claimsMachine(s *machineLike, m *metal.Machine) bool {
	// Its own attempts, and the Recoverer, take what carries the identity for its
	// own, whatever the record says: a backup may be older than the allocation.
	if uid := m.UID(); uid != "" && m.Allocation != nil && uid == LabelValue(string(s.identityUID())) {
		return true
	}
	switch a := s.allocation(); a.Phase {
	case infrastructure.AllocationAllocated, infrastructure.AllocationReleasing:
		if a.MachineID != "" {
			return holdsMachine(s, m)
		}
	case infrastructure.AllocationAllocating:
	default:
		return false
	}
	id, err := providerid.Parse(*s.providerID)
	return err == nil && id.MachineID == m.ID
}

// holdsMachine tells whether a record names the machine, in its allocation if it is in one.
func holdsMachine(s *machineLike, m *metal.Machine) bool {
	a := s.allocation()
	held := a.Phase == infrastructure.AllocationAllocated || a.Phase == infrastructure.AllocationReleasing
	return held && a.MachineID == m.ID && (m.Allocation == nil || a.AllocationUUID == m.AllocationUUID())
}
