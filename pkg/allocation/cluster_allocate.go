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

// clusterWork is one operation on a cluster.
type clusterWork struct {
	*Protocol
	subject subject
	object  types.UID
	id      identity
	project string
	spec    infrastructure.MetalStackClusterSpec
	attempt int32
	// saw is the record as a release saw it, or left it, last.
	saw sighting
	// dry: nothing is written.
	dry bool
}

// allocateCluster takes a cluster from a claim to a network and an address,
// one after the other; each is recorded before the next.
func (p *Protocol) allocateCluster(ctx context.Context, sub subject, uid types.UID) (*infrastructure.MetalStackCluster, error) {
	c, err := p.opts.Clusters.Get(ctx, sub.namespace, sub.name)
	if err != nil {
		return nil, err
	}
	a := clusterAllocation(c)
	if err := sameObject(&c.ObjectMeta, uid); err != nil {
		return nil, err
	}
	if a.Phase == infrastructure.AllocationAllocated {
		return c, nil
	}
	if err := allocatable(&c.ObjectMeta, a.Phase); err != nil {
		return nil, err
	}
	if err := p.notBefore(&a.AllocationState, c.Status.Conditions); err != nil {
		return nil, err
	}
	w, err := p.clusterWork(sub, c)
	if err != nil {
		return nil, err
	}
	w.dry = IsDryRun(ctx)
	if id := w.spec.ProjectID; id != "" && id != w.project {
		return nil, w.giveUp(ctx, unusable("spec.projectID is %s, but the namespace %q is bound to the project %s", id, sub.namespace, w.project))
	}
	if w.dry {
		return c, w.tryAllocate(ctx, a)
	}
	// openUntil is that of the step that was not recorded.
	openUntil := p.openUntil(&a.AllocationState)
	if a.NetworkID == "" {
		if err := w.network(ctx, openUntil); err != nil {
			return nil, w.giveUp(ctx, err)
		}
		openUntil = time.Time{}
	}
	if a.IPAddress == "" {
		if err := w.address(ctx, openUntil); err != nil {
			return nil, w.giveUp(ctx, err)
		}
	}
	return w.finish(ctx)
}

func clusterAllocation(c *infrastructure.MetalStackCluster) *infrastructure.ClusterAllocation {
	if c.Status.Allocation == nil {
		return &infrastructure.ClusterAllocation{}
	}
	return c.Status.Allocation
}

// clusterIdentity is the uid that a cluster's metal carries.
func clusterIdentity(c *infrastructure.MetalStackCluster) types.UID {
	if uid := clusterAllocation(c).UID; uid != "" {
		return uid
	}
	return c.UID
}

func (p *Protocol) clusterWork(sub subject, c *infrastructure.MetalStackCluster) (*clusterWork, error) {
	project, err := p.project(sub.namespace)
	if err != nil {
		return nil, err
	}
	w := &clusterWork{Protocol: p, subject: sub, object: c.UID, project: project, attempt: clusterAllocation(c).Attempt}
	c.Spec.DeepCopyInto(&w.spec)
	w.setIdentity(clusterIdentity(c))
	return w, nil
}

func (w *clusterWork) setIdentity(uid types.UID) {
	w.id = identity{uid: uid, namespace: w.subject.namespace, name: w.subject.name, cluster: uid}
}

// clusterChange changes a record; the allocation is never nil.
type clusterChange func(c *infrastructure.MetalStackCluster, a *infrastructure.ClusterAllocation) error

func (w *clusterWork) swap(ctx context.Context, change clusterChange) (swapped *infrastructure.MetalStackCluster, err error) {
	err = w.persist(ctx, func(ctx context.Context) error {
		swapped, err = w.swapOnce(ctx, change)
		return err
	})
	return swapped, err
}

func (w *clusterWork) swapOnce(ctx context.Context, change clusterChange) (*infrastructure.MetalStackCluster, error) {
	return w.opts.Clusters.Update(ctx, w.subject.namespace, w.subject.name, func(c *infrastructure.MetalStackCluster) error {
		if err := sameObject(&c.ObjectMeta, w.object); err != nil {
			return err
		}
		if c.Status.Allocation == nil {
			c.Status.Allocation = &infrastructure.ClusterAllocation{}
		}
		if err := change(c, c.Status.Allocation); err != nil || !w.dry {
			return err
		}
		return errDryRun
	})
}

