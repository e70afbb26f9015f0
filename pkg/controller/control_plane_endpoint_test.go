// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// hosted is a MetalStackCluster whose control plane's provider brings the endpoint.
func hosted(obj client.Object) {
	obj.(*v1alpha4.MetalStackCluster).Spec.ControlPlaneEndpointProvider = v1alpha4.EndpointOfControlPlane
}

// withControlPlane has the Cluster name a KamajiControlPlane.
func withControlPlane(c *clusterv1.Cluster) {
	c.Spec.ControlPlaneRef = clusterv1.ContractVersionedObjectReference{APIGroup: kamajiControlPlane.Group, Kind: kamajiControlPlane.Kind, Name: "c-plane"}
}

// controlPlane is the KamajiControlPlane of Cluster c; nil: without an endpoint.
func controlPlane(endpoint map[string]any) *unstructured.Unstructured {
	obj := &unstructured.Unstructured{}
	obj.SetGroupVersionKind(kamajiControlPlane)
	obj.SetNamespace(namespace)
	obj.SetName("c-plane")
	if endpoint != nil {
		_ = unstructured.SetNestedMap(obj.Object, endpoint, "spec", "controlPlaneEndpoint")
	}
	return obj
}

func (h *harness) endpoint() (v1alpha4.APIEndpoint, metav1.Condition) {
	c := h.get(clusters, "c-infra").(*v1alpha4.MetalStackCluster)
	return c.Spec.ControlPlaneEndpoint, condition(c, infrastructure.ConditionControlPlaneEndpointSet)
}

func TestControlPlaneEndpoint_IsCopiedFromTheControlPlane(t *testing.T) {
	t.Parallel()
	h := newHarness(t, clusters, false, capiCluster(withControlPlane), infraCluster(hosted))
	waits := func(says string) {
		t.Helper()
		require.Equal(t, endpointRequeue, h.reconcile("c-infra").RequeueAfter)
		endpoint, set := h.endpoint()
		require.Zero(t, endpoint)
		require.Equal(t, metav1.ConditionFalse, set.Status)
		require.Equal(t, infrastructure.ReasonWaitingForControlPlane, set.Reason)
		require.Contains(t, set.Message, says)
	}
	waits("KamajiControlPlane c-plane not found")
	plane := controlPlane(nil)
	require.NoError(t, h.api.Create(t.Context(), plane))
	waits("KamajiControlPlane c-plane has no spec.controlPlaneEndpoint yet")
	for _, incomplete := range []map[string]any{{"host": "203.0.113.7"}, {"port": int64(6443)}, {"host": "203.0.113.7", "port": int64(1<<32 + 6443)}} {
		require.NoError(t, unstructured.SetNestedMap(plane.Object, incomplete, "spec", "controlPlaneEndpoint"))
		require.NoError(t, h.api.Update(t.Context(), plane))
		waits("has no spec.controlPlaneEndpoint yet")
	}
	h.takeEvents()

	require.NoError(t, unstructured.SetNestedMap(plane.Object, map[string]any{"host": "203.0.113.7", "port": int64(443)}, "spec", "controlPlaneEndpoint"))
	require.NoError(t, h.api.Update(t.Context(), plane))
	require.Zero(t, h.reconcile("c-infra").RequeueAfter)
	endpoint, set := h.endpoint()
	require.Equal(t, v1alpha4.APIEndpoint{Host: "203.0.113.7", Port: 443}, endpoint)
	require.Equal(t, metav1.ConditionTrue, set.Status)
	require.Equal(t, infrastructure.ReasonEndpointSet, set.Reason)
	require.Contains(t, strings.Join(h.takeEvents(), "\n"), "The control plane is reached at 203.0.113.7:443")

	// What is there is kept, and not asked for again.
	require.NoError(t, h.api.Delete(t.Context(), plane))
	h.reconcile("c-infra")
	endpoint, _ = h.endpoint()
	require.Equal(t, "203.0.113.7", endpoint.Host)
	require.Empty(t, h.takeEvents())
}

