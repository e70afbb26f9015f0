// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	ctrl "sigs.k8s.io/controller-runtime"
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

// writeToken does what kube-controller-manager does.
func (h *accessHarness) writeToken(token string) {
	h.t.Helper()
	account, secret := &corev1.ServiceAccount{}, &corev1.Secret{}
	require.True(h.t, h.find(accessCluster+"-metalapi", account))
	require.True(h.t, h.find(accessCluster+"-metalapi-token", secret))
	require.Equal(h.t, corev1.SecretTypeServiceAccountToken, secret.Type)
	require.Equal(h.t, account.Name, secret.Annotations[corev1.ServiceAccountNameKey])
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

func TestMetalAPIAccess_ProvidesWhatMetalCCMNeeds(t *testing.T) {
	t.Parallel()
	h := newAccessHarness(t)
	h.provide("the-token")
	assert.Equal(t, map[string]string{
		"url":   "https://kubernetes.example.org:6443/apis/infrastructure.cluster.x-k8s.io/v1alpha4/namespaces/tenant/metalstackclusters/rose-x2f/metalapi",
		"token": "the-token", "ca.crt": "-----BEGIN CERTIFICATE-----\n",
		"project": "project-1", "partition": "fra-01", "cluster": "cluster-id",
		"default-external-network": "internet", "additional-networks": "private-1,internet,mpls",
	}, h.config())
	assert.Equal(t, metav1.ConditionTrue, h.condition().Status)

	cluster := h.cluster()
	for what, of := range accessObjects() {
		name, obj := of()
		require.True(t, h.find(name, obj), what)
		if what == "token" {
			// clusterctl moves what a cluster owns, and spoils tokens.
			account := &corev1.ServiceAccount{}
			require.True(t, h.find(accessCluster+"-metalapi", account))
			assert.True(t, metav1.IsControlledBy(obj, account), what)
		} else {
			assert.True(t, metav1.IsControlledBy(obj, cluster), what)
		}
		assert.Equal(t, "rose", obj.GetLabels()["cluster.x-k8s.io/cluster-name"], what)
		switch o := obj.(type) {
		case *corev1.ServiceAccount:
			assert.False(t, *o.AutomountServiceAccountToken)
		case *rbacv1.Role:
			assert.Equal(t, []rbacv1.PolicyRule{{
				APIGroups: []string{"infrastructure.cluster.x-k8s.io"}, Resources: []string{"metalstackclusters/metalapi"},
				ResourceNames: []string{accessCluster}, Verbs: []string{"get", "create", "update", "delete"},
			}}, o.Rules)
		case *rbacv1.RoleBinding:
			assert.Equal(t, rbacv1.RoleRef{APIGroup: "rbac.authorization.k8s.io", Kind: "Role", Name: accessCluster + "-metalapi"}, o.RoleRef)
			assert.Equal(t, []rbacv1.Subject{{Kind: "ServiceAccount", Name: accessCluster + "-metalapi", Namespace: namespace}}, o.Subjects)
		}
	}
	config := &corev1.Secret{}
	require.True(t, h.find("rose-metal-ccm", config))
	assert.EqualValues(t, "addons.cluster.x-k8s.io/resource-set", config.Type)
}

func TestMetalAPIAccess_ClusterWithoutItCostsNoRequest(t *testing.T) {
	t.Parallel()
	h := newAccessHarness(t, func(obj client.Object) { obj.(*v1alpha4.MetalStackCluster).Spec.MetalAPIAccess = nil })
	for range 3 {
		h.step(time.Hour)
	}
	assert.Empty(t, h.live.requests)
	assert.Empty(t, h.condition())
}

func TestMetalAPIAccess_IsReadOnceAMinute(t *testing.T) {
	t.Parallel()
	h := newAccessHarness(t)
	h.provide("the-token")
	assert.Equal(t, 30*time.Second, h.step(30*time.Second), "it is reconciled again when the minute is over")
	assert.Empty(t, h.live.requests)
	h.step(30 * time.Second)
	assert.Len(t, h.live.requests, 5)
	for _, request := range h.live.requests {
		assert.True(t, strings.HasPrefix(request, "get "), request)
	}
	h.live.requests = nil
	h.change(func(c *v1alpha4.MetalStackCluster) {
		c.Spec.MetalAPIAccess.AdditionalNetworkIDs = []string{"mpls", "dmz"}
	})
	h.step(0)
	assert.Equal(t, "private-1,internet,mpls,dmz", h.config()["additional-networks"], "a change is not waited for")
}

func TestMetalAPIAccess_RestoresWhatWasChanged(t *testing.T) {
	t.Parallel()
	changes := map[string]func(obj client.Object){
		"ServiceAccount": func(obj client.Object) { obj.(*corev1.ServiceAccount).AutomountServiceAccountToken = nil },
		"Role":           func(obj client.Object) { obj.(*rbacv1.Role).Rules[0].ResourceNames = nil },
		"RoleBinding": func(obj client.Object) {
			b := obj.(*rbacv1.RoleBinding)
			b.Subjects = append(b.Subjects, rbacv1.Subject{Kind: "User", Name: "thief"})
		},
		"RoleBinding to another Role": func(obj client.Object) { obj.(*rbacv1.RoleBinding).RoleRef.Name = "other" },
		"token of another account": func(obj client.Object) {
			obj.GetAnnotations()[corev1.ServiceAccountNameKey] = "default"
		},
		"token of another type":  func(obj client.Object) { obj.(*corev1.Secret).Type = "Opaque" },
		"config":                 func(obj client.Object) { obj.(*corev1.Secret).Data = map[string][]byte{"other.yaml": []byte("x")} },
		"config of another type": func(obj client.Object) { obj.(*corev1.Secret).Type = "Opaque" },
		"config without labels":  func(obj client.Object) { obj.SetLabels(nil) },
	}
	for what, change := range changes {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			h := newAccessHarness(t)
			h.provide("the-token")
			kind, _, _ := strings.Cut(what, " ")
			name, before := accessObjects()[kind]()
			require.True(t, h.find(name, before))
			changed := before.DeepCopyObject().(client.Object)
			change(changed)
			require.NoError(t, h.api.Update(t.Context(), changed))
			h.step(accessCheckInterval)
			if kind == "token" {
				h.writeToken("the-token")
				h.step(accessCheckInterval)
			}
			_, after := accessObjects()[kind]()
			require.True(t, h.find(name, after))
			for _, obj := range []client.Object{before, after} {
				obj.SetResourceVersion("")
				obj.SetUID("")
			}
			assert.Equal(t, before, after)
			assert.Equal(t, infrastructure.ReasonMetalAPIAccessProvided, h.condition().Reason)
		})
	}
}

