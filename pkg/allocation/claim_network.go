// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"fmt"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// networkRecord is a MetalStackNetwork.
type networkRecord struct {
	*infrastructure.MetalStackNetwork
}

var _ record = &networkRecord{}

// allocation is never nil.
func (n *networkRecord) allocation() *infrastructure.NetworkAllocation {
	if n.Status.Allocation == nil {
		return &infrastructure.NetworkAllocation{}
	}
	return n.Status.Allocation
}

// identityUID is the uid that its metal carries.
func (n *networkRecord) identityUID() types.UID {
	if uid := n.allocation().UID; uid != "" {
		return uid
	}
	return n.UID
}

func (n *networkRecord) objectMeta() *metav1.ObjectMeta  { return &n.ObjectMeta }
func (n *networkRecord) conditions() *[]metav1.Condition { return &n.Status.Conditions }
func (n *networkRecord) state() *infrastructure.AllocationState {
	return &n.allocation().AllocationState
}

func (n *networkRecord) initAllocation() {
	if n.Status.Allocation == nil {
		n.Status.Allocation = &infrastructure.NetworkAllocation{}
	}
}

// refersTo reports whether the record stands for a network: it has it, or has an attempt to
// get what it names; or has the identity that it carries.
func (n *networkRecord) refersTo(id, uid string) bool {
	a := n.allocation()
	return a.Phase != infrastructure.AllocationReleased && (a.NetworkID == id ||
		a.Phase == infrastructure.AllocationAllocating && n.Spec.NetworkID == id || uid != "" && uid == LabelValue(string(n.identityUID())))
}

func (p *Protocol) newNetworkClaims(r Records[*infrastructure.MetalStackNetwork]) *claimKind[*networkRecord] {
	if r == nil {
		r = noRecords[*infrastructure.MetalStackNetwork]{networkResource}
	}
	wrap := func(n *infrastructure.MetalStackNetwork) *networkRecord { return &networkRecord{n} }
	return &claimKind[*networkRecord]{recordAdapter[*infrastructure.MetalStackNetwork, *networkRecord]{r, wrap}, networkResource, p.newNetworkOperation}
}

var networkClaimOperations = &operationTraits{
	step:                 "network-claim",
	allocating:           "Allocating the network from the metal-api.",
	releasing:            "Releasing the network to the metal-api.",
	recordsEarlyRefusals: true,
}

// networkOperation is one operation on a MetalStackNetwork.
type networkOperation struct {
	operation[*networkRecord]
	project    string
	spec       infrastructure.MetalStackNetworkSpec
	allocation infrastructure.NetworkAllocation
}

var _ claimOperation[*networkRecord] = &networkOperation{}

func (p *Protocol) newNetworkOperation(ref objectRef, n *networkRecord) (claimOperation[*networkRecord], error) {
	project, err := p.projectOf(ref.namespace)
	if err != nil {
		return nil, err
	}
	o := &networkOperation{project: project, operation: operation[*networkRecord]{
		p: p, records: p.networks, ref: ref, uid: n.UID, attempt: n.allocation().Attempt, traits: networkClaimOperations,
		inFlightUntil: p.inFlightUntil(&n.allocation().AllocationState),
		identity:      identity{uid: n.identityUID(), namespace: ref.namespace, name: ref.name, kind: networkKind},
	}}
	n.Spec.DeepCopyInto(&o.spec)
	o.sameSpec = func(r *networkRecord) bool { return apiequality.Semantic.DeepEqual(r.Spec, o.spec) }
	n.allocation().DeepCopyInto(&o.allocation)
	return o, nil
}

func (o *networkOperation) common() *operation[*networkRecord] { return &o.operation }

// networkClaimAllocator allocates the network of a claim.
type networkClaimAllocator struct {
	*networkOperation
	immediate
}

var _ allocator[*metal.Network] = networkClaimAllocator{}

func (a networkClaimAllocator) what() string { return "network" }

func (a networkClaimAllocator) find(ctx context.Context) (*metal.Network, bool, error) {
	found, err := a.p.opts.Metal.FindNetworks(ctx, metal.NetworkQuery{
		Project: a.project, Labels: map[string]string{metal.TagUID: LabelValue(string(a.identity.uid))},
	})
	if err != nil {
		return nil, false, err
	}
	for _, n := range found {
		if n.Project != a.project || n.UID() != LabelValue(string(a.identity.uid)) || n.Labels[metal.TagKind] != networkKind {
			continue
		}
		other, err := a.otherClaim(ctx, func(r *networkRecord) bool { return r.allocation().NetworkID == n.ID })
		if err != nil || other == nil {
			return n, err == nil, err
		}
	}
	return nil, false, nil
}

func (a networkClaimAllocator) checkOrAdopt(ctx context.Context) (none *metal.Network, ok bool, err error) {
	return nil, false, a.checkAddresses(ctx)
}

func (o *networkOperation) checkAddresses(ctx context.Context) error {
	return o.p.checkPrivateNetwork(ctx, o.spec.Addresses, o.spec.Partition, addressesPath)
}

func (a networkClaimAllocator) allocate(ctx context.Context) (*metal.Network, error) {
	return a.p.opts.Metal.AllocateNetwork(ctx, networkRequest(a.spec.Addresses, metal.NetworkRequest{
		Project: a.project, Partition: a.spec.Partition, Name: a.ref.name,
		Description: networkKind + " " + a.ref.namespace + "/" + a.ref.name,
		Labels:      a.p.identityLabels(a.identity),
	}))
}

func (a networkClaimAllocator) specField(f metal.RequestField) (*field.Path, any) {
	switch f {
	case metal.FieldProject:
		return namespacePath, a.ref.namespace
	case metal.FieldPartition:
		return partitionPath, a.spec.Partition
	}
	return privateNetworkField(f, a.spec.Addresses, addressesPath)
}

