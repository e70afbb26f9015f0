// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	firewallv2 "metal-stack.io/infrastructure-apiserver/pkg/apis/firewall/v2"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// newFirewallAccess is what the firewall-controllers of a cluster are given.
func newFirewallAccess(checks *accessChecks) *access {
	return &access{
		conditionType: infrastructure.ConditionFirewallControllerReady,
		description:   "access of the firewall-controllers",
		suffix:        infrastructure.FirewallControllerSuffix,
		secrets: func(cluster *v1alpha4.MetalStackCluster, _ string) []string {
			return []string{workloadConfigName(cluster), workloadTokenName(cluster)}
		},
		revokedEvent: EventFirewallAccessRevoked, action: actionProvideFirewallAccess,
		checks: checks,
	}
}

// workloadConfigName and workloadTokenName are the names of the Secrets by which
// firewall-controllers reach the workload cluster.
func workloadConfigName(cluster *v1alpha4.MetalStackCluster) string {
	return cluster.Name + "-firewall-workload-config"
}

func workloadTokenName(cluster *v1alpha4.MetalStackCluster) string {
	return cluster.Name + "-firewall-workload-token"
}

// hasFirewallController returns whether the firewalls of a cluster have firewall-controllers.
func hasFirewallController(cluster *v1alpha4.MetalStackCluster) bool {
	return cluster.Spec.FirewallSpec != nil && cluster.Spec.FirewallSpec.Controller != nil
}

// firewallAccessInputs are what the objects in the management cluster depend on. They are
// comparable.
type firewallAccessInputs struct {
	uid types.UID
	url string
}

// reconcileFirewallAccess keeps what firewallSpec.controller asks for in the management cluster,
// and says what is so in the workload cluster.
func reconcileFirewallAccess(ctx context.Context, r *reconciliation) (wait, error) {
	if r.options.Standalone {
		// There is no management cluster.
		return wait{}, nil
	}
	cluster := r.obj.(*v1alpha4.MetalStackCluster)
	a := r.firewallAccess
	was := meta.FindStatusCondition(cluster.Status.Conditions, a.conditionType)
	// It is read before: what the workload cluster's reconciler makes meanwhile is deleted next time.
	cleaned := r.workload == nil || cluster.DeletionTimestamp != nil || !mayHaveAccess(was) || r.workload.get(r.request).cleaned
	allocated := allocationOf(cluster).Phase == v1alpha4.AllocationAllocated
	r.reconcileAccess(ctx, a, cluster, hasFirewallController(cluster), allocated, func() accessPlan {
		return accessPlan{firewallAccessInputs{cluster.UID, r.options.ManagementCluster.URL}, func(ctx context.Context) metav1.Condition {
			return r.ensureFirewallAccess(ctx, cluster)
		}}
	})
	switch {
	case a.ready != nil && a.ready.Status == metav1.ConditionTrue:
		a.ready = r.workloadCondition(was)
	case a.revoked && a.ready == nil && !cleaned:
		a.revoked = false
		a.set(infrastructure.ReasonRevoking, "The firewall-controllers have no access to the management cluster any more; what they have in the workload cluster is being deleted")
		a.recheckAfter = accessCheckInterval
	}
	return wait{}, nil
}

// workloadCondition is what there is to say when everything is there in the management cluster.
func (r *reconciliation) workloadCondition(was *metav1.Condition) *metav1.Condition {
	a := r.firewallAccess
	switch {
	case r.workload == nil:
	case r.workload.get(r.request).condition != nil:
		return r.workload.get(r.request).condition
	case was == nil || was.Reason == infrastructure.ReasonWaitingForToken:
		return a.condition(metav1.ConditionFalse, infrastructure.ReasonWaitingForControlPlane, "Firewalls are allocated with a kubeconfig of the management cluster; the workload cluster has not been asked yet")
	default:
		// After a restart, what was said holds until the workload cluster has been asked.
		return was.DeepCopy()
	}
	return a.condition(metav1.ConditionTrue, infrastructure.ReasonFirewallAccessProvided, "Firewalls are allocated with a kubeconfig of the management cluster")
}

// ensureFirewallAccess creates and corrects the objects in the management cluster, and returns
// the condition that tells how far it got.
func (r *reconciliation) ensureFirewallAccess(ctx context.Context, cluster *v1alpha4.MetalStackCluster) metav1.Condition {
	a := r.firewallAccess
	if _, err := r.options.ManagementCluster.authority(); err != nil {
		return a.failure(err)
	}
	token, err := r.ensureToken(ctx, a, cluster, []rbacv1.PolicyRule{
		{
			APIGroups: []string{firewallv2.GroupName}, Resources: []string{"firewalls", "firewalls/status"},
			Verbs: []string{"get", "list", "watch"},
		},
		{
			APIGroups: []string{corev1.GroupName}, Resources: []string{"secrets"},
			ResourceNames: []string{workloadConfigName(cluster), workloadTokenName(cluster)},
			Verbs:         []string{"get"},
		},
	})
	switch {
	case err != nil:
		return a.failure(err)
	case token == "":
		return *a.waitingForToken(cluster)
	}
	return *a.condition(metav1.ConditionTrue, infrastructure.ReasonFirewallAccessProvided, "")
}

// revokeRemovedFirewallAccess revokes the access of a cluster that is being deleted and whose
// firewallSpec has no controller any more: its deletion may be held for long.
func revokeRemovedFirewallAccess(ctx context.Context, r *reconciliation) (wait, error) {
	if cluster, ok := r.obj.(*v1alpha4.MetalStackCluster); !ok || hasFirewallController(cluster) {
		return wait{}, nil
	}
	return reconcileFirewallAccess(ctx, r)
}

// revokeFirewallAccess revokes the access of a cluster that is being deleted.
func revokeFirewallAccess(ctx context.Context, r *reconciliation) (wait, error) {
	cluster, ok := r.obj.(*v1alpha4.MetalStackCluster)
	if !ok {
		return wait{}, nil
	}
	return r.revokeAccessOfDeleted(ctx, r.firewallAccess, cluster), nil
}

// forgetAccessOfAdopted takes back what was written before the allocation of a firewall whose
// machine turned out to exist: its user data were not made here.
func forgetAccessOfAdopted(_ context.Context, r *reconciliation) (wait, error) {
	f := r.obj.(*v1alpha4.MetalStackFirewall)
	if isAdopted(f) {
		f.Status.ManagementAccess = nil
	}
	return wait{}, nil
}

// isAdopted returns whether the machine of a firewall existed before the object.
func isAdopted(f *v1alpha4.MetalStackFirewall) bool {
	allocated := meta.FindStatusCondition(f.Status.Conditions, infrastructure.ConditionAllocated)
	return (f.Status.Allocation != nil && f.Status.Allocation.Adopted) || (allocated != nil && allocated.Reason == infrastructure.ReasonAdopted)
}