func TestMetalAPIAccess_RestoresWhatWasDeleted(t *testing.T) {
	t.Parallel()
	for what, of := range accessObjects() {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			h := newAccessHarness(t)
			h.provide("the-token")
			name, obj := of()
			require.True(t, h.find(name, obj))
			require.NoError(t, h.api.Delete(t.Context(), obj))
			h.step(accessCheckInterval)
			_, again := of()
			require.True(t, h.find(name, again))
			want := "the-token"
			if what == "token" || what == "ServiceAccount" {
				assert.Equal(t, infrastructure.ReasonWaitingForToken, h.condition().Reason)
				want = "another-token"
				h.writeToken(want)
				h.step(accessCheckInterval)
			}
			assert.Equal(t, infrastructure.ReasonMetalAPIAccessProvided, h.condition().Reason)
			assert.Equal(t, want, h.config()["token"])
		})
	}
}

// TestMetalAPIAccess_AdoptsRestoredObjects: Velero restores labels, and no owners.
func TestMetalAPIAccess_AdoptsRestoredObjects(t *testing.T) {
	t.Parallel()
	h := newAccessHarness(t)
	h.provide("the-token")
	for _, of := range accessObjects() {
		name, obj := of()
		require.True(t, h.find(name, obj))
		obj.SetOwnerReferences(nil)
		require.NoError(t, h.api.Update(t.Context(), obj))
	}
	h.step(accessCheckInterval)
	assert.Equal(t, infrastructure.ReasonWaitingForToken, h.condition().Reason, "whose the restored token is, is not known")
	h.writeToken("another-token")
	h.step(accessCheckInterval)
	assert.Equal(t, infrastructure.ReasonMetalAPIAccessProvided, h.condition().Reason)
	assert.Equal(t, "another-token", h.config()["token"])
	cluster := h.cluster()
	for what, of := range accessObjects() {
		name, obj := of()
		require.True(t, h.find(name, obj))
		assert.True(t, isControlledByAccess(cluster, obj), what)
		assert.Len(t, obj.GetOwnerReferences(), 1, what)
	}
}

