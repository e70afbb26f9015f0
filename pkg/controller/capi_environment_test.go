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
func (e *capiEnvironment) restart() {
	e.t.Helper()
	clients, err := versioned.NewForConfig(e.server.Config)
	require.NoError(e.t, err)
	e.events = events.NewFakeRecorder(10_000)
	e.reconcilers = nil
	for _, k := range []kind{clusters, machines, firewalls} {
		r := newReconciler(k, e.options)
		r.cached, r.live, r.recorder = e.api, e.api, e.events
		r.allocations = restAllocationClient{clients.InfrastructureV1alpha4().RESTClient()}
		if e.crashes != nil {
			r.cached, r.live, r.allocations = crashingClient{e.api, e.crashes}, crashingClient{e.api, e.crashes}, crashingAllocations{r.allocations, e.crashes}
		}
		r.clock, r.states = clock.RealClock{}, newObjectStates(clock.RealClock{})
		e.reconcilers = append(e.reconcilers, r)
	}
}

// reconcileUntil lets the controller manager and Cluster API work until something is so. The data
// centre lives meanwhile, some hundred times as fast as real hardware, so time has to pass.
func (e *capiEnvironment) reconcileUntil(what string, so func() bool) {
	e.t.Helper()
	var last error
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if so() {
			return
		}
		if time.Now().After(deadline) {
			e.t.Fatalf("not within %s: %s; last error: %v", patience, what, last)
		}
		e.playClusterAPI()
		for _, r := range e.reconcilers {
			list := r.kind.list()
			require.NoError(e.t, e.api.List(e.t.Context(), list, client.InNamespace(team)))
			require.NoError(e.t, meta.EachListItem(list, func(item runtime.Object) error {
				key := client.ObjectKeyFromObject(item.(client.Object))
				if _, err := r.Reconcile(e.t.Context(), ctrl.Request{NamespacedName: key}); err != nil {
					last = err
				}
				return nil
			}))
			if e.crashes != nil && e.crashes.crashed {
				e.crashes.restart()
				e.restart()
				break
			}
		}
	}
}

// playClusterAPI does what Cluster API's controllers do with our objects: own
// them, mirror what is provisioned, and delete them before what owns them.
func (e *capiEnvironment) playClusterAPI() {
	ctx := e.t.Context()
	machines := &clusterv1.MachineList{}
	require.NoError(e.t, e.api.List(ctx, machines))
	for i := range machines.Items {
		m := &machines.Items[i]
		infra := &v1alpha4.MetalStackMachine{ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: m.Spec.InfrastructureRef.Name}}
		if e.setOwner(m, "Machine", infra) || m.DeletionTimestamp == nil {
			continue
		}
		m.Finalizers = nil
		require.NoError(e.t, e.api.memory.Update(ctx, m))
	}
	clusters := &clusterv1.ClusterList{}
	require.NoError(e.t, e.api.List(ctx, clusters))
	for i := range clusters.Items {
		c := &clusters.Items[i]
		infra := &v1alpha4.MetalStackCluster{ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: c.Spec.InfrastructureRef.Name}}
		if c.DeletionTimestamp != nil && len(machines.Items) > 0 {
			for i := range machines.Items {
				require.NoError(e.t, client.IgnoreNotFound(e.api.memory.Delete(ctx, &machines.Items[i])))
			}
			continue
		}
		switch there := e.setOwner(c, "Cluster", infra); {
		case !there && c.DeletionTimestamp != nil:
			c.Finalizers = nil
			require.NoError(e.t, e.api.memory.Update(ctx, c))
		case there && isProvisioned(infra) && c.Status.Initialization.InfrastructureProvisioned == nil:
			c.Status.Initialization.InfrastructureProvisioned = ptr.To(true)
			require.NoError(e.t, e.api.memory.Status().Update(ctx, c))
		}
	}
}

// setOwner makes an object of ours Cluster API's; false if it is not there.
func (e *capiEnvironment) setOwner(owner client.Object, kind string, obj client.Object) bool {
	ctx := e.t.Context()
	err := e.api.Get(ctx, client.ObjectKeyFromObject(obj), obj)
	if apierrors.IsNotFound(err) {
		return false
	}
	require.NoError(e.t, err)
	if owner.GetDeletionTimestamp() != nil && obj.GetDeletionTimestamp() == nil {
		require.NoError(e.t, e.api.Delete(ctx, obj))
	}
	if metav1.IsControlledBy(obj, owner) {
		return true
	}
	before := obj.DeepCopyObject().(client.Object)
	obj.SetOwnerReferences([]metav1.OwnerReference{*metav1.NewControllerRef(owner, clusterv1.GroupVersion.WithKind(kind))})
	obj.SetLabels(map[string]string{infrastructure.ClusterNameLabel: "c"})
	require.NoError(e.t, e.api.Patch(ctx, obj, client.MergeFrom(before)))
	return true
}

