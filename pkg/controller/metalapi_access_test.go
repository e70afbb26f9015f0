// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

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
		assert.True(t, newMetalAPIAccess(nil).controls(cluster, obj), what)
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
	inputs := metalCCMInputsOf(cluster, "https://kubernetes.example.org")
	assert.Equal(t, "private-2,internet,mpls", inputs.networks)
	assert.Equal(t, "rose-metal-ccm", inputs.config, "without a Cluster, the name is the MetalStackCluster's")
	cluster.Spec.PublicNetworkID, cluster.Spec.MetalAPIAccess.AdditionalNetworkIDs = "", nil
	inputs = metalCCMInputsOf(cluster, "https://kubernetes.example.org")
	manifest, err := metalCCMManifest(inputs, "t", "")
	require.NoError(t, err)
	for _, line := range []string{`additional-networks: private-2`, `default-external-network: ""`, `ca.crt: ""`} {
		assert.Contains(t, string(manifest), line)
	}
	assert.NotContains(t, string(manifest), "null")
}