// A token that a cluster controls, which clusterctl moved without its ServiceAccount.
func TestMetalAPIAccess_MovedTokenIsReplaced(t *testing.T) {
	t.Parallel()
	h := newAccessHarness(t)
	for _, secret := range []*corev1.Secret{
		{
			ObjectMeta: accessMeta(h.cluster(), accessCluster+"-metalapi-token"), Type: corev1.SecretTypeServiceAccountToken,
			Data: map[string][]byte{"token": []byte("of-the-source")},
		},
		{ObjectMeta: accessMeta(h.cluster(), "rose-metal-ccm"), Type: resourceSetSecretType, Data: map[string][]byte{"metal-ccm.yaml": []byte("of the source")}},
	} {
		if secret.Type == corev1.SecretTypeServiceAccountToken {
			secret.Annotations = map[string]string{corev1.ServiceAccountNameKey: accessCluster + "-metalapi", corev1.ServiceAccountUIDKey: "uid-on-the-source"}
		}
		secret.UID = types.UID("moved " + secret.Name)
		require.NoError(t, h.api.Create(t.Context(), secret))
	}
	h.reconcile(accessCluster)
	h.reconcile(accessCluster)
	anew := &corev1.Secret{}
	require.True(t, h.find(accessCluster+"-metalapi-token", anew))
	require.NotEqual(t, types.UID("moved "+anew.Name), anew.UID, "it is made anew")
	require.Empty(t, anew.Data)
	h.writeToken("of-the-target")
	h.step(accessCheckInterval)
	assert.Equal(t, "of-the-target", h.config()["token"])
}

func TestMetalAPIAccess_LeavesForeignObjects(t *testing.T) {
	t.Parallel()
	for what, of := range accessObjects() {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			h := newAccessHarness(t)
			name, foreign := of()
			foreign.SetNamespace(namespace)
			foreign.SetName(name)
			foreign.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "other", UID: "1", Controller: new(true)}})
			require.NoError(t, h.api.Create(t.Context(), foreign))
			h.reconcile(accessCluster)
			h.reconcile(accessCluster)
			if what == "config" {
				h.writeToken("the-token")
				h.step(accessCheckInterval)
			}
			assert.Equal(t, infrastructure.ReasonMetalAPIAccessNameTaken, h.condition().Reason)
			assert.Contains(t, h.condition().Message, " "+name+" already exists and does not belong to this cluster (controlled by ConfigMap other): delete it")
			h.change(func(c *v1alpha4.MetalStackCluster) { c.Spec.MetalAPIAccess = nil })
			h.step(accessCheckInterval)
			_, still := of()
			require.True(t, h.find(name, still))
			assert.Equal(t, foreign, still)
			assert.Empty(t, h.condition())
		})
	}
}

