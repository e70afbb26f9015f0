package allocation

import (
	"context"
	"net/http"
	"regexp"
	"slices"

	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/providerid"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// refusedBeforeMachineChoice are the refusals that come before a machine is chosen, or for
// want of one.
var refusedBeforeMachineChoice = regexp.MustCompile(`no machine available|quota|already allocated`)

// find looks for the machine that carries our identity, and that no other
// record names, whoever wrote the identity there.
func (w *machineOperation) find(ctx context.Context) (*metal.Machine, bool, error) {
	project, err := w.projectOf(w.ref.namespace)
	if err != nil {
		return nil, false, err
	}
	carriers, err := w.findByIdentity(ctx, string(w.id.uid), project, w.records.role())
	if err != nil {
		return nil, false, err
	}
	var found []*metal.Machine
	for _, m := range carriers {
		holder, _, err := w.findHolder(ctx, m, holdsMachine)
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
		klog.FromContext(ctx).Info("More than one machine carries the identity: taking the oldest, the Recoverer releases the others", "machines", len(found))
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

// check is the last look before the call. It is made after the attempt was
// recorded, so that of two objects that want one machine, or of a machine and a
// cluster that goes, at least one sees the other.
func (w *machineOperation) check(ctx context.Context) (*metal.Machine, bool, error) {
	if w.plan.clusterName != "" {
		if _, err := w.joinableCluster(ctx, w.ref.namespace, w.plan.clusterName); err != nil {
			return nil, false, err
		}
	}
	id := w.plan.machineID
	if id == "" {
		return nil, false, nil
	}
	m, err := w.findMachine(ctx, id)
	if err != nil {
		return nil, false, err
	}
	// One answer for what is not there and what is somebody else's.
	unknown := refuseSpec("spec.providerID: no machine %s can be had in project %s", id, w.plan.project)
	if m == nil || (m.Allocation != nil && m.Project() != w.plan.project) {
		return nil, false, unknown
	}
	holder, phase, err := w.findHolder(ctx, m, claimsMachine)
	switch {
	case err != nil:
		return nil, false, err
	case holder == nil:
	case holder.namespace != w.ref.namespace:
		return nil, false, unknown
	case phase == infrastructure.AllocationAllocated:
		return nil, false, refuseSpec("spec.providerID: the machine %s belongs to %s", id, holder)
	default:
		// That may come to nothing, or end, soon.
		return nil, false, refuse(http.StatusConflict, "spec.providerID: the machine %s is being allocated for, or given back by, %s", id, holder)
	}
	if m.Allocation != nil {
		if m.Allocation.Role != w.records.role() {
			return nil, false, refuseSpec("spec.providerID: the machine %s is allocated as a %s", id, m.Allocation.Role)
		}
		// Another object may have given it back after we looked, and before we
		// asked whose it is.
		again, err := w.findMachine(ctx, id)
		if err != nil {
			return nil, false, err
		}
		if again == nil || again.AllocationUUID() != m.AllocationUUID() {
			return nil, false, refuse(http.StatusConflict, "spec.providerID: the machine %s was given back just now", id)
		}
		w.adopted = true
		return again, true, nil
	}
	s, err := w.records.get(ctx, w.ref.namespace, w.ref.name)
	if err != nil {
		return nil, false, err
	}
	switch {
	case !m.Allocatable():
		// The metal-api itself would hand it out ("Failures", by uuid).
		return nil, false, refuseSpec("spec.providerID: the machine %s is not to be had: its last event is %q, its liveliness %q, its state %q",
			id, lastEvent(m), m.Liveliness, m.State)
	case m.Size != s.machineType:
		return nil, false, refuseSpec("spec.providerID: the machine %s is of the size %q, not %q", id, m.Size, s.machineType)
	case m.Partition != w.plan.partition:
		return nil, false, refuseSpec("spec.providerID: the machine %s is in the partition %q, not %q", id, m.Partition, w.plan.partition)
	}
	return nil, false, w.plan.checkComplete()
}

func lastEvent(m *metal.Machine) string {
	if len(m.Events) == 0 {
		return ""
	}
	return m.Events[0].Event
}

// findHolder returns another object whose record claims the machine, or holds it,
// and how far that object is: whoever sees the other steps back.
func (w *machineOperation) findHolder(ctx context.Context, m *metal.Machine, by func(*machineLike, *metal.Machine) bool) (*objectRef, infrastructure.AllocationPhase, error) {
	for _, k := range []machineLikeRecords{w.machines, w.firewalls} {
		all, err := k.list(ctx)
		if err != nil {
			return nil, "", err
		}
		for _, s := range all {
			other := objectRef{k.resource(), s.meta.Namespace, s.meta.Name}
			if other != w.ref && by(s, m) {
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
