// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"metal-stack.io/infrastructure-apiserver/generated/clientset/versioned"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/testserver"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// capiEnvironment is the whole server with a simulated data centre, beside a
// Cluster API whose controllers are played: its objects are in memory.
type capiEnvironment struct {
	t      *testing.T
	server *testserver.Server
	// api serves ours from the server and everything else from memory.
	api splitClient
	// crashes, if there is one, kills the controller manager.
	crashes     *crashInjector
	options     Options
	reconcilers []*reconciler
	events      *events.FakeRecorder
}

const team = testserver.NamespaceA

func newCAPIEnvironment(t *testing.T, configure ...func(*apiserver.Config)) *capiEnvironment {
	t.Helper()
	s := testserver.Start(t, testserver.Options{Simulator: simulator.Config{Speed: 400}, Configure: func(config *apiserver.Config) {
		for _, change := range configure {
			change(config)
		}
	}})
	scheme, err := NewScheme()
	require.NoError(t, err)
	memory := fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&clusterv1.Cluster{}, &clusterv1.Machine{}).Build()
	w := &capiEnvironment{t: t, server: s, api: splitClient{apiOf(t, s), memory, mapperOf(scheme)}, options: NewOptions()}
	w.options.LoadBalancerGracePeriod = time.Millisecond
	w.restart()
	return w
}

// restart starts a controller manager that remembers nothing.
func (w *capiEnvironment) restart() {
	w.t.Helper()
	clients, err := versioned.NewForConfig(w.server.Config)
	require.NoError(w.t, err)
	w.events = events.NewFakeRecorder(10_000)
	w.reconcilers = nil
	for _, k := range []kind{clusters, machines, firewalls} {
		r := newReconciler(k, w.options)
		r.cached, r.live, r.recorder = w.api, w.api, w.events
		r.allocations = restAllocationClient{clients.InfrastructureV1alpha4().RESTClient()}
		if w.crashes != nil {
			r.cached, r.live, r.allocations = crashingClient{w.api, w.crashes}, crashingClient{w.api, w.crashes}, crashingAllocations{r.allocations, w.crashes}
		}
		r.clock, r.backoff = clock.RealClock{}, newBackoff(clock.RealClock{})
		w.reconcilers = append(w.reconcilers, r)
	}
}

// reconcileUntil lets the controller manager and Cluster API work until something is so. The data
// centre lives meanwhile, some hundred times as fast as real hardware, so time has to pass.
func (w *capiEnvironment) reconcileUntil(what string, so func() bool) {
	w.t.Helper()
	var last error
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if so() {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("not within %s: %s; last error: %v", patience, what, last)
		}
		w.playClusterAPI()
		for _, r := range w.reconcilers {
			list := r.kind.list()
			require.NoError(w.t, w.api.List(w.t.Context(), list, client.InNamespace(team)))
			require.NoError(w.t, meta.EachListItem(list, func(item runtime.Object) error {
				key := client.ObjectKeyFromObject(item.(client.Object))
				if _, err := r.Reconcile(w.t.Context(), ctrl.Request{NamespacedName: key}); err != nil {
					last = err
				}
				return nil
			}))
			if w.crashes != nil && w.crashes.crashed {
				w.crashes.restart()
				w.restart()
				break
			}
		}
	}
}

// playClusterAPI does what Cluster API's controllers do with our objects: own
// them, mirror what is provisioned, and delete them before what owns them.
func (w *capiEnvironment) playClusterAPI() {
	ctx := w.t.Context()
	machines := &clusterv1.MachineList{}
	require.NoError(w.t, w.api.List(ctx, machines))
	for i := range machines.Items {
		m := &machines.Items[i]
		infra := &v1alpha4.MetalStackMachine{ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: m.Spec.InfrastructureRef.Name}}
		if w.setOwner(m, "Machine", infra) || m.DeletionTimestamp == nil {
			continue
		}
		m.Finalizers = nil
		require.NoError(w.t, w.api.memory.Update(ctx, m))
	}
	clusters := &clusterv1.ClusterList{}
	require.NoError(w.t, w.api.List(ctx, clusters))
	for i := range clusters.Items {
		c := &clusters.Items[i]
		infra := &v1alpha4.MetalStackCluster{ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: c.Spec.InfrastructureRef.Name}}
		if c.DeletionTimestamp != nil && len(machines.Items) > 0 {
			for i := range machines.Items {
				require.NoError(w.t, client.IgnoreNotFound(w.api.memory.Delete(ctx, &machines.Items[i])))
			}
			continue
		}
		switch there := w.setOwner(c, "Cluster", infra); {
		case !there && c.DeletionTimestamp != nil:
			c.Finalizers = nil
			require.NoError(w.t, w.api.memory.Update(ctx, c))
		case there && isProvisioned(infra) && c.Status.Initialization.InfrastructureProvisioned == nil:
			c.Status.Initialization.InfrastructureProvisioned = ptr.To(true)
			require.NoError(w.t, w.api.memory.Status().Update(ctx, c))
		}
	}
}

