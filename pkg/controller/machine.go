// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/cluster-api/util"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// The keys of a bootstrap secret.
const (
	bootstrapValue  = "value"
	bootstrapFormat = "format"
)

// bootstrapFormats are what metal-stack's images boot with. They distinguish one from
// the other by themselves.
var bootstrapFormats = []string{"cloud-config", "ignition"}

// waitWithoutSecrets waits for ever with an object that names user data, standalone:
// there are no Secrets.
func waitWithoutSecrets(_ context.Context, r *reconciliation) (wait, error) {
	if userDataOf(r.obj) == nil {
		return wait{}, nil
	}
	return wait{reason: infrastructure.ReasonWaitingForBootstrapData, message: "spec.userData names a Secret, and a standalone server has none: recreate the object without spec.userData"}, nil
}

// waitForOwnerMachine waits until a Machine owns the object.
func waitForOwnerMachine(_ context.Context, r *reconciliation) (wait, error) {
	switch {
	case r.machine == nil:
		return waitFor(fallbackRequeue, infrastructure.ReasonWaitingForOwner,
			"No Machine owns this object yet: Cluster API sets the owner reference when spec.infrastructureRef of a Machine names it"), nil
	case r.machine.DeletionTimestamp != nil:
		return waitFor(fallbackRequeue, infrastructure.ReasonWaitingForOwner, "Machine %s is being deleted", r.machine.Name), nil
	}
	return wait{}, nil
}

// waitForClusterInfrastructure waits until Cluster API says that the infrastructure of
// the cluster is there.
func waitForClusterInfrastructure(_ context.Context, r *reconciliation) (wait, error) {
	reason := infrastructure.ReasonWaitingForClusterInfrastructure
	switch c := r.cluster; {
	case c == nil:
		return waitFor(fallbackRequeue, reason, "Cluster %s not found", r.clusterName()), nil
	case c.DeletionTimestamp != nil:
		return waitFor(fallbackRequeue, reason, "Cluster %s is being deleted", c.Name), nil
	case !ptr.Deref(c.Status.Initialization.InfrastructureProvisioned, false):
		return waitFor(fallbackRequeue, reason, "The infrastructure of Cluster %s is not provisioned yet (status.initialization.infrastructureProvisioned)", c.Name), nil
	}
	return wait{}, nil
}

// waitForFirewall waits until a firewall of the cluster has phoned home for the
// first time: without one, a machine reaches nothing at its first boot, which
// is when it joins its cluster. One that is being deleted serves while it holds
// its metal.
func waitForFirewall(ctx context.Context, r *reconciliation) (wait, error) {
	if r.metalStackCluster == nil || r.metalStackCluster.Spec.FirewallSpec == nil || infrastructure.ExternallyManaged(r.metalStackCluster) {
		return wait{}, nil
	}
	all, err := r.listFirewalls(ctx, r.cached, r.metalStackCluster)
	if err != nil {
		return wait{}, err
	}
	for _, f := range controlledFirewalls(r.metalStackCluster, all) {
		if hasPhonedHome(f) {
			return wait{}, nil
		}
	}
	for _, f := range deletingFirewalls(r.metalStackCluster, all) {
		if allocationOf(f).Phase == v1alpha4.AllocationAllocated && hasPhonedHome(f) && !r.belongsToAnother(r.metalStackCluster, f) {
			return wait{}, nil
		}
	}
	return waitFor(fallbackRequeue, infrastructure.ReasonWaitingForFirewall, "No firewall of MetalStackCluster %s has phoned home yet", r.metalStackCluster.Name), nil
}

// reconcileBootstrapData waits for the bootstrap data, writes into the spec where they are
// and where the machine shall stand, and reads them.
func reconcileBootstrapData(ctx context.Context, r *reconciliation) (wait, error) {
	name := ptr.Deref(r.machine.Spec.Bootstrap.DataSecretName, "")
	if name == "" {
		return waitFor(fallbackRequeue, infrastructure.ReasonWaitingForBootstrapData,
			"The bootstrap data of Machine %s are not there yet (spec.bootstrap.dataSecretName)", r.machine.Name), nil
	}
	if allocationOf(r.obj).Phase == "" {
		if w, err := r.syncSpec(ctx, name); w.message != "" || err != nil {
			return w, err
		}
	}
	secret, w, err := r.getUserDataSecret(ctx, name)
	switch {
	case w.message != "" || err != nil:
		return w, err
	case secret == nil:
		return waitFor(inFlightRequeue, infrastructure.ReasonWaitingForBootstrapData, "Secret %s, the bootstrap data of Machine %s, not found", name, r.machine.Name), nil
	}
	return r.useUserData(secret), nil
}

