// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

const namespace = "tenant"

// harness is a reconciler with an API in memory, and a subresource that notes
// its calls and answers as configured.
type harness struct {
	t     *testing.T
	api   client.Client
	clock *clocktesting.FakeClock
	r     *reconciler

	events *events.FakeRecorder

	calls      []string
	requests   []*v1alpha4.Allocation
	refuse     error
	onAllocate func(client.Object)
	onRelease  func(client.Object)
}

func newHarness(t *testing.T, k kind, standalone bool, objects ...client.Object) *harness {
	t.Helper()
	scheme, err := NewScheme()
	require.NoError(t, err)
	h := &harness{
		t: t,
		api: fake.NewClientBuilder().WithScheme(scheme).WithRESTMapper(mapperOf(scheme)).WithObjects(objects...).
			WithStatusSubresource(clusters.object(), machines.object(), firewalls.object(), networks.object(), ips.object(), &clusterv1.Cluster{}).Build(),
		clock:  clocktesting.NewFakeClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)),
		events: events.NewFakeRecorder(1000),
	}
	options := NewOptions()
	options.Standalone = standalone
	h.use(k, options)
	return h
}

// kamajiControlPlane is a kind of hosted control plane, which is no type of ours.
var kamajiControlPlane = schema.GroupVersionKind{Group: controlPlaneGroup, Version: "v1alpha2", Kind: "KamajiControlPlane"}

// mapperOf knows the kinds of a scheme, and kamajiControlPlane, all of them namespaced.
func mapperOf(scheme *runtime.Scheme) meta.RESTMapper {
	mapper := meta.NewDefaultRESTMapper([]schema.GroupVersion{clusterv1.GroupVersion, kamajiControlPlane.GroupVersion()})
	mapper.Add(kamajiControlPlane, meta.RESTScopeNamespace)
	for gvk := range scheme.AllKnownTypes() {
		mapper.Add(gvk, meta.RESTScopeNamespace)
	}
	return mapper
}

// use makes the harness's reconciler one of another kind, or with other options.
func (h *harness) use(k kind, options Options) {
	h.r = newReconciler(k, options)
	h.r.cached, h.r.live, h.r.allocations = h.api, h.api, h
	h.r.newMapper = func() (meta.RESTMapper, error) { return h.api.RESTMapper(), nil }
	h.r.recorder, h.r.clock, h.r.states = h.events, h.clock, newObjectStates(h.clock)
}

func (h *harness) allocate(ctx context.Context, k kind, obj metalObject, a *v1alpha4.Allocation) (metalObject, error) {
	h.calls = append(h.calls, "allocate "+obj.GetName())
	h.requests = append(h.requests, a)
	if h.refuse != nil {
		return nil, h.refuse
	}
	return h.answer(ctx, k, obj, v1alpha4.AllocationAllocated, h.onAllocate)
}

func (h *harness) release(ctx context.Context, k kind, obj metalObject) (metalObject, error) {
	h.calls = append(h.calls, "release "+obj.GetName())
	if h.refuse != nil {
		return nil, h.refuse
	}
	return h.answer(ctx, k, obj, v1alpha4.AllocationReleased, h.onRelease)
}

func (h *harness) answer(ctx context.Context, k kind, obj client.Object, phase v1alpha4.AllocationPhase, before func(client.Object)) (metalObject, error) {
	fresh := k.object()
	require.NoError(h.t, h.api.Get(ctx, client.ObjectKeyFromObject(obj), fresh))
	with(phase)(fresh)
	if before != nil {
		before(fresh)
	}
	require.NoError(h.t, h.api.Status().Update(ctx, fresh))
	return fresh, nil
}

// update writes an object as it is, status and all.
func (h *harness) update(obj client.Object) {
	h.t.Helper()
	status := obj.DeepCopyObject().(client.Object)
	require.NoError(h.t, h.api.Update(h.t.Context(), obj))
	status.SetResourceVersion(obj.GetResourceVersion())
	require.NoError(h.t, h.api.Status().Update(h.t.Context(), status))
	obj.SetResourceVersion(status.GetResourceVersion())
}

// get returns an object as it is now.
func (h *harness) get(k kind, name string) metalObject {
	h.t.Helper()
	obj := k.object()
	require.NoError(h.t, h.api.Get(h.t.Context(), requestOf(name).NamespacedName, obj))
	return obj
}

// firewalls are the MetalStackFirewalls that exist.
func (h *harness) firewalls() []v1alpha4.MetalStackFirewall {
	h.t.Helper()
	list := &v1alpha4.MetalStackFirewallList{}
	require.NoError(h.t, h.api.List(h.t.Context(), list))
	return list.Items
}

// takeEvents returns the Events since the last call.
func (h *harness) takeEvents() []string {
	var recorded []string
	for {
		select {
		case event := <-h.events.Events:
			recorded = append(recorded, event)
		default:
			return recorded
		}
	}
}

func (h *harness) reconcile(name string) ctrl.Result {
	h.t.Helper()
	result, err := h.r.Reconcile(h.t.Context(), requestOf(name))
	require.NoError(h.t, err)
	return result
}

func (h *harness) exists(k kind, name string) bool {
	h.t.Helper()
	err := h.api.Get(h.t.Context(), requestOf(name).NamespacedName, k.object())
	require.NoError(h.t, client.IgnoreNotFound(err))
	return err == nil
}