func TestControlPlaneEndpoint_IsCopiedFromTheCluster(t *testing.T) {
	t.Parallel()
	h := newHarness(t, clusters, false, infraCluster(hosted), capiCluster(func(c *clusterv1.Cluster) {
		c.Spec.ControlPlaneEndpoint = clusterv1.APIEndpoint{Host: "api.example.org", Port: 443}
	}))
	h.r.live = interceptor.NewClient(h.api.(client.WithWatch), interceptor.Funcs{Get: noRead})
	h.reconcile("c-infra")
	endpoint, set := h.endpoint()
	require.Equal(t, v1alpha4.APIEndpoint{Host: "api.example.org", Port: 443}, endpoint)
	require.Equal(t, metav1.ConditionTrue, set.Status)
}

// A mapper reads once which versions a group has. A new one costs a discovery.
func TestControlPlaneEndpoint_IsFoundWhenTheProviderIsInstalledLater(t *testing.T) {
	t.Parallel()
	h := newHarness(t, clusters, false, capiCluster(withControlPlane), infraCluster(hosted), controlPlane(map[string]any{"host": "203.0.113.7", "port": int64(6443)}))
	made, installed := 0, false
	h.r.newMapper = func() (meta.RESTMapper, error) {
		made++
		if !installed {
			return meta.NewDefaultRESTMapper(nil), nil
		}
		return h.api.RESTMapper(), nil
	}
	for range 6 {
		require.Equal(t, fallbackRequeue, h.reconcile("c-infra").RequeueAfter)
		_, set := h.endpoint()
		require.Contains(t, set.Message, "KamajiControlPlane c-plane not found: its kind is not served")
		h.clock.Step(fallbackRequeue / 4)
	}
	require.Equal(t, 2, made, "once a minute")
	installed = true
	h.clock.Step(fallbackRequeue)
	h.reconcile("c-infra")
	endpoint, _ := h.endpoint()
	require.Equal(t, "203.0.113.7", endpoint.Host)
	require.Equal(t, 3, made)
}

func TestKindMapper_IsSharedAndMadeOnceAMinute(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	made, m := 0, &kindMapper{}
	broken := true
	newMapper := func() (meta.RESTMapper, error) {
		made++
		if broken {
			return nil, errAway
		}
		mapper := meta.NewDefaultRESTMapper([]schema.GroupVersion{kamajiControlPlane.GroupVersion()})
		mapper.Add(kamajiControlPlane, meta.RESTScopeNamespace)
		return mapper, nil
	}
	_, err := m.mapping(now, newMapper, kamajiControlPlane.GroupKind())
	require.ErrorIs(t, err, errAway)
	_, err = m.mapping(now, newMapper, kamajiControlPlane.GroupKind())
	require.ErrorIs(t, err, errNoMapper)
	require.Equal(t, 1, made)
	broken = false
	now = now.Add(fallbackRequeue)
	_, err = m.mapping(now, newMapper, kamajiControlPlane.GroupKind())
	require.NoError(t, err)
	for _, kind := range []string{"A", "B", "A"} {
		_, err = m.mapping(now, newMapper, schema.GroupKind{Group: controlPlaneGroup, Kind: kind})
		require.True(t, meta.IsNoMatchError(err), err)
	}
	require.Equal(t, 2, made, "kinds that do not exist share it")
	_, err = m.mapping(now, newMapper, kamajiControlPlane.GroupKind())
	require.NoError(t, err)
}

// noRead fails every read of a control plane.
func noRead(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	if gvk := obj.GetObjectKind().GroupVersionKind(); gvk.Group == controlPlaneGroup {
		return apierrors.NewForbidden(schema.GroupResource{Group: gvk.Group, Resource: "kamajicontrolplanes"}, key.Name, errors.New("no right"))
	}
	return c.Get(ctx, key, obj, opts...)
}

