// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// reconcileFirewallUserData makes the user data of a firewall: what the Secret holds that
// spec.userData names, and with spec.controller a kubeconfig for the firewall-controller.
// While something of that is missing, or metal cannot boot with it, it waits, unless the
// firewall names its machine: one that is adopted, as after a move, needs no user data, and
// the server allocates none without.
func reconcileFirewallUserData(ctx context.Context, r *reconciliation) (wait, error) {
	f := r.obj.(*v1alpha4.MetalStackFirewall)
	w, err := r.readFirewallUserData(ctx, f)
	if err == nil && w.message == "" && f.Spec.Controller != nil {
		w, err = r.addSeedKubeconfig(ctx, f)
	}
	if err != nil || w.message == "" {
		return w, err
	}
	r.userData = nil
	if f.Spec.ProviderID != "" {
		return wait{}, nil
	}
	return w, nil
}

// readFirewallUserData reads the user data that a firewall names.
func (r *reconciliation) readFirewallUserData(ctx context.Context, f *v1alpha4.MetalStackFirewall) (wait, error) {
	ref := f.Spec.UserData
	if ref == nil {
		return wait{}, nil
	}
	secret, w, err := r.getUserDataSecret(ctx, ref.Name)
	switch {
	case w.message != "" || err != nil:
		return w, err
	case secret == nil:
		return waitFor(inFlightRequeue, infrastructure.ReasonWaitingForBootstrapData, "Secret %s, which spec.userData names, not found", ref.Name), nil
	}
	return r.useUserData(secret), nil
}

// addSeedKubeconfig adds a kubeconfig of the management cluster to the user data. Which
// ServiceAccount it is for is written before an allocation begins; it is not known of one that
// has begun which user data its first request had.
func (r *reconciliation) addSeedKubeconfig(ctx context.Context, f *v1alpha4.MetalStackFirewall) (wait, error) {
	cluster := r.metalStackCluster
	url := r.options.ManagementCluster.URL
	switch {
	case cluster == nil || !hasFirewallController(cluster) || infrastructure.ExternallyManaged(cluster):
		return waitFor(fallbackRequeue, infrastructure.ReasonWaitingForFirewallAccess,
			"spec.controller needs access to the management cluster, which is given for a MetalStackCluster with firewallSpec.controller that is not managed externally: set it there, or remove spec.controller"), nil
	case url == "":
		return waitFor(fallbackRequeue, infrastructure.ReasonManagementURLMissing,
			"A firewall-controller needs the URL of the management cluster in the firewall's user data, which cannot be changed later: an administrator has to set --management-cluster-url of the controller manager"), nil
	}
	authority, err := r.options.ManagementCluster.authority()
	if err != nil {
		failure := r.firewallAccess.failure(err)
		return waitFor(fallbackRequeue, failure.Reason, "%s", failure.Message), nil
	}
	account, token, err := r.readSeedToken(ctx, cluster)
	if err != nil {
		return wait{}, err
	}
	if token == "" {
		message := "it is being made"
		if c := meta.FindStatusCondition(cluster.Status.Conditions, infrastructure.ConditionFirewallControllerReady); c != nil && c.Status != metav1.ConditionTrue {
			message = c.Message
		}
		return waitFor(inFlightRequeue, infrastructure.ReasonWaitingForFirewallAccess,
			"The token of ServiceAccount %s, with which the firewall-controller reads its configuration, is not there yet: %s", r.firewallAccess.account(cluster), message), nil
	}
	kubeconfig, err := seedKubeconfig(f.Namespace, url, authority, token)
	if err != nil {
		return wait{}, err
	}
	userData, err := addToIgnition(r.userData, seedKubeconfigPath, kubeconfig, firewallUnits)
	if err != nil {
		return waitFor(fallbackRequeue, infrastructure.ReasonBootstrapDataInvalid,
			"A kubeconfig for the firewall-controller cannot be added to the data of Secret %s, which spec.userData names: %v", f.Spec.UserData.Name, err), nil
	}
	r.userData = userData
	known := &v1alpha4.FirewallManagementAccess{URL: url, ServiceAccountUID: account.UID}
	if is := f.Status.ManagementAccess; allocationOf(f).Phase != "" || (is != nil && *is == *known) {
		return wait{}, nil
	}
	changed := f.DeepCopy()
	changed.Status.ManagementAccess = known
	if err := r.cached.Status().Patch(ctx, changed, client.MergeFrom(f)); err != nil {
		return wait{}, err
	}
	return wait{}, r.setObject(changed)
}

// readSeedToken reads the ServiceAccount of the firewall-controllers of a cluster and its token;
// empty if the cluster's reconciler has not made them yet, or they are not the cluster's.
func (r *reconciliation) readSeedToken(ctx context.Context, cluster *v1alpha4.MetalStackCluster) (*corev1.ServiceAccount, string, error) {
	account, secret := &corev1.ServiceAccount{}, &corev1.Secret{}
	err := r.live.Get(ctx, client.ObjectKey{Namespace: cluster.Namespace, Name: r.firewallAccess.account(cluster)}, account)
	if err == nil {
		err = r.live.Get(ctx, client.ObjectKey{Namespace: cluster.Namespace, Name: r.firewallAccess.token(cluster)}, secret)
	}
	switch {
	case apierrors.IsNotFound(err), apierrors.IsForbidden(err):
		return account, "", nil
	case err != nil:
		return account, "", err
	case !metav1.IsControlledBy(account, cluster):
		return account, "", nil
	}
	return account, tokenOf(secret, account), nil
}
