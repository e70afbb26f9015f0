// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// reconcileFirewalls keeps one firewall as firewallSpec says.
func reconcileFirewalls(ctx context.Context, r *reconciliation) (wait, error) {
	cluster := r.obj.(*v1alpha4.MetalStackCluster)
	if allocationOf(cluster).Phase != v1alpha4.AllocationAllocated {
		return wait{}, nil
	}
	all, err := r.listFirewalls(ctx, r.cached, cluster)
	if err != nil {
		return wait{}, err
	}
	all = slices.DeleteFunc(all, func(f *v1alpha4.MetalStackFirewall) bool { return r.belongsToAnother(cluster, f) })
	owned := controlledFirewalls(cluster, all)
	for _, f := range adoptableFirewalls(cluster, all) {
		if err := r.adopt(ctx, cluster, f); err != nil {
			return wait{}, err
		}
		owned = append(owned, f)
	}
	// They cannot be adopted, and the next one needs another name.
	owned = append(owned, deletingFirewalls(cluster, all)...)
	if err := r.confirmOverdue(ctx, cluster, owned); err != nil {
		return wait{}, err
	}
	unread := r.ignoreOldReports(cluster, owned)
	plan := planRollout(cluster, owned, r.clock.Now(), r.options)
	if unread {
		// They are about what is connected.
		plan.distances = nil
	}
	r.firewallReady = plan.status
	err = utilerrors.NewAggregate([]error{r.updateFirewalls(ctx, cluster, &plan), r.setDistances(ctx, &plan)})
	for _, deletion := range plan.deletions {
		if deleteErr := r.deleteFirewall(ctx, deletion); deleteErr != nil {
			return wait{}, utilerrors.NewAggregate([]error{err, deleteErr})
		}
	}
	if plan.create == nil || err != nil {
		return wait{message: "a firewall that does not run by then is replaced", requeueAfter: plan.requeueAfter}, err
	}
	return r.createFirewall(ctx, cluster, plan)
}

// updateFirewalls makes the mutable fields of firewalls those of firewallSpec. What the
// server refuses is said in the condition, and holds nothing up.
func (r *reconciliation) updateFirewalls(ctx context.Context, cluster *v1alpha4.MetalStackCluster, plan *rollout) error {
	var refused []string
	var errs []error
	for _, f := range plan.updates {
		fields := strings.Join(differingMutableFields(&f.Spec, cluster.Spec.FirewallSpec), ", ")
		changed := f.DeepCopy()
		setMutableFields(&changed.Spec, cluster.Spec.FirewallSpec)
		err := r.cached.Patch(ctx, changed, client.MergeFrom(f))
		switch {
		case err == nil:
			ctrl.LoggerFrom(ctx).Info("Updated a firewall", "firewall", f.Name, "fields", fields)
			r.recordNormal(EventFirewallUpdated, actionRoll, fmt.Sprintf("Updated %s of MetalStackFirewall %s, as firewallSpec says", fields, f.Name))
		case apierrors.IsInvalid(err), apierrors.IsForbidden(err), apierrors.IsBadRequest(err):
			refused = append(refused, fmt.Sprintf("MetalStackFirewall %s cannot be updated (%s): %v", f.Name, fields, err))
		case !apierrors.IsNotFound(err):
			errs = append(errs, err)
		}
	}
	if len(refused) > 0 {
		text := strings.Join(refused, "; ")
		if r.firewallReady.Status == metav1.ConditionTrue {
			r.firewallReady = firewallNotReady(infrastructure.ReasonFirewallUpdateRefused, "%s", text)
		} else {
			r.firewallReady.Message += "; " + text
		}
		plan.requeueWithin(fallbackRequeue)
	}
	return utilerrors.NewAggregate(errs)
}

// setDistances writes distances into the status of firewalls, and since when they are set.
func (r *reconciliation) setDistances(ctx context.Context, plan *rollout) error {
	var errs []error
	for _, d := range plan.distances {
		changed := d.firewall.DeepCopy()
		setDistance(&changed.Status, d, r.clock.Now())
		patch := client.MergeFromWithOptions(d.firewall.DeepCopy(), client.MergeFromWithOptimisticLock{})
		switch err := r.cached.Status().Patch(ctx, changed, patch); {
		case apierrors.IsConflict(err):
			plan.requeueWithin(inFlightRequeue)
		case err != nil:
			errs = append(errs, client.IgnoreNotFound(err))
		case d.distance != d.firewall.Status.Distance:
			ctrl.LoggerFrom(ctx).Info("Changed the distance of a firewall", "firewall", d.firewall.Name, "distance", d.distance)
		}
	}
	return utilerrors.NewAggregate(errs)
}

// confirmOverdue reads firewalls from the server that have not phoned home in time. One that
// the server could not observe just now may have, so that nothing is concluded of it.
func (r *reconciliation) confirmOverdue(ctx context.Context, cluster *v1alpha4.MetalStackCluster, owned []*v1alpha4.MetalStackFirewall) error {
	if cluster.Spec.FirewallSpec == nil {
		return nil
	}
	limits := firewallLimits(cluster.Spec.FirewallSpec, r.options)
	for i, f := range owned {
		if _, why := checkHealth(f, r.clock.Now(), limits); why == "" || f.DeletionTimestamp != nil || hasPhonedHome(f) {
			continue
		}
		now := &v1alpha4.MetalStackFirewall{}
		withWarnings, stale := watchForStaleReads(ctx)
		err := r.live.Get(withWarnings, client.ObjectKeyFromObject(f), now)
		switch {
		case apierrors.IsNotFound(err) || (err == nil && now.UID != f.UID):
			// The cache shows that soon.
		case err != nil:
			return err
		default:
			if stale() {
				meta.SetStatusCondition(&now.Status.Conditions, metav1.Condition{
					Type: infrastructure.ConditionReady, Status: metav1.ConditionUnknown, Reason: infrastructure.ReasonNotObserved,
				})
			}
			owned[i] = now
		}
	}
	return nil
}