// otherClaim returns another claim of a network that matches.
func (o *networkOperation) otherClaim(ctx context.Context, matches func(*networkRecord) bool) (*networkRecord, error) {
	return o.p.networkClaim(ctx, func(r *networkRecord) bool {
		return (r.Namespace != o.ref.namespace || r.Name != o.ref.name) && matches(r)
	})
}

// networkClaim returns a claim that is not released, and that matches; nil if there is none.
func (p *Protocol) networkClaim(ctx context.Context, matches func(*networkRecord) bool) (*networkRecord, error) {
	all, err := p.networks.list(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		if r.allocation().Phase != infrastructure.AllocationReleased && matches(r) {
			return r, nil
		}
	}
	return nil, nil
}

func (o *networkOperation) ensure(ctx context.Context) (*networkRecord, error) {
	if id := o.spec.NetworkID; id != "" {
		return o.adopt(ctx, id)
	}
	n, err := ensureAllocated(ctx, &o.operation, networkClaimAllocator{networkOperation: o})
	if err != nil {
		return nil, err
	}
	return o.recordNetwork(ctx, n, false)
}

// adopt takes the network that the spec names. One that this very claim allocated, here or
// where it was moved from, is its own again; any other is not freed on release.
func (o *networkOperation) adopt(ctx context.Context, id string) (*networkRecord, error) {
	n, err := o.findNamed(ctx, id)
	if err != nil {
		return nil, err
	}
	label := func(key string) string { return n.Labels[key] }
	uid, own := o.identity.uid, o.isOwnHere(label) || o.allocation.Moved && o.isOwn(label)
	if own {
		uid = types.UID(n.UID())
	}
	if err := o.beginAdoption(ctx, "network", uid, func(ctx context.Context) error {
		if err := o.checkUnreferenced(ctx, n); err != nil {
			return err
		}
		_, err := o.findNamed(ctx, id)
		return err
	}); err != nil {
		return nil, err
	}
	return o.recordNetwork(ctx, n, !own)
}

// findNamed is a private network of the project.
func (o *networkOperation) findNamed(ctx context.Context, id string) (*metal.Network, error) {
	n, err := o.p.findUsableNetwork(ctx, namedNetwork{networkIDPath, id, id}, o.project)
	switch {
	case err != nil:
		return nil, err
	case n.Project != o.project:
		return nil, refuseField(field.Invalid(networkIDPath, id, fmt.Sprintf("is not a private network of project %q: must be one, or omitted to have one allocated", o.project)))
	case n.Partition != "" && n.Partition != o.spec.Partition:
		return nil, refuseField(field.Invalid(networkIDPath, id, fmt.Sprintf("is in partition %q: must be in that of spec.partition, %q", n.Partition, o.spec.Partition)))
	}
	return n, nil
}

// checkUnreferenced refuses a network that another claim has, or that a cluster allocated.
// One that clusters adopted is kept by all of them.
func (o *networkOperation) checkUnreferenced(ctx context.Context, n *metal.Network) error {
	other, err := o.otherClaim(ctx, func(r *networkRecord) bool { return r.refersTo(n.ID, n.UID()) })
	if err != nil {
		return refusalOf(err)
	}
	if other != nil {
		return refuseField(field.Invalid(networkIDPath, n.ID, "belongs to another MetalStackNetwork: must be a network that no other one has, or omitted to have one allocated"))
	}
	cluster, err := o.p.clusterThat(ctx, func(c *clusterRecord) bool {
		return hasNetwork(n.ID)(c) && !c.allocation().NetworkAdopted || n.UID() != "" && n.UID() == LabelValue(string(c.identityUID()))
	})
	if err != nil {
		return refusalOf(err)
	}
	if cluster != nil {
		return refuseField(field.Invalid(networkIDPath, n.ID, "was allocated for a MetalStackCluster, and is released with it: must be another network, or omitted to have one allocated"))
	}
	return nil
}

// clusterThat returns a cluster that is not released, and that matches; nil if there is none.
func (p *Protocol) clusterThat(ctx context.Context, matches clusterPredicate) (*clusterRecord, error) {
	all, err := p.clusters.list(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range all {
		if c.allocation().Phase != infrastructure.AllocationReleased && matches(c) {
			return c, nil
		}
	}
	return nil, nil
}

// recordNetwork records the network, and names it in the spec: a `clusterctl move` carries
// that, and never the status.
func (o *networkOperation) recordNetwork(ctx context.Context, n *metal.Network, adopted bool) (*networkRecord, error) {
	o.p.opts.Observer.LearnNetwork(n)
	r, err := o.update(ctx, func(r *networkRecord) error {
		a := r.allocation()
		if same, err := o.checkRecordable(&a.AllocationState, a.NetworkID == n.ID); err != nil || same {
			return err
		}
		a.Phase, a.StartTime, a.NotBefore = infrastructure.AllocationAllocated, o.p.recordTime(), nil
		a.NetworkID, a.Adopted, a.UID = n.ID, adopted, o.identity.uid
		r.Spec.NetworkID = n.ID
		return nil
	})
	o.p.crashPoint(o.traits.step + "/allocated")
	return r, err
}

func (o *networkOperation) check(ctx context.Context) error {
	if o.spec.NetworkID == "" {
		if err := o.checkAddresses(ctx); err != nil {
			return err
		}
		return o.p.checkPlace(ctx, o.project, o.spec.Partition)
	}
	n, err := o.findNamed(ctx, o.spec.NetworkID)
	if err != nil {
		return err
	}
	return o.checkUnreferenced(ctx, n)
}