func TestControlPlaneEndpoint_SaysWhyItCannotBeCopied(t *testing.T) {
	t.Parallel()
	complete := controlPlane(map[string]any{"host": "203.0.113.7", "port": int64(6443)})
	for name, test := range map[string]struct {
		cluster *clusterv1.Cluster
		funcs   interceptor.Funcs
		says    string
		// after is when it is tried again, fallbackRequeue if zero.
		after time.Duration
	}{
		"no right": {
			cluster: capiCluster(withControlPlane), funcs: interceptor.Funcs{Get: noRead},
			says: "KamajiControlPlane c-plane cannot be read: allow the controller manager to get its kind",
		},
		"no control plane": {cluster: capiCluster(), says: "names no kind of the group controlplane.cluster.x-k8s.io"},
		// The controller manager may read Secrets of the namespace.
		"a Secret for a control plane": {
			cluster: capiCluster(func(c *clusterv1.Cluster) {
				c.Spec.ControlPlaneRef = clusterv1.ContractVersionedObjectReference{Kind: "Secret", Name: "c-kubeconfig"}
			}),
			says: "names no kind of the group controlplane.cluster.x-k8s.io",
		},
		"a kind that is not installed": {
			cluster: capiCluster(func(c *clusterv1.Cluster) {
				c.Spec.ControlPlaneRef = clusterv1.ContractVersionedObjectReference{APIGroup: controlPlaneGroup, Kind: "OtherControlPlane", Name: "other"}
			}),
			says: "OtherControlPlane other not found: its kind is not served",
		},
		"no Cluster": {says: "set spec.controlPlaneEndpoint", after: -1},
		"not written": {
			cluster: capiCluster(withControlPlane),
			funcs: interceptor.Funcs{Patch: func(ctx context.Context, c client.WithWatch, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
				if infra, ok := obj.(*v1alpha4.MetalStackCluster); ok && infra.Spec.ControlPlaneEndpoint.Host != "" {
					return apierrors.NewInternalError(errors.New("a webhook fails"))
				}
				return c.Patch(ctx, obj, patch, opts...)
			}},
			says: "The endpoint of KamajiControlPlane c-plane cannot be written", after: endpointRequeue,
		},
		"refused": {
			cluster: capiCluster(withControlPlane),
			funcs: interceptor.Funcs{Patch: func(ctx context.Context, c client.WithWatch, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
				if infra, ok := obj.(*v1alpha4.MetalStackCluster); ok && infra.Spec.ControlPlaneEndpoint.Host != "" {
					return apierrors.NewInvalid(infrastructure.Kind("MetalStackCluster"), obj.GetName(), nil)
				}
				return c.Patch(ctx, obj, patch, opts...)
			}},
			says: "The endpoint of KamajiControlPlane c-plane was refused",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, clusters, false, infraCluster(hosted, withFirewall), complete.DeepCopy())
			if test.cluster != nil {
				require.NoError(t, h.api.Create(t.Context(), test.cluster))
			}
			broken := interceptor.NewClient(h.api.(client.WithWatch), test.funcs)
			h.r.live, h.r.cached = broken, broken
			after := h.reconcile("c-infra").RequeueAfter
			require.Len(t, h.firewalls(), 1, "firewalls do not wait for it")
			if test.after < 0 {
				require.Zero(t, after)
			} else {
				require.Equal(t, cmp.Or(test.after, fallbackRequeue), after)
			}
			endpoint, set := h.endpoint()
			require.Zero(t, endpoint)
			require.Equal(t, infrastructure.ReasonWaitingForControlPlane, set.Reason)
			require.Contains(t, set.Message, test.says)
		})
	}
}

// Another client's endpoint, which the cache does not show yet, is not overwritten.
func TestControlPlaneEndpoint_OfAnotherClientIsKept(t *testing.T) {
	t.Parallel()
	h := newHarness(t, clusters, false, capiCluster(withControlPlane), infraCluster(hosted), controlPlane(map[string]any{"host": "203.0.113.7", "port": int64(6443)}))
	set := false
	h.r.live = interceptor.NewClient(h.api.(client.WithWatch), interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			if obj.GetObjectKind().GroupVersionKind() == kamajiControlPlane && !set {
				set = true
				infra := h.get(clusters, "c-infra").(*v1alpha4.MetalStackCluster)
				infra.Spec.ControlPlaneEndpoint = v1alpha4.APIEndpoint{Host: "api.example.org", Port: 443}
				require.NoError(t, h.api.Update(ctx, infra))
			}
			return c.Get(ctx, key, obj, opts...)
		},
	})
	require.Equal(t, endpointRequeue, h.reconcile("c-infra").RequeueAfter)
	h.reconcile("c-infra")
	endpoint, _ := h.endpoint()
	require.Equal(t, "api.example.org", endpoint.Host)
}