// ignoreOldReports has nothing concluded from a firewall-controller that was not connected when
// this process started or the cluster was paused, until the workload cluster has been read. It
// returns whether it has not been. The firewalls are copies then: the condition is not written.
func (r *reconciliation) ignoreOldReports(cluster *v1alpha4.MetalStackCluster, owned []*v1alpha4.MetalStackFirewall) bool {
	if !hasFirewallController(cluster) || r.workload == nil || r.workload.get(r.request).condition != nil {
		return false
	}
	for i, f := range owned {
		if connectedCondition(f).Status != metav1.ConditionFalse {
			continue
		}
		owned[i] = f.DeepCopy()
		meta.SetStatusCondition(&owned[i].Status.Conditions, metav1.Condition{
			Type: infrastructure.ConditionControllerConnected, Status: metav1.ConditionUnknown, LastTransitionTime: metav1.NewTime(r.clock.Now()),
			Reason: infrastructure.ReasonWorkloadClusterUnreachable, Message: "the workload cluster has not been read yet",
		})
	}
	return true
}

func (r *reconciliation) createFirewall(ctx context.Context, cluster *v1alpha4.MetalStackCluster, plan rollout) (wait, error) {
	if there, err := r.otherMetalHolders(ctx, cluster, plan.create.Name); err != nil || there >= maxFirewalls {
		return wait{message: "the cache does not show all firewalls yet", requeueAfter: inFlightRequeue}, err
	}
	err := r.cached.Create(ctx, plan.create)
	switch {
	case err == nil:
		ctrl.LoggerFrom(ctx).Info("Created a firewall", "firewall", plan.create.Name, "reason", plan.createReason)
		r.recordNormal(EventFirewallCreated, actionRoll, fmt.Sprintf("Created MetalStackFirewall %s: %s", plan.create.Name, plan.createReason))
		return wait{}, nil
	case apierrors.IsAlreadyExists(err):
		return r.handleNameTaken(ctx, cluster, plan.create.Name)
	case apierrors.IsInvalid(err), apierrors.IsForbidden(err):
		r.firewallReady = firewallNotReady(infrastructure.ReasonFirewallCreationRefused, "MetalStackFirewall %s cannot be created: %v", plan.create.Name, err)
		return wait{message: "the firewall was refused", requeueAfter: fallbackRequeue}, nil
	}
	return wait{}, err
}

// otherMetalHolders returns how many firewalls of a cluster, but for one of a name, hold
// metal or may come to hold it. It asks the server: a cache that lags behind may not show the
// last one that was made.
func (r *reconciliation) otherMetalHolders(ctx context.Context, cluster *v1alpha4.MetalStackCluster, name string) (int, error) {
	all, err := r.listFirewalls(ctx, r.live, cluster)
	if err != nil {
		return 0, err
	}
	all = slices.DeleteFunc(all, func(f *v1alpha4.MetalStackFirewall) bool { return f.Name == name || r.belongsToAnother(cluster, f) })
	return len(metalHolders(append(controlledFirewalls(cluster, all), deletingFirewalls(cluster, all)...))), nil
}

// deleteFirewall deletes a firewall, whose own reconciler then releases its metal, unless it
// has changed since that was decided.
func (r *reconciliation) deleteFirewall(ctx context.Context, deletion firewallDeletion) error {
	err := r.cached.Delete(ctx, deletion.firewall, client.Preconditions{
		UID: ptr.To(deletion.firewall.UID), ResourceVersion: ptr.To(deletion.firewall.ResourceVersion),
	})
	if err != nil {
		return client.IgnoreNotFound(err)
	}
	ctrl.LoggerFrom(ctx).Info("Deleted a firewall", "firewall", deletion.firewall.Name, "reason", deletion.reason)
	r.recordNormal(EventFirewallRetired, actionRoll, fmt.Sprintf("Deleted MetalStackFirewall %s: %s", deletion.firewall.Name, deletion.reason))
	return nil
}

// listFirewalls returns the firewalls in the namespace of a cluster.
func (r *reconciliation) listFirewalls(ctx context.Context, reader client.Reader, cluster *v1alpha4.MetalStackCluster) ([]*v1alpha4.MetalStackFirewall, error) {
	list := &v1alpha4.MetalStackFirewallList{}
	if err := reader.List(ctx, list, client.InNamespace(cluster.Namespace)); err != nil {
		return nil, err
	}
	var all []*v1alpha4.MetalStackFirewall
	for i := range list.Items {
		all = append(all, &list.Items[i])
	}
	return all, nil
}

func controlledFirewalls(cluster *v1alpha4.MetalStackCluster, all []*v1alpha4.MetalStackFirewall) []*v1alpha4.MetalStackFirewall {
	var owned []*v1alpha4.MetalStackFirewall
	for _, f := range all {
		if metav1.IsControlledBy(f, cluster) {
			owned = append(owned, f)
		}
	}
	return owned
}