func TestMetalAPIAccess_IsRevokedWithTheField(t *testing.T) {
	t.Parallel()
	h := newAccessHarness(t)
	h.provide("the-token")
	h.change(func(c *v1alpha4.MetalStackCluster) { c.Spec.MetalAPIAccess = nil })
	h.live.refuse = func(verb string, _ client.Object) error {
		if verb == "delete" {
			return apierrors.NewForbidden(corev1.Resource("secrets"), "x", errors.New("not now"))
		}
		return nil
	}
	assert.Equal(t, minAccessRetry, h.step(0))
	assert.Equal(t, infrastructure.ReasonMetalAPIAccessCreationRefused, h.condition().Reason)
	assert.Contains(t, h.condition().Message, "cannot be revoked yet")
	h.live.refuse = nil
	h.step(minAccessRetry)
	for what, of := range accessObjects() {
		assert.False(t, h.find(of()), what)
	}
	assert.Empty(t, h.condition())
	h.live.requests = nil
	h.step(time.Hour)
	assert.Empty(t, h.live.requests)
	assert.True(t, slices.ContainsFunc(h.takeEvents(), func(e string) bool { return strings.Contains(e, EventMetalAPIAccessRevoked) }))
}

// What a controller manager made before it died is found again by the condition.
func TestMetalAPIAccess_ConditionIsWrittenBeforeObjects(t *testing.T) {
	t.Parallel()
	h := newAccessHarness(t)
	h.reconcile(accessCluster)
	assert.Empty(t, h.live.requests)
	assert.Equal(t, infrastructure.ReasonWaitingForToken, h.condition().Reason)
}

func TestMetalAPIAccess_WaitsForItsPrerequisites(t *testing.T) {
	t.Parallel()
	t.Run("allocation", func(t *testing.T) {
		t.Parallel()
		h := newAccessHarness(t, with(v1alpha4.AllocationReleased))
		h.step(0)
		assert.Equal(t, infrastructure.ReasonNotAllocated, h.condition().Reason)
		assert.Empty(t, h.live.requests)
	})
	t.Run("management URL", func(t *testing.T) {
		t.Parallel()
		h := newAccessHarness(t)
		h.r.options.ManagementCluster = ManagementCluster{}
		h.step(0)
		assert.Equal(t, infrastructure.ReasonManagementURLMissing, h.condition().Reason)
		assert.Contains(t, h.condition().Message, "--management-cluster-url")
		assert.Empty(t, h.live.requests)
	})
	t.Run("token", func(t *testing.T) {
		t.Parallel()
		h := newAccessHarness(t)
		h.reconcile(accessCluster)
		var waits []time.Duration
		for range 8 {
			h.reconcile(accessCluster)
			last := h.r.accessChecks.get(requestOf(accessCluster))
			waits = append(waits, last.interval)
			h.clock.SetTime(last.due)
		}
		assert.Equal(t, []time.Duration{1e9, 2e9, 4e9, 8e9, 16e9, 32e9, 60e9, 60e9}, waits)
		assert.False(t, h.find("rose-metal-ccm", &corev1.Secret{}))
	})
}

func TestMetalAPIAccess_EndsWithTheAllocation(t *testing.T) {
	t.Parallel()
	h := newAccessHarness(t)
	h.provide("the-token")
	h.change(func(c *v1alpha4.MetalStackCluster) { c.Status.Allocation.Phase = v1alpha4.AllocationReleased })
	h.step(0)
	assert.Equal(t, infrastructure.ReasonNotAllocated, h.condition().Reason)
	for what, of := range accessObjects() {
		assert.False(t, h.find(of()), what)
	}
}