func (w *clusterWork) begin(ctx context.Context) error {
	err := w.once(ctx, func(ctx context.Context) error {
		_, err := w.swapOnce(ctx, func(c *infrastructure.MetalStackCluster, a *infrastructure.ClusterAllocation) error {
			if err := allocatable(&c.ObjectMeta, a.Phase); err != nil {
				return err
			}
			if err := w.Protocol.begin(&a.AllocationState, w.attempt); err != nil {
				return err
			}
			a.UID = w.id.uid
			w.setAllocated(&c.Status.Conditions, c.Generation, metav1.ConditionFalse, infrastructure.ReasonAllocating,
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

// finish records that the cluster has all that it needs.
func (w *clusterWork) finish(ctx context.Context) (*infrastructure.MetalStackCluster, error) {
	c, err := w.swap(ctx, func(c *infrastructure.MetalStackCluster, a *infrastructure.ClusterAllocation) error {
		switch a.Phase {
		case infrastructure.AllocationAllocated:
			return nil
		case infrastructure.AllocationReleasing, infrastructure.AllocationReleased:
			return refuse(http.StatusConflict, "another operation was faster")
		}
		a.Phase, a.StartTime, a.NotBefore = infrastructure.AllocationAllocated, w.now(), nil
		return nil
	})
	w.at("cluster/allocated")
	return c, err
}

// giveUp records how an attempt ended. What was recorded on the way stays.
func (w *clusterWork) giveUp(ctx context.Context, err error) error {
	var early *notBegun
	if errors.As(err, &early) {
		return early.error
	}
	var r *refusal
	if !errors.As(err, &r) {
		return err
	}
	_, err = w.swap(ctx, func(c *infrastructure.MetalStackCluster, a *infrastructure.ClusterAllocation) error {
		switch {
		case a.Phase == infrastructure.AllocationAllocating && a.Attempt == w.attempt:
			w.refused(&a.AllocationState, r)
			a.UID = w.id.uid
		case a.Phase != "":
			return nil
		}
		w.setAllocated(&c.Status.Conditions, c.Generation, metav1.ConditionFalse, reasonOf(r), r.words)
		return nil
	})
	w.at("cluster/swapped-back")
	if checked(err) != nil && !apierrors.IsNotFound(err) {
		klog.FromContext(ctx).Error(err, "Cannot record that an attempt was refused: it is found out again later")
	}
	return r
}

func (w *clusterWork) uncertain(ctx context.Context, words string) {
	if _, err := w.swap(ctx, func(c *infrastructure.MetalStackCluster, a *infrastructure.ClusterAllocation) error {
		if a.Phase == infrastructure.AllocationAllocating && a.Attempt == w.attempt {
			w.setAllocated(&c.Status.Conditions, c.Generation, metav1.ConditionFalse, infrastructure.ReasonAllocationUncertain,
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
func (w *clusterWork) adopt(ctx context.Context, what string, uid types.UID, ask func(ctx context.Context) error) error {
	before := w.id.uid
	w.setIdentity(uid)
	if err := w.begin(ctx); err != nil {
		return err
	}
	w.at(what + "/begun")
	err := ask(ctx)
	if err != nil {
		w.setIdentity(before)
	}
	return err
}

// which tells some clusters from others.
type which func(*infrastructure.MetalStackCluster) bool

func holdsNetwork(id string) which {
	return func(c *infrastructure.MetalStackCluster) bool { return clusterAllocation(c).NetworkID == id }
}

func holdsAddress(address string) which {
	return func(c *infrastructure.MetalStackCluster) bool { return clusterAllocation(c).IPAddress == address }
}

// claimed are the clusters whose records stand for something: those that hold
// it, or have an attempt to get what they want; or have the identity that it
// carries, by which it would be found, even by a record that a backup brought
// back from before.
func claimed(uid string, holds, wants which) which {
	return func(c *infrastructure.MetalStackCluster) bool {
		attempt := clusterAllocation(c).Phase == infrastructure.AllocationAllocating
		return holds(c) || attempt && wants(c) || uid != "" && uid == LabelValue(string(clusterIdentity(c)))
	}
}

// another tells whether another cluster is one of them, that is not released.
func (w *clusterWork) another(ctx context.Context, of which) (bool, error) {
	all, err := w.opts.Clusters.List(ctx)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(all, func(c *infrastructure.MetalStackCluster) bool {
		self := c.Namespace == w.subject.namespace && c.Name == w.subject.name
		return !self && clusterAllocation(c).Phase != infrastructure.AllocationReleased && of(c)
	}), nil
}
