// SPDX-License-Identifier: Apache-2.0

package projection

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
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
	shared  sharedNetworks
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
func (p *NetworkProjector) Expand(ref metal.Ref) []metal.ExpandedRef {
	if ref.Kind != metal.KindNetwork {
		return nil
	}
	n, presence := p.Facts.Network(ref.ID)
	if presence != metal.Present {
		p.shared.forget(ref.ID)
		return nil
	}
	var all []metal.ExpandedRef
	add := func(project string, shows any) {
		if namespace, bound := p.Bindings.Namespace(project); bound && n.UsableBy(project) {
			all = append(all, metal.ExpandedRef{Ref: networkIn(project, n.ID), Namespace: namespace, Shows: shows})
		}
	}
	if n.Project != "" {
		add(n.Project, n)
	}
	if p.BoundProjects == nil || n.Project != "" && !n.Shared {
		p.shared.forget(ref.ID)
		return all
	}
	shared, projects := p.shared.of(n), p.BoundProjects()
	all = slices.Grow(all, len(projects))
	for _, project := range projects {
		if project != n.Project {
			add(project, shared)
		}
	}
	return all
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
	if n.Project != project {
		shared := p.shared.of(n)
		object, ok := discoveredMeta(metal.KindNetwork, namespace, n.ID, n.ID, shared.created)
		if !ok {
			return nil, nil
		}
		// No claim of this namespace can have it.
		return &infrastructure.MetalStackNetwork{ObjectMeta: object, Status: shared.status}, nil
	}
	object, ok := discoveredMeta(metal.KindNetwork, namespace, n.ID, n.ID, n.Created)
	if !ok {
		return nil, nil
	}
	shown := &infrastructure.MetalStackNetwork{ObjectMeta: object}
	shown.Status.Ready = true
	showNetwork(&shown.Status, n, true)
	shown.Status.Users = p.holders.networkUsers(n, namespace, "")
	refs := []metal.Ref{{Kind: metal.KindNetworkClaim, ID: n.ID}}
	if uid := n.UID(); uid != "" {
		refs = append(refs, metal.Ref{Kind: metal.KindUID, ID: uid})
	}
	return shown, refs
}

// showNetwork fills in what is observed of a network that a project can use, but for its users. Of
// one that is not the project's own it is only what a spec needs: not who uses how much of it, and
// of another project's not its name either.
func showNetwork(s *infrastructure.MetalStackNetworkStatus, n *metal.Network, own bool) {
	s.NetworkID, s.Type, s.Partition, s.NAT = n.ID, networkType(n), n.Partition, n.NAT
	s.Prefixes = slices.Sorted(slices.Values(n.Prefixes))
	s.DestinationPrefixes = slices.Sorted(slices.Values(n.DestinationPrefixes))
	if own || n.Project == "" {
		s.DisplayName, s.Description = text(n.Name), text(n.Description)
	}
	if !own {
		return
	}
	s.VRF, s.ParentNetworkID = n.VRF, n.ParentNetworkID
	s.AvailableIPs, s.UsedIPs = new(n.AvailableIPs), new(n.UsedIPs)
}

// sharedNetwork is what every project is shown of a network that is not its own. It does not change.
type sharedNetwork struct {
	status  infrastructure.MetalStackNetworkStatus
	created time.Time
}

func newSharedNetwork(n *metal.Network) *sharedNetwork {
	shared := &sharedNetwork{}
	shared.status.Ready = true
	showNetwork(&shared.status, n, false)
	if n.Project == "" {
		shared.created = n.Created
	}
	return shared
}

// sharedNetworks has, by id, what is shown of networks in several namespaces: while that is the
// same, so is the pointer to it.
type sharedNetworks struct {
	mu   sync.Mutex
	byID map[string]sharedOf
}

type sharedOf struct {
	network *metal.Network
	shows   *sharedNetwork
}

func (s *sharedNetworks) of(n *metal.Network) *sharedNetwork {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.byID[n.ID]
	if known.network == n {
		return known.shows
	}
	shows := newSharedNetwork(n)
	if known.shows != nil && known.shows.created.Equal(shows.created) && apiequality.Semantic.DeepEqual(known.shows.status, shows.status) {
		shows = known.shows
	}
	if s.byID == nil {
		s.byID = map[string]sharedOf{}
	}
	s.byID[n.ID] = sharedOf{n, shows}
	return shows
}

func (s *sharedNetworks) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byID, id)
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
	project, bound := p.Bindings.Project(n.Namespace)
	switch {
	case presence == metal.Present && bound && fact.Project == project:
		showNetwork(&n.Status, fact, true)
		n.Status.Users = p.holders.networkUsers(fact, n.Namespace, n.Name)
	case presence == metal.Present && bound:
		// Which project has it now must not be disclosed.
		return presence, &conditionState{
			status: metav1.ConditionFalse, reason: infrastructure.ReasonNetworkGone,
			message: fmt.Sprintf("Network %s is not of the project of this namespace.", c.id),
		}
	case presence == metal.Present:
		// Whose it should be is not known.
		return metal.Unobserved, nil
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