func TestMetalAPIAccess_FailureHoldsNothingUp(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err    error
		reason string
	}{
		"forbidden": {apierrors.NewForbidden(corev1.Resource("serviceaccounts"), "x", errors.New("no RoleBinding")), infrastructure.ReasonMetalAPIAccessCreationRefused},
		"no such API": {
			&meta.NoKindMatchError{GroupKind: corev1.SchemeGroupVersion.WithKind("ServiceAccount").GroupKind()}, infrastructure.ReasonMetalAPIAccessCreationRefused,
		},
		"no answer": {errAway, infrastructure.ReasonMetalAPIAccessRequestFailed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newAccessHarness(t, func(obj client.Object) {
				obj.(*v1alpha4.MetalStackCluster).Spec.FirewallSpec = &v1alpha4.MetalStackFirewallSpec{Image: "firewall", MachineType: "small"}
			})
			h.reconcile(accessCluster)
			for _, f := range h.firewalls() {
				require.NoError(t, h.api.Delete(t.Context(), &f))
			}
			h.live.refuse = func(string, client.Object) error { return c.err }
			// An error of a reconcile would have controller-runtime ignore when others are due.
			assert.Equal(t, minAccessRetry, h.step(0))
			assert.Equal(t, c.reason, h.condition().Reason)
			assert.Len(t, h.firewalls(), 1, "the firewall is made all the same")
			h.live.requests = nil
			h.step(minAccessRetry / 2)
			assert.Empty(t, h.live.requests)
			assert.Equal(t, 2*minAccessRetry, h.step(minAccessRetry/2))
		})
	}
}

// Access that was there is not said to be there while that cannot be read.
func TestMetalAPIAccess_FailureOfReadsIsInTheCondition(t *testing.T) {
	t.Parallel()
	h := newAccessHarness(t)
	h.provide("the-token")
	h.live.refuse = func(string, client.Object) error { return errAway }
	h.step(accessCheckInterval)
	assert.Equal(t, infrastructure.ReasonMetalAPIAccessRequestFailed, h.condition().Reason)
	assert.Contains(t, strings.ToLower(h.condition().Message), strings.ToLower(errAway.Error()))
	h.live.refuse = nil
	h.step(minAccessRetry)
	assert.Equal(t, infrastructure.ReasonMetalAPIAccessProvided, h.condition().Reason)
}

func TestMetalAPIAccess_UnreadableAuthorityIsInTheCondition(t *testing.T) {
	t.Parallel()
	h := newAccessHarness(t)
	h.provide("the-token")
	h.r.options.ManagementCluster.Authority = func() (string, error) { return "", errors.New("open /etc/ca.crt: permission denied") }
	h.step(accessCheckInterval)
	assert.Equal(t, infrastructure.ReasonAuthorityUnreadable, h.condition().Reason)
	assert.Contains(t, h.condition().Message, "open /etc/ca.crt: permission denied")
}

func TestMetalAPIAccess_RequestsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newAccessHarness(t)
		h.provide("the-token")
		h.live.hang = true
		began := time.Now()
		h.step(accessCheckInterval)
		assert.Equal(t, accessTimeout, time.Since(began))
		assert.Equal(t, infrastructure.ReasonMetalAPIAccessRequestFailed, h.condition().Reason)
		h.change(func(c *v1alpha4.MetalStackCluster) { c.Spec.MetalAPIAccess = nil })
		began = time.Now()
		h.step(0)
		assert.Equal(t, accessTimeout, time.Since(began))
	})
}

