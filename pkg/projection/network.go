// SPDX-License-Identifier: Apache-2.0

package projection

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// NetworkProjector combines claims with their network, and shows the other networks that a
// spec can name.
type NetworkProjector struct {
	Source
	holders holders
}

// Kind implements storage.Kinded.
func (*NetworkProjector) Kind() metal.RefKind { return metal.KindNetwork }

// SetHolders implements storage.HolderAware.
func (p *NetworkProjector) SetHolders(records func(metal.Ref) []runtime.Object) { p.holders = records }

// networkIn is the ref of a network as a project can use it.
func networkIn(project, id string) metal.Ref {
	return metal.Ref{Kind: metal.KindNetworkIn, ID: project + "/" + id}
}

// Expand implements storage.Expander: a network is shown in the namespace of each project
// that can use it.
func (p *NetworkProjector) Expand(ref metal.Ref) []metal.Ref {
	if ref.Kind != metal.KindNetwork {
		return nil
	}
	n, presence := p.Facts.Network(ref.ID)
	if presence != metal.Present {
		return nil
	}
	var refs []metal.Ref
	for _, project := range p.projectsOf(n) {
		if _, bound := p.Bindings.Namespace(project); bound && n.UsableBy(project) {
			refs = append(refs, networkIn(project, n.ID))
		}
	}
	return refs
}

// projectsOf are the projects that may be able to use a network.
func (p *NetworkProjector) projectsOf(n *metal.Network) []string {
	var projects []string
	if n.Project != "" {
		projects = append(projects, n.Project)
	}
	if p.BoundProjects == nil || n.Project != "" && !n.Shared {
		return projects
	}
	for _, project := range p.BoundProjects() {
		if project != n.Project {
			projects = append(projects, project)
		}
	}
	return projects
}

// Discovered implements storage.Projector.
func (p *NetworkProjector) Discovered(ref metal.Ref) (runtime.Object, []metal.Ref) {
	if ref.Kind != metal.KindNetworkIn {
		return nil, nil
	}
	project, id, _ := strings.Cut(ref.ID, "/")
	n, presence := p.Facts.Network(id)
	namespace, bound := p.Bindings.Namespace(project)
	if presence != metal.Present || !bound || !n.UsableBy(project) {
		return nil, nil
	}
	object, ok := discoveredMeta(metal.KindNetwork, namespace, n.ID, n.ID, n.Created)
	if !ok {
		return nil, nil
	}
	shown := &infrastructure.MetalStackNetwork{ObjectMeta: object}
	shown.Status.Ready = true
	p.show(&shown.Status, n, project, namespace, "")
	if n.Project != project {
		return shown, nil // No claim of this namespace can have it.
	}
	refs := []metal.Ref{{Kind: metal.KindNetworkClaim, ID: n.ID}}
	if uid := n.UID(); uid != "" {
		refs = append(refs, metal.Ref{Kind: metal.KindUID, ID: uid})
	}
	return shown, refs
}

// show fills in what is observed of a network that the project can use. Of one that is not the
// project's own it is only what a spec needs: its name, labels, and who uses how much of it,
// are others' affairs.
func (p *NetworkProjector) show(s *infrastructure.MetalStackNetworkStatus, n *metal.Network, project, namespace, claim string) {
	s.NetworkID, s.Type, s.Partition, s.NAT = n.ID, networkType(n), n.Partition, n.NAT
	s.Prefixes = slices.Sorted(slices.Values(n.Prefixes))
	s.DestinationPrefixes = slices.Sorted(slices.Values(n.DestinationPrefixes))
	own := n.Project == project
	if own || n.Project == "" {
		s.DisplayName, s.Description = text(n.Name), text(n.Description)
	}
	if !own {
		return
	}
	s.VRF, s.ParentNetworkID = n.VRF, n.ParentNetworkID
	s.AvailableIPs, s.UsedIPs = new(n.AvailableIPs), new(n.UsedIPs)
	s.Users = p.holders.networkUsers(n, namespace, claim)
}

func networkType(n *metal.Network) infrastructure.NetworkType {
	switch {
	case n.Project == "":
		return infrastructure.NetworkExternal
	case n.Shared:
		return infrastructure.NetworkPrivateShared
	}
	return infrastructure.NetworkPrivate
}

func networkClaim(n *infrastructure.MetalStackNetwork) *claim {
	c := &claim{what: "network", meta: &n.ObjectMeta, conditions: n.Status.Conditions}
	if a := n.Status.Allocation; a != nil {
		c.allocation, c.adopted, c.id = &a.AllocationState, a.Adopted, a.NetworkID
	}
	return c
}

// Refs implements storage.Projector. A claim without an allocation refs nothing, whatever
// network it names.
func (p *NetworkProjector) Refs(record runtime.Object) []metal.Ref {
	n, ok := record.(*infrastructure.MetalStackNetwork)
	if !ok {
		return nil
	}
	return networkClaim(n).refs(metal.KindNetwork, metal.KindNetworkClaim)
}

// Strip implements storage.Projector.
func (p *NetworkProjector) Strip(obj runtime.Object) {
	n, ok := obj.(*infrastructure.MetalStackNetwork)
	if !ok {
		return
	}
	n.Status = infrastructure.MetalStackNetworkStatus{
		Conditions: recordedConditions(n.Status.Conditions, networkClaim(n).allocation),
		Allocation: n.Status.Allocation, Deletion: n.Status.Deletion,
	}
}

// Project implements storage.Projector.
func (p *NetworkProjector) Project(record, previous runtime.Object) runtime.Object {
	obj := record.DeepCopyObject()
	n, ok := obj.(*infrastructure.MetalStackNetwork)
	if !ok {
		return obj
	}
	p.Strip(n)
	shown, _ := previous.(*infrastructure.MetalStackNetwork)
	if shown != nil && shown.UID != n.UID {
		shown = nil
	}
	var before []metav1.Condition
	if shown != nil {
		before = shown.Status.Conditions
	}
	n.Status.Managed = true
	c := networkClaim(n)
	presence, gone := p.fill(c, n, shown)
	ready := c.readyState(presence, gone, readyBefore(before))
	n.Status.Ready = ready.isTrue()
	n.Status.Conditions = c.projectedConditions(ready, before, &p.Source)
	return n
}

// fill fills in what is observed of the claim's network; of what is not observed, what was
// shown.
func (p *NetworkProjector) fill(c *claim, n, shown *infrastructure.MetalStackNetwork) (metal.Presence, *conditionState) {
	if !c.shows() {
		return metal.Unobserved, nil
	}
	n.Status.NetworkID = c.id
	fact, presence := p.Facts.Network(c.id)
	switch {
	case presence == metal.Present:
		p.show(&n.Status, fact, fact.Project, n.Namespace, n.Name)
	case presence == metal.Gone:
		return presence, &conditionState{
			status: metav1.ConditionFalse, reason: infrastructure.ReasonNetworkGone,
			message: fmt.Sprintf("Network %s not found in the metal-api.", c.id),
		}
	case shown != nil && shown.Status.NetworkID == c.id:
		status := shown.Status.DeepCopy()
		status.Conditions, status.Allocation, status.Deletion = n.Status.Conditions, n.Status.Allocation, n.Status.Deletion
		n.Status = *status
	}
	return presence, nil
}