func requestOf(name string) ctrl.Request {
	return ctrl.Request{NamespacedName: types.NamespacedName{Namespace: namespace, Name: name}}
}

// object makes one of a kind, with our finalizer, as the server would.
func object(k kind, name string, changes ...func(client.Object)) metalObject {
	obj := k.object()
	obj.SetName(name)
	obj.SetNamespace(namespace)
	obj.SetUID(types.UID("uid-of-" + name))
	obj.SetFinalizers([]string{k.finalizer})
	for _, change := range changes {
		change(obj)
	}
	return obj
}

func with(phase v1alpha4.AllocationPhase) func(client.Object) {
	state := v1alpha4.AllocationState{Phase: phase}
	return func(obj client.Object) {
		switch o := obj.(type) {
		case *v1alpha4.MetalStackCluster:
			o.Status.Allocation = &v1alpha4.ClusterAllocation{AllocationState: state}
		case *v1alpha4.MetalStackMachine:
			o.Status.Allocation = &v1alpha4.MachineAllocation{AllocationState: state}
		case *v1alpha4.MetalStackFirewall:
			o.Status.Allocation = &v1alpha4.MachineAllocation{AllocationState: state}
		case *v1alpha4.MetalStackNetwork:
			o.Status.Allocation = &v1alpha4.NetworkAllocation{AllocationState: state}
		case *v1alpha4.MetalStackIP:
			o.Status.Allocation = &v1alpha4.IPAllocation{AllocationState: state}
		}
	}
}

func notBefore(t time.Time) func(client.Object) {
	return func(obj client.Object) {
		m := obj.(*v1alpha4.MetalStackMachine)
		m.Status.Allocation = &v1alpha4.MachineAllocation{AllocationState: v1alpha4.AllocationState{
			Phase: v1alpha4.AllocationAllocating, NotBefore: &metav1.Time{Time: t},
		}}
	}
}

func of(cluster string) func(client.Object) {
	return labelled(infrastructure.ClusterNameLabel, cluster)
}

func labelled(key, value string) func(client.Object) {
	return func(obj client.Object) { obj.SetLabels(map[string]string{key: value}) }
}

func annotated(key string) func(client.Object) {
	return func(obj client.Object) { obj.SetAnnotations(map[string]string{key: ""}) }
}

func owned(apiVersion, kind string) func(client.Object) {
	return func(obj client.Object) {
		obj.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: apiVersion, Kind: kind, Name: "owner", UID: "1"}})
	}
}

// deleted is an object that a person or a controller deleted.
func deleted(obj client.Object) {
	now := metav1.Now()
	obj.SetDeletionTimestamp(&now)
	deletedBy(v1alpha4.DeletionByUser)(obj)
}

// deletedBy is what the server records of who deleted an object; nothing if it is
// of a version that did not.
func deletedBy(requester v1alpha4.DeletionRequester) func(client.Object) {
	var deletion *v1alpha4.Deletion
	if requester != "" {
		deletion = &v1alpha4.Deletion{RequestedBy: requester}
	}
	return func(obj client.Object) {
		switch o := obj.(type) {
		case *v1alpha4.MetalStackCluster:
			o.Status.Deletion = deletion
		case *v1alpha4.MetalStackMachine:
			o.Status.Deletion = deletion
		case *v1alpha4.MetalStackFirewall:
			o.Status.Deletion = deletion
		}
	}
}

func withoutOurFinalizer(obj client.Object) { obj.SetFinalizers([]string{"example.org/other"}) }

// drop takes an object away, as if its own reconciler had let it go.
func (h *harness) drop(k kind, name string) error {
	obj := k.object()
	if err := h.api.Get(h.t.Context(), requestOf(name).NamespacedName, obj); err != nil {
		return err
	}
	obj.SetFinalizers(nil)
	if err := h.api.Update(h.t.Context(), obj); err != nil {
		return err
	}
	return h.api.Delete(h.t.Context(), obj)
}

// unreachable is a server that does not answer.
type unreachable struct{ client.Client }

func (unreachable) List(context.Context, client.ObjectList, ...client.ListOption) error {
	return errAway
}

type brokenCache struct{ client.Client }

func (brokenCache) Get(context.Context, client.ObjectKey, client.Object, ...client.GetOption) error {
	return errAway
}

// staleCache shows a machine as it was.
type staleCache struct {
	client.Client
	machine *v1alpha4.MetalStackMachine
}

func (c staleCache) Get(_ context.Context, _ client.ObjectKey, obj client.Object, _ ...client.GetOption) error {
	c.machine.DeepCopyInto(obj.(*v1alpha4.MetalStackMachine))
	return nil
}

// refusalOf is the answer of a server to a call that the metal-api refused, in its
// words, without naming a field.
func refusalOf(name, words string) error {
	return refusalsOf(name, field.Forbidden(field.NewPath("status", "allocation"), words))
}

// refusalsOf is the answer of a server that refuses fields.
func refusalsOf(name string, fields ...*field.Error) error {
	return apierrors.NewInvalid(infrastructure.Kind("MetalStackMachine"), name, fields)
}

func jsonOf(obj client.Object) (string, error) {
	written, err := json.Marshal(obj)
	return string(written), err
}