func TestControlPlaneEndpoint_HoldsNothingUp(t *testing.T) {
	t.Parallel()
	h := newHarness(t, clusters, false, capiCluster(withControlPlane), infraCluster(hosted, withFirewall))
	h.reconcile("c-infra")
	require.Len(t, h.firewalls(), 1, "the firewall is there before the endpoint")
}

func withFirewall(obj client.Object) {
	obj.(*v1alpha4.MetalStackCluster).Spec.FirewallSpec = &v1alpha4.MetalStackFirewallSpec{Image: "i", MachineType: "t"}
}

// The load balancer of a control plane may get another address before it is initialized.
func TestControlPlaneEndpoint_ThatHoldsNoLongerIsReported(t *testing.T) {
	t.Parallel()
	owner, plane := capiCluster(withControlPlane), controlPlane(map[string]any{"host": "203.0.113.7", "port": int64(6443)})
	h := newHarness(t, clusters, false, owner, infraCluster(hosted), plane)
	h.reconcile("c-infra")
	require.Equal(t, fallbackRequeue, h.reconcile("c-infra").RequeueAfter)
	_, set := h.endpoint()
	require.Equal(t, metav1.ConditionTrue, set.Status)

	require.NoError(t, unstructured.SetNestedField(plane.Object, "203.0.113.8", "spec", "controlPlaneEndpoint", "host"))
	require.NoError(t, h.api.Update(t.Context(), plane))
	require.Equal(t, fallbackRequeue, h.reconcile("c-infra").RequeueAfter)
	endpoint, set := h.endpoint()
	require.Equal(t, "203.0.113.7", endpoint.Host, "it is not changed")
	require.Equal(t, metav1.ConditionFalse, set.Status)
	require.Equal(t, infrastructure.ReasonEndpointDiffers, set.Reason)
	require.Contains(t, set.Message, "spec.controlPlaneEndpoint is 203.0.113.7:6443, and KamajiControlPlane c-plane has 203.0.113.8:6443")

	owner.Spec.ControlPlaneEndpoint = clusterv1.APIEndpoint{Host: "203.0.113.7", Port: 6443}
	require.NoError(t, h.api.Update(t.Context(), owner))
	require.Zero(t, h.reconcile("c-infra").RequeueAfter)
	_, set = h.endpoint()
	require.Equal(t, infrastructure.ReasonEndpointSet, set.Reason, "the Cluster's endpoint holds")
}

func TestControlPlaneEndpoint_OfOtherClustersIsNotLookedFor(t *testing.T) {
	t.Parallel()
	plane := controlPlane(map[string]any{"host": "203.0.113.7", "port": int64(6443)})
	for name, infra := range map[string]metalObject{
		"allocates its own": infraCluster(),
		"paused":            infraCluster(hosted, annotated(infrastructure.PausedAnnotation)),
		"not allocated":     infraCluster(hosted, with(v1alpha4.AllocationReleased)),
		"being deleted":     infraCluster(hosted, deleted),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, clusters, false, capiCluster(withControlPlane), infra, plane.DeepCopy())
			if name == "being deleted" {
				h.refuse = refusalOf("c-infra", "no")
			}
			_, _ = h.r.Reconcile(t.Context(), requestOf("c-infra"))
			c := h.get(clusters, "c-infra").(*v1alpha4.MetalStackCluster)
			require.Zero(t, c.Spec.ControlPlaneEndpoint)
			require.Nil(t, meta.FindStatusCondition(c.Status.Conditions, infrastructure.ConditionControlPlaneEndpointSet))
		})
	}
}
