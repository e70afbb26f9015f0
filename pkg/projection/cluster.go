// SPDX-License-Identifier: Apache-2.0

package projection

import (
	"cmp"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// ClusterProjector combines clusters with their private network and their address.
type ClusterProjector struct{ Source }

// Refs implements storage.Projector.
func (p *ClusterProjector) Refs(record runtime.Object) []metal.Ref {
	c, ok := record.(*infrastructure.MetalStackCluster)
	if !ok || c.Status.Allocation == nil {
		return nil
	}
	var refs []metal.Ref
	if id := c.Status.Allocation.NetworkID; id != "" {
		refs = append(refs, metal.Ref{Kind: metal.KindNetwork, ID: id})
	}
	if address := c.Status.Allocation.IPAddress; address != "" {
		refs = append(refs, metal.Ref{Kind: metal.KindIP, ID: address})
	}
	return refs
}

// RecordsOnly implements storage.RecordsOnly.
func (*ClusterProjector) RecordsOnly() {}

// Discovered implements storage.Projector: a network alone is no cluster.
func (p *ClusterProjector) Discovered(metal.Ref) (runtime.Object, []metal.Ref) { return nil, nil }

// Strip implements storage.Projector.
func (p *ClusterProjector) Strip(obj runtime.Object) {
	c, ok := obj.(*infrastructure.MetalStackCluster)
	if !ok {
		return
	}
	c.Status.Ready = false
	c.Status.ClusterID = ""
	c.Status.FailureDomains = nil
	c.Status.Network = nil
	c.Status.ControlPlaneIP = nil
	c.Status.Conditions = recordedConditions(c.Status.Conditions, clusterAllocation(c))
}

// Project implements storage.Projector.
func (p *ClusterProjector) Project(record, previous runtime.Object) runtime.Object {
	obj := record.DeepCopyObject()
	c, ok := obj.(*infrastructure.MetalStackCluster)
	if !ok {
		return obj
	}
	p.Strip(c)
	shown, _ := previous.(*infrastructure.MetalStackCluster)
	var before []metav1.Condition
	if shown != nil && shown.UID == c.UID {
		before = shown.Status.Conditions
	} else {
		shown = nil
	}
	if c.Spec.Partition != "" {
		controlPlane := true
		c.Status.FailureDomains = []infrastructure.FailureDomain{{Name: c.Spec.Partition, ControlPlane: &controlPlane}}
	}
	c.Status.ClusterID = infrastructure.ClusterID(c)
	p.fill(c, shown)
	ready := p.readyState(c, meta.FindStatusCondition(before, infrastructure.ConditionReady))
	c.Status.Ready = ready.isTrue()
	computed := computedStates{ready: ready, allocated: clusterAllocatedState(c, ready)}
	c.Status.Conditions = projectedConditions(&c.ObjectMeta, c.Status.Conditions, clusterAllocation(c), computed, before, p.Clock.Now)
	return c
}

// clusterAllocation is how far the allocation is; nil if none has begun.
func clusterAllocation(c *infrastructure.MetalStackCluster) *infrastructure.AllocationState {
	if c.Status.Allocation == nil {
		return nil
	}
	return &c.Status.Allocation.AllocationState
}

// clusterAllocatedState is the condition Allocated of a record that names its
// network.
func clusterAllocatedState(c *infrastructure.MetalStackCluster, ready conditionState) conditionState {
	a := c.Status.Allocation
	if a == nil {
		return conditionState{}
	}
	return allocatedState(&a.AllocationState, ready, infrastructure.ReasonAllocated,
		"The private network is "+a.NetworkID+", the control plane is reached at "+endpointHost(c)+".")
}

// endpointHost is the host of the control plane, or what is said instead of it.
func endpointHost(c *infrastructure.MetalStackCluster) string {
	return cmp.Or(c.Spec.ControlPlaneEndpoint.Host, "the endpoint that its provider will bring")
}

// clusterMessages are the messages of Ready.
type clusterMessages struct{ allocating, releasing, released, available string }

func messagesOf(c *infrastructure.MetalStackCluster) clusterMessages {
	if c.Spec.AllocatesEndpoint() {
		return clusterMessages{
			allocating: "Allocating the private network and the control plane address from the metal-api.",
			releasing:  "Releasing the network and the address to the metal-api.",
			released:   "Network and address were released to the metal-api.",
			available:  "Private network and control plane address are available.",
		}
	}
	return clusterMessages{
		allocating: "Allocating the private network from the metal-api.",
		releasing:  "Releasing the network to the metal-api.",
		released:   "The network was released to the metal-api.",
		available:  "Private network is available; the control plane's provider brings the endpoint.",
	}
}

// fill fills in what is observed of network and address; of what is not
// observed, what was shown.
func (p *ClusterProjector) fill(c, shown *infrastructure.MetalStackCluster) {
	a := c.Status.Allocation
	if a == nil {
		return
	}
	if a.NetworkID != "" {
		switch n, presence := p.Facts.Network(a.NetworkID); {
		case presence == metal.Present:
			c.Status.Network = &infrastructure.ClusterNetwork{
				ID: n.ID, Prefixes: slices.Sorted(slices.Values(n.Prefixes)), VRF: n.VRF,
				AvailableIPs: n.AvailableIPs, UsedIPs: n.UsedIPs,
			}
		case presence == metal.Unobserved && shown != nil && shown.Status.Network != nil && shown.Status.Network.ID == a.NetworkID:
			c.Status.Network = shown.Status.Network.DeepCopy()
		}
	}
	if a.IPAddress != "" {
		switch ip, presence := p.Facts.IP(a.IPAddress); {
		case presence == metal.Present:
			c.Status.ControlPlaneIP = &infrastructure.ClusterIP{Address: ip.Address, Type: ip.Type, NetworkID: ip.NetworkID}
		case presence == metal.Unobserved && shown != nil && shown.Status.ControlPlaneIP != nil && shown.Status.ControlPlaneIP.Address == a.IPAddress:
			c.Status.ControlPlaneIP = shown.Status.ControlPlaneIP.DeepCopy()
		}
	}
}

// externallyManagedState is the condition of a cluster that another controller
// manages, as Cluster API defines externally managed infrastructure.
func externallyManagedState(c *infrastructure.MetalStackCluster) conditionState {
	if provisioned := c.Status.Initialization.Provisioned; provisioned != nil && *provisioned {
		return conditionState{
			status: metav1.ConditionTrue, reason: infrastructure.ReasonExternallyManaged,
			message: "Externally managed: status.initialization.provisioned is true.",
		}
	}
	return conditionState{
		status: metav1.ConditionFalse, reason: infrastructure.ReasonExternallyManaged, since: c.CreationTimestamp.Time,
		message: "Externally managed: waiting for status.initialization.provisioned.",
	}
}

// readyState is whether the cluster has all that it holds.
func (p *ClusterProjector) readyState(c *infrastructure.MetalStackCluster, before *metav1.Condition) conditionState {
	a := c.Status.Allocation
	if a == nil || a.Phase == "" {
		if infrastructure.ExternallyManaged(c) {
			return externallyManagedState(c)
		}
		return notAllocatedState(c.CreationTimestamp.Time, c.Status.Conditions)
	}
	v := conditionState{status: metav1.ConditionFalse}
	switch a.Phase {
	case infrastructure.AllocationAllocating:
		v.since = c.CreationTimestamp.Time
		v.reason, v.message = infrastructure.ReasonAllocating, messagesOf(c).allocating
		return v
	case infrastructure.AllocationReleasing:
		v.since = releaseTime(a.AllocationState, c.Status.Conditions)
		v.reason, v.message = releasingReason(&c.ObjectMeta, c.Status.Conditions, messagesOf(c).releasing)
		return v
	case infrastructure.AllocationReleased:
		v.since = releaseTime(a.AllocationState, c.Status.Conditions)
		v.reason, v.message = infrastructure.ReasonReleased, messagesOf(c).released
		return v
	}
	return p.metalState(c, before).withDeletion(&c.ObjectMeta, c.Status.Conditions)
}

// metalState is whether network and address are there.
func (p *ClusterProjector) metalState(c *infrastructure.MetalStackCluster, before *metav1.Condition) conditionState {
	a := c.Status.Allocation
	v := conditionState{status: metav1.ConditionFalse, since: timeOrZero(a.StartTime)}
	network, address := metal.Present, metal.Present
	if a.NetworkID != "" {
		_, network = p.Facts.Network(a.NetworkID)
	}
	if a.IPAddress != "" {
		_, address = p.Facts.IP(a.IPAddress)
	}
	switch {
	case network == metal.Gone:
		return conditionState{
			status: metav1.ConditionFalse, reason: infrastructure.ReasonNetworkGone,
			message: fmt.Sprintf("Private network %s not found in the metal-api.", a.NetworkID),
		}
	case address == metal.Gone:
		return conditionState{
			status: metav1.ConditionFalse, reason: infrastructure.ReasonAddressGone,
			message: fmt.Sprintf("Control plane address %s not found in the metal-api.", a.IPAddress),
		}
	case network == metal.Unobserved || address == metal.Unobserved:
		// Not having observed it proves nothing.
		if before != nil {
			return conditionState{status: before.Status, reason: before.Reason, message: before.Message, since: before.LastTransitionTime.Time}
		}
		v.status, v.reason, v.message = metav1.ConditionUnknown, infrastructure.ReasonNotObserved, "Network and address not observed yet."
		return v
	}
	v.status, v.reason, v.message = metav1.ConditionTrue, infrastructure.ReasonAvailable, messagesOf(c).available
	return v
}
