// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"

	authenticationv1 "k8s.io/api/authentication/v1"
)

// workloadHarness is an accessHarness beside a workload cluster in memory, with firewall f of
// the cluster, whose host is f-host.
type workloadHarness struct {
	*accessHarness
	w        *workloadReconciler
	workload client.Client
	// refuse answers requests to the workload cluster with an error.
	refuse func(verb string, obj client.Object) error
	// refuseApply answers requests that apply an object of a name.
	refuseApply func(name string) error
	// hang has no request answered.
	hang bool
	// requests are what the workload cluster was asked.
	requests []string
	tokens   int
}

func newWorkloadHarness(t *testing.T, changes ...func(client.Object)) *workloadHarness {
	t.Helper()
	h := &workloadHarness{accessHarness: newFirewallAccessHarness(t, changes...)}
	scheme, mapper, err := workloadKinds()
	require.NoError(t, err)
	// The client in memory knows no kind by its name alone.
	for _, kind := range []schema.GroupVersionKind{monitorKind, definitionKind, policyKind} {
		scheme.AddKnownTypeWithName(kind, &unstructured.Unstructured{})
		scheme.AddKnownTypeWithName(kind.GroupVersion().WithKind(kind.Kind+"List"), &unstructured.UnstructuredList{})
	}
	note := func(verb string, obj client.Object) error {
		h.requests = append(h.requests, verb+" "+obj.GetName())
		if h.refuse == nil {
			return nil
		}
		return h.refuse(verb, obj)
	}
	h.workload = fake.NewClientBuilder().WithScheme(scheme).WithRESTMapper(mapper).WithReturnManagedFields().Build()
	api := interceptor.NewClient(h.workload.(client.WithWatch), interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			if h.hang {
				<-ctx.Done()
				return ctx.Err()
			}
			obj.SetName(key.Name)
			if err := note("get", obj); err != nil {
				return err
			}
			return c.Get(ctx, key, obj, opts...)
		},
		Create: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.CreateOption) error {
			if err := note("create", obj); err != nil {
				return err
			}
			return c.Create(ctx, obj, opts...)
		},
		Apply: func(ctx context.Context, c client.WithWatch, obj runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
			if h.refuseApply != nil {
				if err := h.refuseApply(obj.(interface{ GetName() string }).GetName()); err != nil {
					return err
				}
			}
			return c.Apply(ctx, obj, opts...)
		},
		Delete: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.DeleteOption) error {
			if err := note("delete", obj); err != nil {
				return err
			}
			return c.Delete(ctx, obj, opts...)
		},
		SubResourceCreate: func(_ context.Context, _ client.Client, _ string, obj, request client.Object, _ ...client.SubResourceCreateOption) error {
			if err := note("token", obj); err != nil {
				return err
			}
			h.tokens++
			token := request.(*authenticationv1.TokenRequest)
			token.Status.Token = "issued-" + string(rune('0'+h.tokens))
			token.Status.ExpirationTimestamp = metav1.NewTime(h.clock.Now().Add(time.Duration(*token.Spec.ExpirationSeconds) * time.Second))
			return nil
		},
	})
	h.r.workload = newWorkloadStates()
	h.w, err = newWorkloadReconciler(h.r)
	require.NoError(t, err)
	h.w.connections.open = func(kubeconfig []byte) (*workloadConnection, error) {
		config, err := workloadConfig(kubeconfig)
		if err != nil {
			return nil, err
		}
		return &workloadConnection{api: &workloadAPI{api, config.Host, config.ServerName, config.CAData}, close: func() {}}, nil
	}
	f := object(firewalls, "f", of("rose"), with(v1alpha4.AllocationAllocated), func(obj client.Object) {
		f := obj.(*v1alpha4.MetalStackFirewall)
		f.Spec = *h.cluster().Spec.FirewallSpec.DeepCopy()
		f.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(h.cluster(), v1alpha4.SchemeGroupVersion.WithKind(clusters.kind))}
		f.Status.Metal = &v1alpha4.Metal{
			MachineID: "machine-1", Hostname: "f-host", Size: "small", Image: "firewall-1", Partition: "fra-01", Project: "project-1",
			Networks: []v1alpha4.MetalNetwork{{ID: "private-1"}, {ID: "internet"}},
		}
		f.Status.ManagementAccess = &v1alpha4.FirewallManagementAccess{URL: "https://kubernetes.example.org:6443", ServiceAccountUID: "made-1"}
	})
	status := f.DeepCopyObject().(client.Object)
	require.NoError(t, h.api.Create(t.Context(), f))
	status.SetResourceVersion(f.GetResourceVersion())
	require.NoError(t, h.api.Status().Update(t.Context(), status))
	return h
}

const workloadKubeconfigText = `apiVersion: v1
kind: Config
current-context: admin
clusters:
- name: rose
  cluster: {server: "https://10.0.0.1:6443", certificate-authority-data: dGhlIGF1dGhvcml0eQ==}
users:
- name: admin
  user: {token: the-admins-token}
contexts:
- name: admin
  context: {cluster: rose, user: admin}
`

func (h *workloadHarness) writeKubeconfig(text string) {
	h.t.Helper()
	require.NoError(h.t, h.api.Create(h.t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "rose-kubeconfig"}, Data: map[string][]byte{"value": []byte(text)},
	}))
}

// visit reconciles the workload cluster, and the cluster after it.
func (h *workloadHarness) visit(d time.Duration) time.Duration {
	h.t.Helper()
	h.clock.Step(d)
	h.requests = nil
	result, err := h.w.Reconcile(h.t.Context(), requestOf(accessCluster))
	require.NoError(h.t, err)
	h.reconcile(accessCluster)
	return result.RequeueAfter
}

// newConnectedHarness is a workloadHarness with everything there.
func newConnectedHarness(t *testing.T, changes ...func(client.Object)) *workloadHarness {
	t.Helper()
	h := newWorkloadHarness(t, changes...)
	h.provideFirewallAccess("the-token")
	h.writeKubeconfig(workloadKubeconfigText)
	h.visit(0)
	return h
}

func (h *workloadHarness) firewall() *v1alpha4.MetalStackFirewall {
	h.t.Helper()
	return h.get(firewalls, "f").(*v1alpha4.MetalStackFirewall)
}

func (h *workloadHarness) changeFirewall(change func(*v1alpha4.MetalStackFirewall)) {
	h.t.Helper()
	f := h.firewall()
	change(f)
	h.update(f)
}

// inWorkload is whether the workload cluster has an object.
func (h *workloadHarness) inWorkload(obj client.Object, namespace, name string) bool {
	h.t.Helper()
	err := h.workload.Get(h.t.Context(), types.NamespacedName{Namespace: namespace, Name: name}, obj)
	require.NoError(h.t, client.IgnoreNotFound(err))
	return err == nil
}

func (h *workloadHarness) monitor() *unstructured.Unstructured {
	h.t.Helper()
	m := &unstructured.Unstructured{}
	m.SetGroupVersionKind(monitorKind)
	require.True(h.t, h.inWorkload(m, "firewall", "f-host"))
	return m
}

// report does what a firewall-controller does.
func (h *workloadHarness) report(status map[string]any) {
	h.t.Helper()
	m := h.monitor()
	m.Object["controllerStatus"] = status
	require.NoError(h.t, h.workload.Update(h.t.Context(), m))
}

// at is a time as in a report.
func (h *workloadHarness) at(ago time.Duration) string {
	return h.clock.Now().Add(-ago).UTC().Format(time.RFC3339)
}