// An admission webhook or a proxy sees JSON, in which data of Secrets are base64.
func TestMetalAPIAccess_TokenIsInNoMessage(t *testing.T) {
	t.Parallel()
	quote := func(obj client.Object) string {
		secret := obj.(*corev1.Secret)
		var quoted strings.Builder
		for _, value := range secret.Data {
			fmt.Fprintf(&quoted, "%s %s ", value, base64.StdEncoding.EncodeToString(value))
		}
		return quoted.String()
	}
	refusals := map[string]func(quoted string) error{
		"a webhook that quotes it": func(quoted string) error {
			return apierrors.NewForbidden(corev1.Resource("secrets"), "rose-metal-ccm", errors.New("admission webhook denied: "+quoted))
		},
		"a proxy that quotes it": func(quoted string) error { return apierrors.NewInternalError(errors.New("bad gateway: " + quoted)) },
		"no status":              func(quoted string) error { return errors.New("garbled: " + quoted) },
	}
	for verb, prepare := range map[string]func(h *accessHarness){
		"create": func(h *accessHarness) {
			h.reconcile(accessCluster)
			h.reconcile(accessCluster)
			h.writeToken("the-token")
		},
		"patch": func(h *accessHarness) {
			h.provide("the-token")
			for _, name := range []string{accessCluster + "-metalapi-token", "rose-metal-ccm"} {
				secret := &corev1.Secret{}
				require.True(h.t, h.find(name, secret))
				secret.Labels = nil
				require.NoError(h.t, h.api.Update(h.t.Context(), secret))
			}
		},
		"delete": func(h *accessHarness) {
			h.provide("the-token")
			h.change(func(c *v1alpha4.MetalStackCluster) { c.Spec.MetalAPIAccess = nil })
		},
		"delete for a release": func(h *accessHarness) {
			h.provide("the-token")
			require.NoError(h.t, h.api.Delete(h.t.Context(), h.cluster()))
			h.change(func(c *v1alpha4.MetalStackCluster) { deletedBy(v1alpha4.DeletionByUser)(c) })
		},
	} {
		for name, refusal := range refusals {
			t.Run(verb+" refused by "+name, func(t *testing.T) {
				t.Parallel()
				h := newAccessHarness(t)
				prepare(h)
				h.clock.Step(accessCheckInterval)
				refused := 0
				h.live.refuse = func(did string, obj client.Object) error {
					if _, ok := obj.(*corev1.Secret); ok && strings.HasPrefix(verb, did) {
						refused++
						return refusal(quote(obj))
					}
					return nil
				}
				var logged strings.Builder
				ctx := ctrl.LoggerInto(t.Context(), funcr.New(func(_, args string) { logged.WriteString(args) }, funcr.Options{Verbosity: 9}))
				_, err := h.r.Reconcile(ctx, requestOf(accessCluster))
				require.Positive(t, refused)
				said := fmt.Sprint(err, h.takeEvents(), logged.String())
				if h.exists(clusters, accessCluster) {
					said += fmt.Sprint(h.condition())
				}
				assert.Contains(t, said, "Secret ", "which one it was")
				assert.NotContains(t, said, "the-token")
				assert.NotContains(t, said, base64.StdEncoding.EncodeToString([]byte("the-token")))
				// A manifest in base64 begins with that of "apiVersion".
				assert.NotContains(t, said, base64.StdEncoding.EncodeToString([]byte("apiVersion: v1"))[:16])
			})
		}
	}
}

func TestMetalAPIAccess_IsRevokedBeforeTheRelease(t *testing.T) {
	t.Parallel()
	forbidden := apierrors.NewForbidden(corev1.Resource("secrets"), "x", errors.New("no RoleBinding"))
	for name, c := range map[string]struct {
		failure error
		// retries are how often the release waits for another attempt.
		retries int
	}{
		"":                                 {},
		"although nothing can be deleted":  {errAway, maxRevocations - 1},
		"although it may not be":           {forbidden, 0},
		"although the kinds are not there": {&meta.NoKindMatchError{}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newAccessHarness(t)
			h.provide("the-token")
			require.NoError(t, h.api.Delete(t.Context(), h.cluster()))
			h.change(func(c *v1alpha4.MetalStackCluster) { deletedBy(v1alpha4.DeletionByUser)(c) })
			h.live.refuse = func(verb string, _ client.Object) error {
				if verb == "delete" || meta.IsNoMatchError(c.failure) {
					return c.failure
				}
				return nil
			}
			h.onRelease = func(client.Object) {
				for what, of := range accessObjects() {
					assert.Equal(t, c.failure != nil, h.find(of()), what)
				}
			}
			after := h.step(0)
			for range c.retries {
				require.Positive(t, after)
				require.NotContains(t, h.calls, "release "+accessCluster)
				require.Contains(t, h.condition().Message, "cannot be revoked yet")
				after = h.step(after)
			}
			assert.Contains(t, h.calls, "release "+accessCluster)
			assert.False(t, h.exists(clusters, accessCluster))
		})
	}
}

