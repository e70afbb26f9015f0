// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"maps"
	"net"
	"strconv"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

const (
	// workloadTokenLifetime is how long a token of a workload cluster is asked for. It is
	// renewed after half of what is given.
	workloadTokenLifetime = 24 * time.Hour
	// The annotations of its Secret: when it is renewed, and whose it is.
	tokenRenewalAnnotation = "metal-stack." + infrastructure.GroupName + "/token-renewal-time"
	tokenAccountAnnotation = "metal-stack." + infrastructure.GroupName + "/token-service-account-uid"
)

// ensureWorkloadSecrets ensures the Secrets by which firewall-controllers reach a workload
// cluster, and returns where its API server is. Errors of the workload cluster are of the type
// workloadError.
func (r *reconciliation) ensureWorkloadSecrets(ctx context.Context, cluster *v1alpha4.MetalStackCluster, api *workloadAPI) (server string, err error) {
	server = r.workloadServer(cluster, api)
	kubeconfig, err := workloadKubeconfig(server, api.serverName, api.authority)
	if err != nil {
		return "", err
	}
	_, err = ensureAccessObject(ctx, r, r.firewallAccess, cluster, &corev1.Secret{
		ObjectMeta: accessMeta(cluster, workloadConfigName(cluster)), Type: corev1.SecretTypeOpaque,
		Data: map[string][]byte{"kubeconfig": kubeconfig},
	}, &corev1.Secret{}, replaceOpaque)
	if err != nil {
		return "", err
	}
	return server, r.ensureWorkloadToken(ctx, cluster, api)
}

// replaceOpaque makes of a Secret that is there what is wanted.
func replaceOpaque(is, wanted *corev1.Secret) bool {
	is.Data = wanted.Data
	if is.Annotations == nil && len(wanted.Annotations) > 0 {
		is.Annotations = map[string]string{}
	}
	maps.Copy(is.Annotations, wanted.Annotations)
	return is.Type == wanted.Type
}

// workloadServer is the URL at which a firewall reaches the API server of the workload
// cluster: its endpoint, or what the kubeconfig says if there is none yet.
func (r *reconciliation) workloadServer(cluster *v1alpha4.MetalStackCluster, api *workloadAPI) string {
	if r.cluster != nil && r.cluster.Spec.ControlPlaneEndpoint.IsValid() {
		return "https://" + net.JoinHostPort(r.cluster.Spec.ControlPlaneEndpoint.Host, strconv.Itoa(int(r.cluster.Spec.ControlPlaneEndpoint.Port)))
	}
	if e := cluster.Spec.ControlPlaneEndpoint; e.Host != "" && e.Port != 0 {
		return "https://" + net.JoinHostPort(e.Host, strconv.Itoa(int(e.Port)))
	}
	return api.server
}

// ensureWorkloadToken renews the token of the workload cluster when half of its time is over, or
// when it is that of a ServiceAccount that is gone.
func (r *reconciliation) ensureWorkloadToken(ctx context.Context, cluster *v1alpha4.MetalStackCluster, api *workloadAPI) error {
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: workloadNamespace, Name: workloadAccount}}
	if err := api.Get(ctx, client.ObjectKeyFromObject(account), account); err != nil {
		return &workloadError{err}
	}
	is := &corev1.Secret{}
	err := r.live.Get(ctx, client.ObjectKey{Namespace: cluster.Namespace, Name: workloadTokenName(cluster)}, is)
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	wanted := &corev1.Secret{ObjectMeta: accessMeta(cluster, workloadTokenName(cluster)), Type: corev1.SecretTypeOpaque}
	if err == nil && r.isTokenCurrent(is, account) {
		wanted.Data = map[string][]byte{corev1.ServiceAccountTokenKey: is.Data[corev1.ServiceAccountTokenKey]}
		wanted.Annotations = map[string]string{
			tokenRenewalAnnotation: is.Annotations[tokenRenewalAnnotation], tokenAccountAnnotation: is.Annotations[tokenAccountAnnotation],
		}
	} else {
		if err == nil {
			if err := r.checkBelongs(r.firewallAccess, cluster, is); err != nil {
				return err
			}
		}
		if err := r.requestWorkloadToken(ctx, api, account, wanted); err != nil {
			return err
		}
	}
	_, err = ensureAccessObject(ctx, r, r.firewallAccess, cluster, wanted, &corev1.Secret{}, replaceOpaque)
	return err
}

// requestWorkloadToken requests a token for a Secret.
func (r *reconciliation) requestWorkloadToken(ctx context.Context, api client.Client, account *corev1.ServiceAccount, wanted *corev1.Secret) error {
	token := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To(int64(workloadTokenLifetime / time.Second))}}
	if err := api.SubResource("token").Create(ctx, account, token); err != nil {
		return &workloadError{err}
	}
	now := r.clock.Now()
	// The clock of the workload cluster may be another one.
	left := min(token.Status.ExpirationTimestamp.Sub(now), workloadTokenLifetime)
	wanted.Data = map[string][]byte{corev1.ServiceAccountTokenKey: []byte(token.Status.Token)}
	wanted.Annotations = map[string]string{
		tokenRenewalAnnotation: now.Add(left / 2).UTC().Format(time.RFC3339),
		tokenAccountAnnotation: string(account.UID),
	}
	return nil
}

// isTokenCurrent returns whether a Secret has a token that need not be renewed yet. clusterctl
// takes the annotations off what it moves.
func (r *reconciliation) isTokenCurrent(secret *corev1.Secret, account *corev1.ServiceAccount) bool {
	renewal, err := time.Parse(time.RFC3339, secret.Annotations[tokenRenewalAnnotation])
	now := r.clock.Now()
	return err == nil && now.Before(renewal) && renewal.Sub(now) <= workloadTokenLifetime && len(secret.Data[corev1.ServiceAccountTokenKey]) > 0 &&
		secret.Annotations[tokenAccountAnnotation] == string(account.UID)
}

// workloadError is an error of a request to a workload cluster.
type workloadError struct{ error }

func (e *workloadError) Unwrap() error { return e.error }