// createCluster makes Cluster c with a firewall, and n Machines.
func (e *capiEnvironment) createCluster(n int) {
	ctx := e.t.Context()
	cluster := capiCluster(func(c *clusterv1.Cluster) {
		c.Namespace, c.Status.Initialization.InfrastructureProvisioned = team, nil
	})
	require.NoError(e.t, e.api.memory.Create(ctx, cluster))
	require.NoError(e.t, e.api.memory.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: "firewall-user-data"},
		Data:       map[string][]byte{"value": []byte("#cloud-config\n# of the firewall")},
	}))
	create(e.t, e.api, &v1alpha4.MetalStackCluster{
		ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: "c-infra"},
		Spec: v1alpha4.MetalStackClusterSpec{
			Partition: simulator.DefaultPartition, PublicNetworkID: simulator.InternetNetwork,
			FirewallSpec: &v1alpha4.MetalStackFirewallSpec{
				Image: simulator.FirewallImage, MachineType: simulator.SmallSize, UserData: &v1alpha4.SecretReference{Name: "firewall-user-data"},
			},
		},
	})
	for i := range n {
		name := fmt.Sprintf("m-%d", i)
		require.NoError(e.t, e.api.memory.Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: name + "-bootstrap"},
			Data:       map[string][]byte{"value": []byte("#cloud-config\n# of " + name)},
		}))
		require.NoError(e.t, e.api.memory.Create(ctx, capiMachine(func(m *clusterv1.Machine) {
			m.Namespace, m.Name, m.UID = team, name, types.UID("uid-of-"+name)
			m.Spec.Bootstrap.DataSecretName = ptr.To(name + "-bootstrap")
			m.Spec.InfrastructureRef.Name = name
			m.Spec.FailureDomain = simulator.DefaultPartition
		})))
		create(e.t, e.api, &v1alpha4.MetalStackMachine{
			ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: name},
			Spec:       v1alpha4.MetalStackMachineSpec{Image: simulator.MachineImage, MachineType: simulator.SmallSize},
		})
	}
}

func (e *capiEnvironment) machine(name string) *v1alpha4.MetalStackMachine {
	e.t.Helper()
	m, err := get(e.t, e.api, &v1alpha4.MetalStackMachine{ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: name}})
	require.NoError(e.t, err)
	return m
}

func (e *capiEnvironment) infra() *v1alpha4.MetalStackCluster {
	e.t.Helper()
	c, err := get(e.t, e.api, &v1alpha4.MetalStackCluster{ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: "c-infra"}})
	require.NoError(e.t, err)
	return c
}

func (e *capiEnvironment) firewalls() []v1alpha4.MetalStackFirewall {
	e.t.Helper()
	list := &v1alpha4.MetalStackFirewallList{}
	require.NoError(e.t, e.api.List(e.t.Context(), list, client.InNamespace(team)))
	return list.Items
}

// deleteCluster deletes the Cluster, and waits until all is gone.
func (e *capiEnvironment) deleteCluster() {
	e.t.Helper()
	require.NoError(e.t, e.api.memory.Delete(e.t.Context(), &clusterv1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: "c"}}))
	e.reconcileUntil("the Cluster is gone", func() bool {
		err := e.api.Get(e.t.Context(), client.ObjectKey{Namespace: team, Name: "c"}, &clusterv1.Cluster{})
		return apierrors.IsNotFound(err)
	})
}

func (e *capiEnvironment) requireNoMetal() {
	e.t.Helper()
	machines, networks, ips := held(e.server)
	require.Zero(e.t, machines)
	require.Zero(e.t, networks)
	require.Zero(e.t, ips)
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
func (i *crashInjector) write(err error) error {
	if i.left--; i.left > 0 || err != nil {
		return err
	}
	i.crashed = true
	return errCrashed
}

func (i *crashInjector) restart() {
	i.round++
	i.left, i.crashed = 1+i.round%2, false
}

func (i *crashInjector) alive() error {
	if i.crashed {
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