// One request that fails keeps none of the other objects.
func TestMetalAPIAccess_RevocationTriesEachObject(t *testing.T) {
	t.Parallel()
	for kept := range accessObjects() {
		t.Run(kept, func(t *testing.T) {
			t.Parallel()
			h := newAccessHarness(t)
			h.provide("the-token")
			require.NoError(t, h.api.Delete(t.Context(), h.cluster()))
			h.change(func(c *v1alpha4.MetalStackCluster) { deletedBy(v1alpha4.DeletionByUser)(c) })
			name, like := accessObjects()[kept]()
			h.live.refuse = func(verb string, obj client.Object) error {
				if verb == "delete" && obj.GetName() == name && fmt.Sprintf("%T", obj) == fmt.Sprintf("%T", like) {
					return apierrors.NewInternalError(errAway)
				}
				return nil
			}
			after := h.step(0)
			for what, of := range accessObjects() {
				assert.Equal(t, what == kept, h.find(of()), what)
			}
			h.live.refuse = nil
			h.step(after)
			assert.False(t, h.find(name, like))
			assert.False(t, h.exists(clusters, accessCluster))
		})
	}
}

func TestMetalAPIAccess_IsRevokedAfterAReleaseByHand(t *testing.T) {
	t.Parallel()
	h := newAccessHarness(t)
	h.provide("the-token")
	require.NoError(t, h.api.Delete(t.Context(), h.cluster()))
	h.change(func(c *v1alpha4.MetalStackCluster) { c.Status.Allocation.Phase = v1alpha4.AllocationReleased })
	h.step(0)
	for what, of := range accessObjects() {
		assert.False(t, h.find(of()), what)
	}
	assert.False(t, h.exists(clusters, accessCluster))
}

// A deletion can be held for days, during which a stolen token must be revocable.
func TestMetalAPIAccess_IsRevokedDuringADeletion(t *testing.T) {
	t.Parallel()
	h := newAccessHarness(t)
	h.provide("the-token")
	machine := object(machines, "m", of("rose"))
	require.NoError(t, h.api.Create(t.Context(), machine))
	require.NoError(t, h.api.Delete(t.Context(), h.cluster()))
	h.step(0)
	require.Empty(t, h.live.requests, "it is kept until its machines are gone")
	h.change(func(c *v1alpha4.MetalStackCluster) { c.Spec.MetalAPIAccess = nil })
	h.step(0)
	for what, of := range accessObjects() {
		assert.False(t, h.find(of()), what)
	}
	assert.Empty(t, h.condition())
	assert.NotContains(t, h.calls, "release "+accessCluster)
}

// A Secret that is named after a former Cluster is deleted.
func TestMetalAPIAccess_FollowsTheLabelOfTheCluster(t *testing.T) {
	t.Parallel()
	relabel := func(h *accessHarness) {
		h.change(func(c *v1alpha4.MetalStackCluster) { c.Labels[infrastructure.ClusterNameLabel] = "lily" })
	}
	t.Run("while it is kept", func(t *testing.T) {
		t.Parallel()
		h := newAccessHarness(t)
		h.provide("the-token")
		relabel(h)
		h.step(0)
		assert.False(t, h.find("rose-metal-ccm", &corev1.Secret{}))
		assert.True(t, h.find("lily-metal-ccm", &corev1.Secret{}))
	})
	t.Run("when it is revoked", func(t *testing.T) {
		t.Parallel()
		h := newAccessHarness(t)
		h.provide("the-token")
		relabel(h)
		h.change(func(c *v1alpha4.MetalStackCluster) { c.Spec.MetalAPIAccess = nil })
		failed := false
		h.live.refuse = func(verb string, obj client.Object) error {
			if verb == "delete" && obj.GetName() == "rose-metal-ccm" && !failed {
				failed = true
				return errAway
			}
			return nil
		}
		h.step(h.step(0))
		for what, of := range accessObjects() {
			assert.False(t, h.find(of()), what)
		}
	})
}