// userDataOf returns which Secret an object names in spec.userData, if any.
func userDataOf(obj metalObject) *v1alpha4.SecretReference {
	switch o := obj.(type) {
	case *v1alpha4.MetalStackMachine:
		return o.Spec.UserData
	case *v1alpha4.MetalStackFirewall:
		return o.Spec.UserData
	}
	return nil
}

// syncSpec writes what the Machine says into the spec, while that can be changed.
func (r *reconciliation) syncSpec(ctx context.Context, secret string) (wait, error) {
	m := r.obj.(*v1alpha4.MetalStackMachine)
	partition := r.machine.Spec.FailureDomain
	newUserData := m.Spec.UserData == nil || m.Spec.UserData.Name != secret || (m.Spec.UserData.Namespace != "" && m.Spec.UserData.Namespace != m.Namespace)
	newPartition := partition != "" && m.Spec.Partition != partition
	newLabel := m.Labels[infrastructure.ClusterNameLabel] != r.machine.Spec.ClusterName
	if !newUserData && !newPartition && !newLabel {
		return wait{}, nil
	}
	err := r.patchObject(ctx, func(obj metalObject) {
		m := obj.(*v1alpha4.MetalStackMachine)
		if newUserData {
			m.Spec.UserData = &v1alpha4.SecretReference{Name: secret}
		}
		if newPartition {
			m.Spec.Partition = partition
		}
		if newLabel {
			m.Labels = util.MergeMap(map[string]string{infrastructure.ClusterNameLabel: r.machine.Spec.ClusterName}, m.Labels)
		}
	})
	if apierrors.IsInvalid(err) {
		// E.g. a failure domain that is no partition.
		return waitFor(fallbackRequeue, infrastructure.ReasonAllocationRefused, "Failed to apply bootstrap data and failure domain of Machine %s: %v", r.machine.Name, err), nil
	}
	if err != nil {
		return wait{}, err
	}
	if newUserData {
		r.recordNormal(EventUserDataSet, actionPrepare, "Set spec.userData to Secret "+secret)
	}
	if newPartition {
		r.recordNormal(EventPartitionSet, actionPrepare, "Set spec.partition to "+partition+", the failure domain of the Machine")
	}
	return wait{}, nil
}

// getUserDataSecret reads a Secret of the object's namespace from the server, by name: this
// controller keeps none. It returns nil if there is none.
func (r *reconciliation) getUserDataSecret(ctx context.Context, name string) (*corev1.Secret, wait, error) {
	secret := &corev1.Secret{}
	err := r.live.Get(ctx, types.NamespacedName{Namespace: r.obj.GetNamespace(), Name: name}, secret)
	switch {
	case err == nil:
		return secret, wait{}, nil
	case apierrors.IsNotFound(err):
		return nil, wait{}, nil
	case apierrors.IsForbidden(err):
		return nil, waitFor(inFlightRequeue, infrastructure.ReasonWaitingForBootstrapData,
			"Secret %s cannot be read yet: metalstack-apiserver has not created the RoleBinding metalstack-bootstrap-data in this namespace: %v", name, err), nil
	}
	return nil, wait{}, err
}

// useUserData takes the user data from a Secret, and waits if metal cannot boot with it.
func (r *reconciliation) useUserData(secret *corev1.Secret) wait {
	format := string(secret.Data[bootstrapFormat])
	switch {
	case len(secret.Data[bootstrapValue]) == 0:
		return waitFor(fallbackRequeue, infrastructure.ReasonBootstrapDataInvalid, "Secret %s has no data for key %q", secret.Name, bootstrapValue)
	case format != "" && format != bootstrapFormats[0] && format != bootstrapFormats[1]:
		return waitFor(fallbackRequeue, infrastructure.ReasonBootstrapDataInvalid,
			"Secret %s holds user data of the format %q; metal-stack's images boot with %s or %s", secret.Name, format, bootstrapFormats[0], bootstrapFormats[1])
	}
	r.userData = secret.Data[bootstrapValue]
	return wait{}
}

// waitForLoadBalancers leaves a control plane machine its metal for a while, so
// that load balancers see it fail its checks before it is switched off.
func waitForLoadBalancers(_ context.Context, r *reconciliation) (wait, error) {
	if !isControlPlane(r.obj) {
		return wait{}, nil
	}
	left := r.obj.GetDeletionTimestamp().Add(r.options.LoadBalancerGracePeriod).Sub(r.clock.Now())
	if left <= 0 {
		return wait{}, nil
	}
	return waitFor(left, infrastructure.ReasonWaitingForLoadBalancers,
		"Control plane machine keeps running for %s, so that load balancers can remove it", r.options.LoadBalancerGracePeriod), nil
}

func isControlPlane(obj client.Object) bool {
	return hasKey(obj.GetLabels(), infrastructure.ControlPlaneLabel)
}
