// SPDX-License-Identifier: Apache-2.0

package projection

import (
	"time"

	"github.com/google/uuid"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/providerid"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/validation"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// discoveredNamespaceUUID is the name space of the uids of discovered objects.
var discoveredNamespaceUUID = uuid.MustParse("5a1b4c0e-8f6d-4d0a-9b57-3d6f0d5f7c11")

// Discovered implements storage.Projector. What refers to a machine is a record of
// its very allocation, or one whose own allocation is in flight and whose
// identity the machine carries; not a record that names the machine's id: that
// machine may have been allocated anew since.
func (p *MachineLikeProjector) Discovered(ref metal.Ref) (runtime.Object, []metal.Ref) {
	m, namespace, refs := p.discoverable(ref)
	if m == nil {
		return nil, nil
	}
	return p.discovered(m, namespace), refs
}

// DiscoveredRefs implements storage.DiscoveredRefs.
func (p *MachineLikeProjector) DiscoveredRefs(ref metal.Ref) []metal.Ref {
	_, _, refs := p.discoverable(ref)
	return refs
}

// discoverable returns the machine that ref is shown by, in which namespace, and by which refs
// a record refers to it; nil if it is not shown.
func (p *MachineLikeProjector) discoverable(ref metal.Ref) (m *metal.Machine, namespace string, refs []metal.Ref) {
	if ref.Kind != metal.KindMachine {
		return nil, "", nil
	}
	m, presence := p.Facts.Machine(ref.ID)
	if presence != metal.Present || m.Allocation == nil || m.Allocation.Role != p.role {
		return nil, "", nil
	}
	namespace, bound := p.Bindings.Namespace(m.Allocation.Project)
	if !bound {
		return nil, "", nil
	}
	refs = []metal.Ref{{Kind: metal.KindAllocation, ID: m.Allocation.UUID}}
	if uid := m.UID(); uid != "" {
		refs = append(refs, metal.Ref{Kind: metal.KindUID, ID: uid})
	}
	return m, namespace, refs
}

func (p *MachineLikeProjector) discovered(m *metal.Machine, namespace string) runtime.Object {
	a := m.Allocation
	created := toSeconds(a.Created)
	if created == nil {
		created = &metav1.Time{}
	}
	objectMeta := metav1.ObjectMeta{
		Name: m.ID, Namespace: namespace, CreationTimestamp: *created, Generation: 1,
		// Another allocation of the same machine is another object.
		UID: types.UID(uuid.NewSHA1(discoveredNamespaceUUID, []byte(p.role+"/"+m.ID+"/"+a.UUID)).String()),
	}
	o := observe(m, time.Time{})
	v := liveState(o, created.Time)
	computed := computedStates{ready: v, reinstalling: reinstallingState(o, time.Time{}), metalIssues: p.metalIssuesState(o, created.Time, time.Time{})}
	status := infrastructure.MetalStackMachineStatus{
		Ready:         v.isTrue(),
		Addresses:     Addresses(m),
		FailureDomain: m.Partition,
		Conditions:    projectedConditions(&objectMeta, nil, nil, computed, nil, p.Clock.Now),
		Metal:         metalOf(o, false),
	}
	id := providerid.New(m.Partition, m.ID)
	if p.role == metal.RoleFirewall {
		return &infrastructure.MetalStackFirewall{
			ObjectMeta: objectMeta,
			Spec: infrastructure.MetalStackFirewallSpec{
				Image: a.Image, MachineType: m.Size, Partition: m.Partition, ProviderID: id,
			},
			Status: infrastructure.MetalStackFirewallStatus{
				Ready: status.Ready, Addresses: status.Addresses, FailureDomain: status.FailureDomain,
				Conditions: status.Conditions, Metal: status.Metal,
			},
		}
	}
	return &infrastructure.MetalStackMachine{
		ObjectMeta: objectMeta,
		Spec: infrastructure.MetalStackMachineSpec{
			Image: a.Image, MachineType: m.Size, Partition: m.Partition, ProviderID: id,
			// A spec may not have those that say whose a machine is.
			Tags: validation.SpecTags(status.Metal.Tags),
		},
		Status: status,
	}
}
