// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"cmp"
	"context"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// clusterRecord is a MetalStackCluster.
type clusterRecord struct {
	*infrastructure.MetalStackCluster
}

var _ provisionedRecord = &clusterRecord{}

func newClusterRecords(r Records[*infrastructure.MetalStackCluster]) recordStore[*clusterRecord] {
	return recordAdapter[*infrastructure.MetalStackCluster, *clusterRecord]{r, newClusterRecord}
}

func newClusterRecord(c *infrastructure.MetalStackCluster) *clusterRecord { return &clusterRecord{c} }

// allocation is never nil.
func (c *clusterRecord) allocation() *infrastructure.ClusterAllocation {
	if c.Status.Allocation == nil {
		return &infrastructure.ClusterAllocation{}
	}
	return c.Status.Allocation
}

// identityUID is the uid that its metal carries.
func (c *clusterRecord) identityUID() types.UID {
	if uid := c.allocation().UID; uid != "" {
		return uid
	}
	return c.UID
}

func (c *clusterRecord) objectMeta() *metav1.ObjectMeta  { return &c.ObjectMeta }
func (c *clusterRecord) conditions() *[]metav1.Condition { return &c.Status.Conditions }
func (c *clusterRecord) state() *infrastructure.AllocationState {
	return &c.allocation().AllocationState
}
func (c *clusterRecord) ready() bool { return c.Status.Ready }
func (c *clusterRecord) initialization() *infrastructure.Initialization {
	return &c.Status.Initialization
}

func (c *clusterRecord) initAllocation() {
	if c.Status.Allocation == nil {
		c.Status.Allocation = &infrastructure.ClusterAllocation{}
	}
}

// clusterOperation is one operation on a cluster.
type clusterOperation struct {
	operation[*clusterRecord]
	project string
	spec    infrastructure.MetalStackClusterSpec
	// clusterID is what the record says, or the network that is adopted; empty: the
	// identity is the cluster id, too.
	clusterID string
}

func (p *Protocol) newClusterOperation(ref objectRef, c *clusterRecord) (*clusterOperation, error) {
	project, err := p.projectOf(ref.namespace)
	if err != nil {
		return nil, err
	}
	o := &clusterOperation{project: project, operation: operation[*clusterRecord]{
		p: p, records: p.clusters, ref: ref, uid: c.UID, attempt: c.allocation().Attempt, traits: clusterOperations,
		inFlightUntil: p.inFlightUntil(&c.allocation().AllocationState),
	}}
	c.Spec.DeepCopyInto(&o.spec)
	if !o.spec.AllocatesEndpoint() {
		o.traits = hostedClusterOperations
	}
	o.clusterID = o.spec.ClusterID
	o.setIdentity(c.identityUID())
	return o, nil
}

func (o *clusterOperation) setIdentity(uid types.UID) {
	o.identity = identity{uid: uid, namespace: o.ref.namespace, name: o.ref.name, cluster: cmp.Or(o.clusterID, string(uid))}
}

// clusterPredicate is true for some clusters.
type clusterPredicate func(*clusterRecord) bool

func hasNetwork(id string) clusterPredicate {
	return func(c *clusterRecord) bool { return c.allocation().NetworkID == id }
}

func hasAddress(address string) clusterPredicate {
	return func(c *clusterRecord) bool { return c.allocation().IPAddress == address }
}

// refersTo is true for clusters whose records stand for a network or an address:
// those that have it, or have an attempt to get what they name; or have the
// identity that it carries, by which it would be found, even by a record that a
// backup restored from before.
func refersTo(uid string, has, names clusterPredicate) clusterPredicate {
	return func(c *clusterRecord) bool {
		attempt := c.allocation().Phase == infrastructure.AllocationAllocating
		return has(c) || attempt && names(c) || uid != "" && uid == LabelValue(string(c.identityUID()))
	}
}

// anyOtherCluster reports whether the predicate is true for another cluster that
// is not released.
func (o *clusterOperation) anyOtherCluster(ctx context.Context, is clusterPredicate) (bool, error) {
	all, err := o.records.list(ctx)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(all, func(c *clusterRecord) bool {
		self := c.Namespace == o.ref.namespace && c.Name == o.ref.name
		return !self && c.allocation().Phase != infrastructure.AllocationReleased && is(c)
	}), nil
}

// checkClusterIDUnique refuses a cluster id that another cluster of the project has.
func (o *clusterOperation) checkClusterIDUnique(ctx context.Context) error {
	id := o.identity.cluster
	found, err := o.anyOtherCluster(ctx, func(c *clusterRecord) bool {
		project, _ := o.p.opts.Bindings.Project(c.Namespace)
		return project == o.project && infrastructure.ClusterID(c.MetalStackCluster) == id
	})
	switch {
	case err != nil:
		return refusalOf(err)
	case found:
		return refuseField(field.Invalid(clusterIDPath, id, "is the cluster id of another MetalStackCluster of the project: must be unique, or omitted to have the uid used"))
	}
	return nil
}
