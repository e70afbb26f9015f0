package allocation

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// clusterOperation is one operation on a cluster.
type clusterOperation struct {
	*Protocol
	ref     objectRef
	uid     types.UID
	id      identity
	project string
	spec    infrastructure.MetalStackClusterSpec
	attempt int32
	// observed is the record as a release saw it, or left it, last.
	observed observedState
	// dryRun: nothing is written.
	dryRun bool
}

// allocateCluster takes a cluster from a claim to a network and an address,
// one after the other; each is recorded before the next.
func (p *Protocol) allocateCluster(ctx context.Context, sub objectRef, uid types.UID) (*infrastructure.MetalStackCluster, error) {
	c, err := p.opts.Clusters.Get(ctx, sub.namespace, sub.name)
	if err != nil {
		return nil, err
	}
	a := clusterAllocation(c)
	if err := checkUID(&c.ObjectMeta, uid); err != nil {
		return nil, err
	}
	if a.Phase == infrastructure.AllocationAllocated {
		return c, nil
	}
	if err := checkAllocatable(&c.ObjectMeta, a.Phase); err != nil {
		return nil, err
	}
	if err := p.checkBackoff(&a.AllocationState, c.Status.Conditions); err != nil {
		return nil, err
	}
	w, err := p.newClusterOperation(sub, c)
	if err != nil {
		return nil, err
	}
	w.dryRun = IsDryRun(ctx)
	if id := w.spec.ProjectID; id != "" && id != w.project {
		return nil, w.recordRefusal(ctx, refuseSpec("spec.projectID is %s, but the namespace %q is bound to the project %s", id, sub.namespace, w.project))
	}
	if w.dryRun {
		return c, w.dryRunAllocate(ctx, a)
	}
	// openUntil is that of the step that was not recorded.
	openUntil := p.inFlightUntil(&a.AllocationState)
	if a.NetworkID == "" {
		if err := w.ensureNetwork(ctx, openUntil); err != nil {
			return nil, w.recordRefusal(ctx, err)
		}
		openUntil = time.Time{}
	}
	if a.IPAddress == "" {
		if err := w.ensureAddress(ctx, openUntil); err != nil {
			return nil, w.recordRefusal(ctx, err)
		}
	}
	return w.recordAllocated(ctx)
}

func clusterAllocation(c *infrastructure.MetalStackCluster) *infrastructure.ClusterAllocation {
	if c.Status.Allocation == nil {
		return &infrastructure.ClusterAllocation{}
	}
	return c.Status.Allocation
}

// clusterIdentityUID is the uid that a cluster's metal carries.
func clusterIdentityUID(c *infrastructure.MetalStackCluster) types.UID {
	if uid := clusterAllocation(c).UID; uid != "" {
		return uid
	}
	return c.UID
}

func (p *Protocol) newClusterOperation(sub objectRef, c *infrastructure.MetalStackCluster) (*clusterOperation, error) {
	project, err := p.projectOf(sub.namespace)
	if err != nil {
		return nil, err
	}
	w := &clusterOperation{Protocol: p, ref: sub, uid: c.UID, project: project, attempt: clusterAllocation(c).Attempt}
	c.Spec.DeepCopyInto(&w.spec)
	w.setIdentity(clusterIdentityUID(c))
	return w, nil
}

func (w *clusterOperation) setIdentity(uid types.UID) {
	w.id = identity{uid: uid, namespace: w.ref.namespace, name: w.ref.name, cluster: uid}
}

// clusterChange changes a record; the allocation is never nil.
type clusterChange func(c *infrastructure.MetalStackCluster, a *infrastructure.ClusterAllocation) error

func (w *clusterOperation) update(ctx context.Context, change clusterChange) (swapped *infrastructure.MetalStackCluster, err error) {
	err = w.updateUntilCertain(ctx, func(ctx context.Context) error {
		swapped, err = w.updateRecord(ctx, change)
		return err
	})
	return swapped, err
}

func (w *clusterOperation) updateRecord(ctx context.Context, change clusterChange) (*infrastructure.MetalStackCluster, error) {
	return w.opts.Clusters.Update(ctx, w.ref.namespace, w.ref.name, func(c *infrastructure.MetalStackCluster) error {
		if err := checkUID(&c.ObjectMeta, w.uid); err != nil {
			return err
		}
		if c.Status.Allocation == nil {
			c.Status.Allocation = &infrastructure.ClusterAllocation{}
		}
		if err := change(c, c.Status.Allocation); err != nil || !w.dryRun {
			return err
		}
		return errDryRun
	})
}

func (w *clusterOperation) begin(ctx context.Context) error {
	err := w.updateOnce(ctx, func(ctx context.Context) error {
		_, err := w.updateRecord(ctx, func(c *infrastructure.MetalStackCluster, a *infrastructure.ClusterAllocation) error {
			if err := checkAllocatable(&c.ObjectMeta, a.Phase); err != nil {
				return err
			}
			if err := w.Protocol.begin(&a.AllocationState, w.attempt); err != nil {
				return err
			}
			a.UID = w.id.uid
			w.setAllocatedCondition(&c.Status.Conditions, c.Generation, metav1.ConditionFalse, infrastructure.ReasonAllocating,
				"The metal-api is being asked for the private network and the control plane address.")
			return nil
		})
		return err
	})
	if err != nil {
		return &notBegun{err}
	}
	w.attempt++
	return nil
}

