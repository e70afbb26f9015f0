// SPDX-License-Identifier: Apache-2.0

package projection

import (
	"cmp"
	"fmt"
	"net/netip"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// IPProjector combines claims with their address, and shows the other addresses of projects.
type IPProjector struct {
	Source
	holders holders
}

// Kind implements storage.Kinded.
func (*IPProjector) Kind() metal.RefKind { return metal.KindIP }

// SetHolders implements storage.HolderAware.
func (p *IPProjector) SetHolders(records func(metal.Ref) []runtime.Object) { p.holders = records }

// Discovered implements storage.Projector. What refers to an address is a record of its very
// allocation.
func (p *IPProjector) Discovered(ref metal.Ref) (runtime.Object, []metal.Ref) {
	if ref.Kind != metal.KindIP {
		return nil, nil
	}
	ip, presence := p.Facts.IP(ref.ID)
	if presence != metal.Present {
		return nil, nil
	}
	namespace, bound := p.Bindings.Namespace(ip.Project)
	address, err := netip.ParseAddr(ip.Address)
	if !bound || err != nil {
		return nil, nil
	}
	object, ok := discoveredMeta(metal.KindIP, namespace, address.String(), ip.Address+"/"+ip.AllocationUUID, ip.Created)
	if !ok {
		return nil, nil
	}
	shown := &infrastructure.MetalStackIP{ObjectMeta: object}
	shown.Status.Ready = true
	p.show(&shown.Status, ip, namespace, "")
	refs := []metal.Ref{ipClaimRef(ip.Address, ip.AllocationUUID)}
	if uid := ip.UID(); uid != "" {
		refs = append(refs, metal.Ref{Kind: metal.KindUID, ID: uid})
	}
	return shown, refs
}

// ipClaimRef is the ref of an address as what a record claims.
func ipClaimRef(address, allocationUUID string) metal.Ref {
	if allocationUUID != "" {
		return metal.Ref{Kind: metal.KindAllocation, ID: allocationUUID}
	}
	return metal.Ref{Kind: metal.KindIPClaim, ID: address}
}

func (p *IPProjector) show(s *infrastructure.MetalStackIPStatus, ip *metal.IP, namespace, claim string) {
	s.Address, s.NetworkID, s.Type = ip.Address, ip.NetworkID, ip.Type
	s.DisplayName, s.Description = text(ip.Name), text(ip.Description)
	s.Users = p.holders.ipUsers(ip, namespace, claim)
}

func ipClaim(ip *infrastructure.MetalStackIP) *claim {
	c := &claim{what: "address", meta: &ip.ObjectMeta, conditions: ip.Status.Conditions}
	if a := ip.Status.Allocation; a != nil {
		c.allocation, c.adopted, c.id = &a.AllocationState, a.Adopted, a.Address
	}
	return c
}

// Refs implements storage.Projector. A claim without an allocation refs nothing, whatever
// address it names.
func (p *IPProjector) Refs(record runtime.Object) []metal.Ref {
	ip, ok := record.(*infrastructure.MetalStackIP)
	if !ok {
		return nil
	}
	c := ipClaim(ip)
	refs := c.refs(metal.KindIP, metal.KindIPClaim)
	if c.shows() && ip.Status.Allocation.AllocationUUID != "" {
		refs = append(refs, metal.Ref{Kind: metal.KindAllocation, ID: ip.Status.Allocation.AllocationUUID})
	}
	return refs
}

// Strip implements storage.Projector.
func (p *IPProjector) Strip(obj runtime.Object) {
	ip, ok := obj.(*infrastructure.MetalStackIP)
	if !ok {
		return
	}
	ip.Status = infrastructure.MetalStackIPStatus{
		Conditions: recordedConditions(ip.Status.Conditions, ipClaim(ip).allocation),
		Allocation: ip.Status.Allocation, Deletion: ip.Status.Deletion,
	}
}

// Project implements storage.Projector.
func (p *IPProjector) Project(record, previous runtime.Object) runtime.Object {
	obj := record.DeepCopyObject()
	ip, ok := obj.(*infrastructure.MetalStackIP)
	if !ok {
		return obj
	}
	p.Strip(ip)
	shown, _ := previous.(*infrastructure.MetalStackIP)
	if shown != nil && shown.UID != ip.UID {
		shown = nil
	}
	var before []metav1.Condition
	if shown != nil {
		before = shown.Status.Conditions
	}
	ip.Status.Managed = true
	c := ipClaim(ip)
	presence, gone := p.fill(c, ip, shown)
	ready := c.readyState(presence, gone, readyBefore(before))
	ip.Status.Ready = ready.isTrue()
	ip.Status.Conditions = c.projectedConditions(ready, before, &p.Source)
	return ip
}

// fill fills in what is observed of the claim's address; of what is not observed, what was
// shown.
func (p *IPProjector) fill(c *claim, ip, shown *infrastructure.MetalStackIP) (metal.Presence, *conditionState) {
	if !c.shows() {
		return metal.Unobserved, nil
	}
	ip.Status.Address = c.id
	fact, presence := p.Facts.IP(c.id)
	recorded := ip.Status.Allocation.AllocationUUID
	project, bound := p.Bindings.Project(ip.Namespace)
	switch {
	case presence == metal.Present && !bound:
		// Whose it should be is not known.
		return metal.Unobserved, nil
	case presence == metal.Present && cmp.Or(recorded, fact.AllocationUUID) != fact.AllocationUUID:
		// Which project has it now must not be disclosed.
		return presence, &conditionState{
			status: metav1.ConditionFalse, reason: infrastructure.ReasonAddressGone, since: fact.Created,
			message: fmt.Sprintf("Allocation %s of address %s was ended by another client; the address has a new allocation.", recorded, c.id),
		}
	case presence == metal.Present && fact.Project != project:
		return presence, &conditionState{
			status: metav1.ConditionFalse, reason: infrastructure.ReasonAddressGone, since: fact.Created,
			message: fmt.Sprintf("Address %s is not of the project of this namespace.", c.id),
		}
	case presence == metal.Present:
		p.show(&ip.Status, fact, ip.Namespace, ip.Name)
	case presence == metal.Gone:
		return presence, &conditionState{
			status: metav1.ConditionFalse, reason: infrastructure.ReasonAddressGone,
			message: fmt.Sprintf("Address %s not found in the metal-api.", c.id),
		}
	case shown != nil && shown.Status.Address == c.id:
		status := shown.Status.DeepCopy()
		status.Conditions, status.Allocation, status.Deletion = ip.Status.Conditions, ip.Status.Allocation, ip.Status.Deletion
		ip.Status = *status
	}
	return presence, nil
}
