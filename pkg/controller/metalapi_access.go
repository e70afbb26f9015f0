// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// newMetalAPIAccess is what spec.metalAPIAccess asks for.
func newMetalAPIAccess(checks *accessChecks) *access {
	return &access{
		conditionType: infrastructure.ConditionMetalAPIAccessReady,
		description:   "access of the workload cluster to its metal-api",
		suffix:        "-metalapi",
		secrets: func(_ *v1alpha4.MetalStackCluster, clusterName string) []string {
			return []string{accessConfigName(clusterName)}
		},
		revokedEvent: EventMetalAPIAccessRevoked, action: actionProvideAccess,
		checks: checks,
	}
}

// accessConfigName is the name of the Secret for a ClusterResourceSet. A template knows the name
// of the Cluster; a topology generates that of the MetalStackCluster.
func accessConfigName(clusterName string) string { return clusterName + "-metal-ccm" }

// reconcileMetalAPIAccess keeps what spec.metalAPIAccess asks for.
func reconcileMetalAPIAccess(ctx context.Context, r *reconciliation) (wait, error) {
	cluster := r.obj.(*v1alpha4.MetalStackCluster)
	allocated := allocationOf(cluster).Phase == v1alpha4.AllocationAllocated && cluster.Status.ClusterID != ""
	r.reconcileAccess(ctx, r.metalAPIAccess, cluster, cluster.Spec.MetalAPIAccess != nil, allocated, func() accessPlan {
		inputs := metalCCMInputsOf(cluster, r.options.ManagementCluster.URL)
		return accessPlan{inputs, func(ctx context.Context) metav1.Condition { return r.ensureMetalAPIAccess(ctx, cluster, inputs) }}
	})
	return wait{}, nil
}

// revokeRemovedAccess revokes the access of a cluster that is being deleted and has no
// spec.metalAPIAccess any more: its deletion may be held for long.
func revokeRemovedAccess(ctx context.Context, r *reconciliation) (wait, error) {
	if cluster, ok := r.obj.(*v1alpha4.MetalStackCluster); !ok || cluster.Spec.MetalAPIAccess != nil {
		return wait{}, nil
	}
	return reconcileMetalAPIAccess(ctx, r)
}

// revokeMetalAPIAccess revokes the access of a cluster that is being deleted.
func revokeMetalAPIAccess(ctx context.Context, r *reconciliation) (wait, error) {
	cluster, ok := r.obj.(*v1alpha4.MetalStackCluster)
	if !ok {
		return wait{}, nil
	}
	return r.revokeAccessOfDeleted(ctx, r.metalAPIAccess, cluster), nil
}

// metalCCMInputs are what metal-ccm is configured with, but for its token and the authority
// of the management cluster. They are comparable.
type metalCCMInputs struct {
	uid types.UID
	// account and config are the names of the ServiceAccount and of the Secret.
	account, config                                               string
	url, project, partition, clusterID, externalNetwork, networks string
}

func metalCCMInputsOf(cluster *v1alpha4.MetalStackCluster, managementURL string) metalCCMInputs {
	spec := &cluster.Spec
	private := spec.PrivateNetworkID
	if a := cluster.Status.Allocation; a != nil {
		private = cmp.Or(private, a.NetworkID)
	}
	var networks []string
	for _, network := range append([]string{private, spec.PublicNetworkID}, spec.MetalAPIAccess.AdditionalNetworkIDs...) {
		if network != "" && !slices.Contains(networks, network) {
			networks = append(networks, network)
		}
	}
	return metalCCMInputs{
		uid: cluster.UID, account: cluster.Name, config: accessConfigName(clusterNameOf(cluster)),
		url:     managementURL + "/apis/" + v1alpha4.SchemeGroupVersion.String() + "/namespaces/" + cluster.Namespace + "/" + clusters.resource + "/" + cluster.Name + "/metalapi",
		project: spec.ProjectID, partition: spec.Partition, clusterID: cluster.Status.ClusterID,
		externalNetwork: spec.PublicNetworkID, networks: strings.Join(networks, ","),
	}
}

// ensureMetalAPIAccess creates and corrects the objects, and returns the condition that tells
// how far it got.
func (r *reconciliation) ensureMetalAPIAccess(ctx context.Context, cluster *v1alpha4.MetalStackCluster, inputs metalCCMInputs) metav1.Condition {
	a := r.metalAPIAccess
	token, err := r.ensureToken(ctx, a, cluster, []rbacv1.PolicyRule{{
		APIGroups: []string{v1alpha4.GroupName}, Resources: []string{clusters.resource + "/metalapi"}, ResourceNames: []string{cluster.Name},
		Verbs: []string{"get", "create", "update", "delete"},
	}})
	if err == nil && token == "" {
		return *a.waitingForToken(cluster)
	}
	if err == nil {
		err = r.ensureMetalCCMConfig(ctx, cluster, inputs, token)
	}
	if err != nil {
		return a.failure(err)
	}
	return *a.condition(metav1.ConditionTrue, infrastructure.ReasonMetalAPIAccessProvided,
		fmt.Sprintf("Secret %s has what metal-ccm needs", inputs.config))
}

// ensureMetalCCMConfig ensures the Secret by which a ClusterResourceSet configures metal-ccm.
func (r *reconciliation) ensureMetalCCMConfig(ctx context.Context, cluster *v1alpha4.MetalStackCluster, inputs metalCCMInputs, token string) error {
	authority, err := r.options.ManagementCluster.authority()
	if err != nil {
		return err
	}
	manifest, err := metalCCMManifest(inputs, token, authority)
	if err != nil {
		return err
	}
	_, err = ensureAccessObject(ctx, r, r.metalAPIAccess, cluster, &corev1.Secret{
		ObjectMeta: accessMeta(cluster, inputs.config), Type: resourceSetSecretType,
		Data: map[string][]byte{metalCCMKey: manifest},
	}, &corev1.Secret{}, func(is, wanted *corev1.Secret) bool {
		is.Data = wanted.Data
		return is.Type == wanted.Type
	})
	return err
}