// setOwner makes an object of ours Cluster API's; false if it is not there.
func (w *capiEnvironment) setOwner(owner client.Object, kind string, obj client.Object) bool {
	ctx := w.t.Context()
	err := w.api.Get(ctx, client.ObjectKeyFromObject(obj), obj)
	if apierrors.IsNotFound(err) {
		return false
	}
	require.NoError(w.t, err)
	if owner.GetDeletionTimestamp() != nil && obj.GetDeletionTimestamp() == nil {
		require.NoError(w.t, w.api.Delete(ctx, obj))
	}
	if metav1.IsControlledBy(obj, owner) {
		return true
	}
	before := obj.DeepCopyObject().(client.Object)
	obj.SetOwnerReferences([]metav1.OwnerReference{*metav1.NewControllerRef(owner, clusterv1.GroupVersion.WithKind(kind))})
	obj.SetLabels(map[string]string{infrastructure.ClusterNameLabel: "c"})
	require.NoError(w.t, w.api.Patch(ctx, obj, client.MergeFrom(before)))
	return true
}

// createCluster makes Cluster c with a firewall, and n Machines.
func (w *capiEnvironment) createCluster(n int) {
	ctx := w.t.Context()
	cluster := capiCluster(func(c *clusterv1.Cluster) {
		c.Namespace, c.Status.Initialization.InfrastructureProvisioned = team, nil
	})
	require.NoError(w.t, w.api.memory.Create(ctx, cluster))
	create(w.t, w.api, &v1alpha4.MetalStackCluster{
		ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: "c-infra"},
		Spec: v1alpha4.MetalStackClusterSpec{
			Partition: simulator.DefaultPartition, PublicNetworkID: simulator.InternetNetwork,
			FirewallSpec: &v1alpha4.MetalStackFirewallSpec{Image: simulator.FirewallImage, MachineType: simulator.SmallSize},
		},
	})
	for i := range n {
		name := fmt.Sprintf("m-%d", i)
		require.NoError(w.t, w.api.memory.Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: name + "-bootstrap"},
			Data:       map[string][]byte{"value": []byte("#cloud-config\n# of " + name)},
		}))
		require.NoError(w.t, w.api.memory.Create(ctx, capiMachine(func(m *clusterv1.Machine) {
			m.Namespace, m.Name, m.UID = team, name, types.UID("uid-of-"+name)
			m.Spec.Bootstrap.DataSecretName = ptr.To(name + "-bootstrap")
			m.Spec.InfrastructureRef.Name = name
			m.Spec.FailureDomain = simulator.DefaultPartition
		})))
		create(w.t, w.api, &v1alpha4.MetalStackMachine{
			ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: name},
			Spec:       v1alpha4.MetalStackMachineSpec{Image: simulator.MachineImage, MachineType: simulator.SmallSize},
		})
	}
}

func (w *capiEnvironment) machine(name string) *v1alpha4.MetalStackMachine {
	w.t.Helper()
	m, err := get(w.t, w.api, &v1alpha4.MetalStackMachine{ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: name}})
	require.NoError(w.t, err)
	return m
}

func (w *capiEnvironment) infra() *v1alpha4.MetalStackCluster {
	w.t.Helper()
	c, err := get(w.t, w.api, &v1alpha4.MetalStackCluster{ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: "c-infra"}})
	require.NoError(w.t, err)
	return c
}

