// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// accessAPI is the API server of the management cluster. It gives objects their uids, and
// notes requests.
type accessAPI struct {
	client.Client
	requests []string
	made     int
	// refuse answers a request with an error.
	refuse func(verb string, obj client.Object) error
	// hang has no request answered.
	hang bool
}

func (a *accessAPI) note(ctx context.Context, verb, name string, obj client.Object) error {
	if a.hang {
		<-ctx.Done()
		return ctx.Err()
	}
	a.requests = append(a.requests, fmt.Sprintf("%s %T %s", verb, obj, name))
	if a.refuse == nil {
		return nil
	}
	return a.refuse(verb, obj)
}

func (a *accessAPI) Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	if err := a.note(ctx, "get", key.Name, obj); err != nil {
		return err
	}
	return a.Client.Get(ctx, key, obj, opts...)
}

func (a *accessAPI) Create(ctx context.Context, obj client.Object, opts ...client.CreateOption) error {
	if err := a.note(ctx, "create", obj.GetName(), obj); err != nil {
		return err
	}
	a.made++
	obj.SetUID(types.UID(fmt.Sprintf("made-%d", a.made)))
	return a.Client.Create(ctx, obj, opts...)
}

func (a *accessAPI) Patch(ctx context.Context, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
	if err := a.note(ctx, "patch", obj.GetName(), obj); err != nil {
		return err
	}
	return a.Client.Patch(ctx, obj, patch, opts...)
}

func (a *accessAPI) Delete(ctx context.Context, obj client.Object, opts ...client.DeleteOption) error {
	if err := a.note(ctx, "delete", obj.GetName(), obj); err != nil {
		return err
	}
	return a.Client.Delete(ctx, obj, opts...)
}

// accessHarness is a harness with a cluster rose-x2f, which a topology made for Cluster rose.
type accessHarness struct {
	*harness
	live *accessAPI
}

const accessCluster = "rose-x2f"

func withAccess(obj client.Object) {
	c := obj.(*v1alpha4.MetalStackCluster)
	c.Spec = v1alpha4.MetalStackClusterSpec{
		ProjectID: "project-1", Partition: "fra-01", PublicNetworkID: "internet", PrivateNetworkID: "private-1",
		MetalAPIAccess: &v1alpha4.MetalAPIAccess{AdditionalNetworkIDs: []string{"mpls"}},
	}
	c.Status.ClusterID = "cluster-id"
}

func newAccessHarness(t *testing.T, changes ...func(client.Object)) *accessHarness {
	t.Helper()
	cluster := object(clusters, accessCluster, append([]func(client.Object){of("rose"), with(v1alpha4.AllocationAllocated), withAccess}, changes...)...)
	h := &accessHarness{harness: newHarness(t, clusters, true, cluster)}
	h.use(clusters, Options{Standalone: true, ManagementCluster: ManagementCluster{
		URL: "https://kubernetes.example.org:6443", Authority: func() (string, error) { return "-----BEGIN CERTIFICATE-----\n", nil },
	}})
	h.live = &accessAPI{Client: h.api}
	h.r.live = h.live
	return h
}

func (h *accessHarness) cluster() *v1alpha4.MetalStackCluster {
	h.t.Helper()
	return h.get(clusters, accessCluster).(*v1alpha4.MetalStackCluster)
}

// change changes the cluster.
func (h *accessHarness) change(change func(*v1alpha4.MetalStackCluster)) {
	h.t.Helper()
	c := h.cluster()
	change(c)
	h.update(c)
}

func (h *accessHarness) condition() metav1.Condition {
	h.t.Helper()
	c := meta.FindStatusCondition(h.cluster().Status.Conditions, infrastructure.ConditionMetalAPIAccessReady)
	if c == nil {
		return metav1.Condition{}
	}
	return *c
}

// find is whether an object exists; it is read into obj.
func (h *accessHarness) find(name string, obj client.Object) bool {
	h.t.Helper()
	err := h.api.Get(h.t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, obj)
	require.NoError(h.t, client.IgnoreNotFound(err))
	return err == nil
}

// writeToken does what kube-controller-manager does for the access to the metal-api.
func (h *accessHarness) writeToken(token string) {
	h.t.Helper()
	h.writeTokenOf(accessCluster+"-metalapi", token)
}

// writeTokenOf does what kube-controller-manager does for a ServiceAccount.
func (h *accessHarness) writeTokenOf(name, token string) {
	h.t.Helper()
	account, secret := &corev1.ServiceAccount{}, &corev1.Secret{}
	require.True(h.t, h.find(name, account))
	require.True(h.t, h.find(name+"-token", secret))
	require.Equal(h.t, corev1.SecretTypeServiceAccountToken, secret.Type)
	require.Equal(h.t, name, secret.Annotations[corev1.ServiceAccountNameKey])
	secret.Annotations[corev1.ServiceAccountUIDKey] = string(account.UID)
	secret.Data = map[string][]byte{"token": []byte(token), "ca.crt": []byte("ca"), "namespace": []byte(namespace)}
	require.NoError(h.t, h.api.Update(h.t.Context(), secret))
}

// provide reconciles until all is there.
func (h *accessHarness) provide(token string) {
	h.t.Helper()
	h.reconcile(accessCluster)
	h.reconcile(accessCluster)
	require.Equal(h.t, infrastructure.ReasonWaitingForToken, h.condition().Reason)
	h.writeToken(token)
	h.step(accessCheckInterval)
	require.Equal(h.t, infrastructure.ReasonMetalAPIAccessProvided, h.condition().Reason, h.condition().Message)
	h.live.requests = nil
}

func (h *accessHarness) step(d time.Duration) time.Duration {
	h.t.Helper()
	h.clock.Step(d)
	return h.reconcile(accessCluster).RequeueAfter
}

// config is what metal-ccm would read.
func (h *accessHarness) config() map[string]string {
	h.t.Helper()
	secret := &corev1.Secret{}
	require.True(h.t, h.find("rose-metal-ccm", secret))
	delivered := &corev1.Secret{}
	require.NoError(h.t, yaml.UnmarshalStrict(secret.Data["metal-ccm.yaml"], delivered))
	require.Equal(h.t, "Secret kube-system/metal-ccm", delivered.Kind+" "+delivered.Namespace+"/"+delivered.Name)
	return delivered.StringData
}

// accessObjects are the objects, by kind and name.
func accessObjects() map[string]func() (string, client.Object) {
	return map[string]func() (string, client.Object){
		"ServiceAccount": func() (string, client.Object) { return accessCluster + "-metalapi", &corev1.ServiceAccount{} },
		"Role":           func() (string, client.Object) { return accessCluster + "-metalapi", &rbacv1.Role{} },
		"RoleBinding":    func() (string, client.Object) { return accessCluster + "-metalapi", &rbacv1.RoleBinding{} },
		"token":          func() (string, client.Object) { return accessCluster + "-metalapi-token", &corev1.Secret{} },
		"config":         func() (string, client.Object) { return "rose-metal-ccm", &corev1.Secret{} },
	}
}