// recordAllocated records that the cluster has all that it needs.
func (w *clusterOperation) recordAllocated(ctx context.Context) (*infrastructure.MetalStackCluster, error) {
	c, err := w.update(ctx, func(c *infrastructure.MetalStackCluster, a *infrastructure.ClusterAllocation) error {
		switch a.Phase {
		case infrastructure.AllocationAllocated:
			return nil
		case infrastructure.AllocationReleasing, infrastructure.AllocationReleased:
			return refuse(http.StatusConflict, "another operation was faster")
		}
		a.Phase, a.StartTime, a.NotBefore = infrastructure.AllocationAllocated, w.recordTime(), nil
		return nil
	})
	w.crashPoint("cluster/allocated")
	return c, err
}

// recordRefusal records how an attempt ended. What was recorded on the way stays.
func (w *clusterOperation) recordRefusal(ctx context.Context, err error) error {
	var early *notBegun
	if errors.As(err, &early) {
		return early.error
	}
	var r *refusal
	if !errors.As(err, &r) {
		return err
	}
	_, err = w.update(ctx, func(c *infrastructure.MetalStackCluster, a *infrastructure.ClusterAllocation) error {
		switch {
		case a.Phase == infrastructure.AllocationAllocating && a.Attempt == w.attempt:
			w.backOffAllocation(&a.AllocationState, r)
			a.UID = w.id.uid
		case a.Phase != "":
			return nil
		}
		w.setAllocatedCondition(&c.Status.Conditions, c.Generation, metav1.ConditionFalse, allocationReason(r), r.message)
		return nil
	})
	w.crashPoint("cluster/swapped-back")
	if ignoreDryRun(err) != nil && !apierrors.IsNotFound(err) {
		klog.FromContext(ctx).Error(err, "Cannot record that an attempt was refused: it is found out again later")
	}
	return r
}

func (w *clusterOperation) recordUncertain(ctx context.Context, words string) {
	if _, err := w.update(ctx, func(c *infrastructure.MetalStackCluster, a *infrastructure.ClusterAllocation) error {
		if a.Phase == infrastructure.AllocationAllocating && a.Attempt == w.attempt {
			w.setAllocatedCondition(&c.Status.Conditions, c.Generation, metav1.ConditionFalse, infrastructure.ReasonAllocationUncertain,
				"The outcome of the allocation is unknown; the server checks it before it tries again: "+words)
		}
		return nil
	}); err != nil {
		klog.FromContext(ctx).Info("Cannot record that an answer was lost", "reason", err.Error())
	}
}

// adopt begins to take what the spec names, under the identity uid, unless it is
// another cluster's; then the cluster keeps the identity that it had. The
// others are asked after the attempt was recorded, so that of two clusters that
// want the same at least one sees the other; and it is looked at again after
// that, since another one may have given it back after we looked, and before we
// asked whose it is.
func (w *clusterOperation) adopt(ctx context.Context, what string, uid types.UID, ask func(ctx context.Context) error) error {
	before := w.id.uid
	w.setIdentity(uid)
	if err := w.begin(ctx); err != nil {
		return err
	}
	w.crashPoint(what + "/begun")
	err := ask(ctx)
	if err != nil {
		w.setIdentity(before)
	}
	return err
}

// clusterPredicate tells some clusters from others.
type clusterPredicate func(*infrastructure.MetalStackCluster) bool

func holdsNetwork(id string) clusterPredicate {
	return func(c *infrastructure.MetalStackCluster) bool { return clusterAllocation(c).NetworkID == id }
}

func holdsAddress(address string) clusterPredicate {
	return func(c *infrastructure.MetalStackCluster) bool { return clusterAllocation(c).IPAddress == address }
}

// claims are the clusters whose records stand for something: those that hold
// it, or have an attempt to get what they want; or have the identity that it
// carries, by which it would be found, even by a record that a backup brought
// back from before.
func claims(uid string, holds, wants clusterPredicate) clusterPredicate {
	return func(c *infrastructure.MetalStackCluster) bool {
		attempt := clusterAllocation(c).Phase == infrastructure.AllocationAllocating
		return holds(c) || attempt && wants(c) || uid != "" && uid == LabelValue(string(clusterIdentityUID(c)))
	}
}

// anyOtherCluster tells whether another cluster is one of them, that is not released.
func (w *clusterOperation) anyOtherCluster(ctx context.Context, of clusterPredicate) (bool, error) {
	all, err := w.opts.Clusters.List(ctx)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(all, func(c *infrastructure.MetalStackCluster) bool {
		self := c.Namespace == w.ref.namespace && c.Name == w.ref.name
		return !self && clusterAllocation(c).Phase != infrastructure.AllocationReleased && of(c)
	}), nil
}
