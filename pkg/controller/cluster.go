package controller

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// membersAgain is how soon to look again for what a cluster waits for, if no
// event tells.
const membersAgain = 30 * time.Second

// keepFirewall keeps one firewall as firewallSpec says.
func keepFirewall(ctx context.Context, s *scope) (wait, error) {
	cluster := s.obj.(*v1alpha4.MetalStackCluster)
	if allocationOf(cluster).Phase != v1alpha4.AllocationAllocated {
		return wait{}, nil
	}
	owned, err := s.firewallsOf(ctx, cluster)
	if err != nil {
		return wait{}, err
	}
	plan := planFirewalls(cluster, owned, s.clock.Now(), s.options.FirewallPatience)
	s.firewall = plan.status
	for _, r := range plan.retire {
		if err := s.retire(ctx, r); err != nil {
			return wait{}, err
		}
	}
	if plan.create == nil {
		return wait{why: "a firewall that does not run by then is replaced", again: plan.again}, nil
	}
	return s.createFirewall(ctx, plan)
}

func (s *scope) createFirewall(ctx context.Context, plan rollout) (wait, error) {
	err := s.cached.Create(ctx, plan.create)
	switch {
	case err == nil:
		ctrl.LoggerFrom(ctx).Info("Created a firewall", "firewall", plan.create.Name, "because", plan.why)
		s.normal(EventFirewallCreated, actionRoll, fmt.Sprintf("Created MetalStackFirewall %s: %s", plan.create.Name, plan.why))
		return wait{}, nil
	case apierrors.IsAlreadyExists(err):
		// The cache lags behind, or one of this name is on its way out.
		return wait{why: "the firewall is there already", again: underWay}, nil
	case apierrors.IsInvalid(err), apierrors.IsForbidden(err):
		s.firewall = firewallNotReady(v1alpha4.ReasonFirewallRefused, "MetalStackFirewall %s cannot be made: %v", plan.create.Name, err)
		return wait{why: "the firewall was refused", again: lost}, nil
	}
	return wait{}, err
}

// retire deletes a firewall, which its own reconciler then gives back.
func (s *scope) retire(ctx context.Context, r retirement) error {
	err := s.cached.Delete(ctx, r.firewall, client.Preconditions{UID: ptr.To(r.firewall.UID)})
	if err != nil {
		return client.IgnoreNotFound(err)
	}
	ctrl.LoggerFrom(ctx).Info("Retired a firewall", "firewall", r.firewall.Name, "because", r.why)
	s.normal(EventFirewallRetired, actionRoll, fmt.Sprintf("Deleted MetalStackFirewall %s: %s", r.firewall.Name, r.why))
	return nil
}

// firewallsOf returns the firewalls that a cluster controls.
func (s *scope) firewallsOf(ctx context.Context, cluster *v1alpha4.MetalStackCluster) ([]*v1alpha4.MetalStackFirewall, error) {
	list := &v1alpha4.MetalStackFirewallList{}
	if err := s.cached.List(ctx, list, client.InNamespace(cluster.Namespace)); err != nil {
		return nil, err
	}
	var owned []*v1alpha4.MetalStackFirewall
	for i := range list.Items {
		if metav1.IsControlledBy(&list.Items[i], cluster) {
			owned = append(owned, &list.Items[i])
		}
	}
	return owned, nil
}

// machinesGone waits for the machines of a cluster, which live in its network.
// It asks the server, not the cache: what it does not see loses its network.
func machinesGone(ctx context.Context, s *scope) (wait, error) {
	there, err := s.members(ctx, machines)
	if err != nil || len(there) == 0 {
		return wait{}, err
	}
	return waitFor(membersAgain, v1alpha4.ReasonWaitingForMachines,
		"%d machines of the cluster are still there, such as %s", len(there), there[0].GetName()), nil
}

// firewallsGone deletes the firewalls that the cluster owns, and waits for all
// of them.
func firewallsGone(ctx context.Context, s *scope) (wait, error) {
	there, err := s.members(ctx, firewalls)
	if err != nil || len(there) == 0 {
		return wait{}, err
	}
	for _, f := range there {
		if f.GetDeletionTimestamp() == nil && metav1.IsControlledBy(f, s.obj) {
			if err := s.retire(ctx, retirement{f.(*v1alpha4.MetalStackFirewall), "its cluster is being deleted"}); err != nil {
				return wait{}, err
			}
		}
	}
	return waitFor(membersAgain, v1alpha4.ReasonWaitingForFirewalls,
		"%d firewalls of the cluster are still there, such as %s", len(there), there[0].GetName()), nil
}

// members returns the objects of a kind that belong to the cluster: by label,
// by owner, or because their metal was allocated for it.
func (s *scope) members(ctx context.Context, k kind) ([]client.Object, error) {
	list := k.list()
	if err := s.live.List(ctx, list, client.InNamespace(s.obj.GetNamespace())); err != nil {
		return nil, err
	}
	name := clusterNameOf(s.obj.(*v1alpha4.MetalStackCluster))
	var there []client.Object
	err := meta.EachListItem(list, func(item runtime.Object) error {
		obj := item.(client.Object)
		if obj.GetLabels()[v1alpha4.ClusterNameLabel] == name || metav1.IsControlledBy(obj, s.obj) ||
			(allocationOf(obj).ClusterName == s.obj.GetName() && !released(obj)) {
			there = append(there, obj)
		}
		return nil
	})
	return there, err
}