func (w *capiEnvironment) firewalls() []v1alpha4.MetalStackFirewall {
	w.t.Helper()
	list := &v1alpha4.MetalStackFirewallList{}
	require.NoError(w.t, w.api.List(w.t.Context(), list, client.InNamespace(team)))
	return list.Items
}

// deleteCluster deletes the Cluster, and waits until all is gone.
func (w *capiEnvironment) deleteCluster() {
	w.t.Helper()
	require.NoError(w.t, w.api.memory.Delete(w.t.Context(), &clusterv1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: "c"}}))
	w.reconcileUntil("the Cluster is gone", func() bool {
		err := w.api.Get(w.t.Context(), client.ObjectKey{Namespace: team, Name: "c"}, &clusterv1.Cluster{})
		return apierrors.IsNotFound(err)
	})
}

func (w *capiEnvironment) requireNoMetal() {
	w.t.Helper()
	machines, networks, ips := held(w.server)
	require.Zero(w.t, machines)
	require.Zero(w.t, networks)
	require.Zero(w.t, ips)
}

// splitClient is one API of two servers.
type splitClient struct {
	client.Client
	memory client.Client
	mapper meta.RESTMapper
}

func (c splitClient) RESTMapper() meta.RESTMapper { return c.mapper }

func (c splitClient) of(obj runtime.Object) client.Client {
	gvk, err := apiutil.GVKForObject(obj, c.Scheme())
	if err == nil && gvk.Group == v1alpha4.GroupName {
		return c.Client
	}
	return c.memory
}

func (c splitClient) Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	return c.of(obj).Get(ctx, key, obj, opts...)
}

func (c splitClient) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	return c.of(list).List(ctx, list, opts...)
}

// crashInjector kills the controller manager after its first write, then after its second, and
// so on by turns.
type crashInjector struct {
	left, round int
	crashed     bool
}

var errCrashed = errors.New("the controller manager was killed")

// write counts a write. What was sent has its effect, and the answer is lost.
func (f *crashInjector) write(err error) error {
	if f.left--; f.left > 0 || err != nil {
		return err
	}
	f.crashed = true
	return errCrashed
}

func (f *crashInjector) restart() {
	f.round++
	f.left, f.crashed = 1+f.round%2, false
}

func (f *crashInjector) alive() error {
	if f.crashed {
		return errCrashed
	}
	return nil
}

// crashingClient is the API of a controller manager that is killed.
type crashingClient struct {
	splitClient
	crashes *crashInjector
}

func (c crashingClient) Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	if err := c.crashes.alive(); err != nil {
		return err
	}
	return c.splitClient.Get(ctx, key, obj, opts...)
}

func (c crashingClient) Create(ctx context.Context, obj client.Object, opts ...client.CreateOption) error {
	if err := c.crashes.alive(); err != nil {
		return err
	}
	return c.crashes.write(c.splitClient.Create(ctx, obj, opts...))
}

func (c crashingClient) Delete(ctx context.Context, obj client.Object, opts ...client.DeleteOption) error {
	if err := c.crashes.alive(); err != nil {
		return err
	}
	return c.crashes.write(c.splitClient.Delete(ctx, obj, opts...))
}

func (c crashingClient) Patch(ctx context.Context, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
	if err := c.crashes.alive(); err != nil {
		return err
	}
	return c.crashes.write(c.splitClient.Patch(ctx, obj, patch, opts...))
}

type crashingAllocations struct {
	allocationClient
	crashes *crashInjector
}

func (c crashingAllocations) allocate(ctx context.Context, k kind, obj metalObject, a *v1alpha4.Allocation) (metalObject, error) {
	if err := c.crashes.alive(); err != nil {
		return nil, err
	}
	answer, err := c.allocationClient.allocate(ctx, k, obj, a)
	return answer, c.crashes.write(err)
}

func (c crashingAllocations) release(ctx context.Context, k kind, obj metalObject) (metalObject, error) {
	if err := c.crashes.alive(); err != nil {
		return nil, err
	}
	answer, err := c.allocationClient.release(ctx, k, obj)
	return answer, c.crashes.write(err)
}