// What a cluster is given must not be delivered into the workload cluster of another one.
func TestMetalAPIAccess_IsGivenToTheClusterOfTheLabelOnly(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		owner, infra, says string
	}{
		"Cluster names another one":   {"rose", "other", "spec.infrastructureRef of Cluster rose names MetalStackCluster other"},
		"owned by another Cluster":    {"lily", accessCluster, "names Cluster rose, and the owner is Cluster lily"},
		"Cluster names it":            {"rose", accessCluster, ""},
		"Cluster names it, and label": {"", accessCluster, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newAccessHarness(t)
			owner := &clusterv1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: cmp.Or(c.owner, "rose"), UID: "cluster-uid"}}
			owner.Spec.InfrastructureRef = clusterv1.ContractVersionedObjectReference{APIGroup: v1alpha4.GroupName, Kind: "MetalStackCluster", Name: c.infra}
			require.NoError(t, h.api.Create(t.Context(), owner))
			h.r.options.Standalone = false
			if c.says == "" {
				h.provide("the-token")
			}
			h.change(func(cluster *v1alpha4.MetalStackCluster) {
				if c.owner != "" {
					cluster.OwnerReferences = []metav1.OwnerReference{{APIVersion: clusterv1.GroupVersion.String(), Kind: "Cluster", Name: c.owner, UID: "cluster-uid"}}
				}
			})
			h.step(0)
			h.step(accessCheckInterval)
			if c.says == "" {
				assert.Equal(t, infrastructure.ReasonMetalAPIAccessProvided, h.condition().Reason, h.condition().Message)
				owner.Spec.InfrastructureRef.Name = "other"
				require.NoError(t, h.api.Update(t.Context(), owner))
				h.step(accessCheckInterval)
			}
			assert.Equal(t, infrastructure.ReasonClusterMismatch, h.condition().Reason)
			assert.Contains(t, h.condition().Message, c.says)
			for what, of := range accessObjects() {
				assert.False(t, h.find(of()), what)
			}
			h.live.requests = nil
			h.step(accessCheckInterval)
			assert.Empty(t, h.live.requests)
		})
	}
}

func TestMetalAPIAccess_PausedClusterIsLeft(t *testing.T) {
	t.Parallel()
	h := newAccessHarness(t, annotated(infrastructure.PausedAnnotation))
	h.step(0)
	assert.Empty(t, h.live.requests)
	assert.Empty(t, h.condition())
}

func TestMetalCCMManifest_NamesEachNetworkOnce(t *testing.T) {
	t.Parallel()
	cluster := object(clusters, "rose", withAccess).(*v1alpha4.MetalStackCluster)
	cluster.Spec.PrivateNetworkID = ""
	cluster.Status.Allocation = &v1alpha4.ClusterAllocation{NetworkID: "private-2"}
	cluster.Spec.MetalAPIAccess.AdditionalNetworkIDs = []string{"internet", "mpls", "private-2"}
	inputs := accessInputsOf(cluster, "https://kubernetes.example.org")
	assert.Equal(t, "private-2,internet,mpls", inputs.networks)
	assert.Equal(t, "rose-metal-ccm", inputs.names.config, "without a Cluster, the name is the MetalStackCluster's")
	cluster.Spec.PublicNetworkID, cluster.Spec.MetalAPIAccess.AdditionalNetworkIDs = "", nil
	inputs = accessInputsOf(cluster, "https://kubernetes.example.org")
	manifest, err := metalCCMManifest(inputs, "t", "")
	require.NoError(t, err)
	for _, line := range []string{`additional-networks: private-2`, `default-external-network: ""`, `ca.crt: ""`} {
		assert.Contains(t, string(manifest), line)
	}
	assert.NotContains(t, string(manifest), "null")
}
