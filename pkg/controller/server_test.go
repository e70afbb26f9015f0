// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/testserver"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// These tests run the controller manager against the whole server and a simulated
// data centre.

const (
	patience = 3 * time.Minute
	glance   = 50 * time.Millisecond
)

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	os.Exit(m.Run())
}

// startControllerManager runs the controller manager until the test or the returned function
// ends it.
func startControllerManager(t *testing.T, s *testserver.Server) (stop func()) {
	t.Helper()
	scheme, err := NewScheme()
	require.NoError(t, err)
	mgr, err := ctrl.NewManager(s.Config, ctrl.Options{
		Scheme:     scheme,
		Cache:      cache.Options{ByObject: CacheByObject()},
		Metrics:    metricsserver.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: ptr.To(true)},
	})
	require.NoError(t, err)
	options := NewOptions()
	options.Standalone = true
	require.NoError(t, AddWhenServed(mgr, options))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			require.NoError(t, <-ended)
		}
	}
	t.Cleanup(stop)
	return stop
}

func apiOf(t *testing.T, s *testserver.Server) client.Client {
	t.Helper()
	scheme, err := NewScheme()
	require.NoError(t, err)
	api, err := client.New(s.Config, client.Options{Scheme: scheme})
	require.NoError(t, err)
	return api
}

// exampleCluster is a cluster with a firewall and n machines.
func exampleCluster(name string, n int) []client.Object {
	meta := func(name, cluster string) metav1.ObjectMeta {
		return metav1.ObjectMeta{
			Namespace: testserver.NamespaceA, Name: name,
			Labels: map[string]string{infrastructure.ClusterNameLabel: cluster},
		}
	}
	objects := []client.Object{
		// Members before their cluster: the order must not matter.
		&v1alpha4.MetalStackFirewall{ObjectMeta: meta(name+"-fw", name), Spec: v1alpha4.MetalStackFirewallSpec{
			Image: simulator.FirewallImage, MachineType: simulator.SmallSize,
		}},
	}
	for i := range n {
		objects = append(objects, &v1alpha4.MetalStackMachine{ObjectMeta: meta(fmt.Sprintf("%s-%d", name, i), name), Spec: v1alpha4.MetalStackMachineSpec{
			Image: simulator.MachineImage, MachineType: simulator.SmallSize,
		}})
	}
	return append(objects, &v1alpha4.MetalStackCluster{ObjectMeta: meta(name, name), Spec: v1alpha4.MetalStackClusterSpec{
		Partition: simulator.DefaultPartition, PublicNetworkID: simulator.InternetNetwork,
	}})
}

func create(t *testing.T, api client.Client, objects ...client.Object) {
	t.Helper()
	for _, obj := range objects {
		require.NoError(t, api.Create(t.Context(), obj))
	}
}

func get[T client.Object](t *testing.T, api client.Client, obj T) (T, error) {
	t.Helper()
	fresh := obj.DeepCopyObject().(T)
	err := api.Get(t.Context(), client.ObjectKeyFromObject(obj), fresh)
	return fresh, err
}

func ready(obj client.Object) bool {
	switch o := obj.(type) {
	case *v1alpha4.MetalStackCluster:
		return o.Status.Ready
	case *v1alpha4.MetalStackMachine:
		return o.Status.Ready && o.Status.Metal.Phase == infrastructure.PhasePhonedHome
	case *v1alpha4.MetalStackFirewall:
		return o.Status.Ready && o.Status.Metal.Phase == infrastructure.PhasePhonedHome
	}
	return false
}

func requireReady(t *testing.T, api client.Client, objects ...client.Object) {
	t.Helper()
	for _, obj := range objects {
		require.Eventually(t, func() bool {
			fresh, err := get(t, api, obj)
			return err == nil && ready(fresh)
		}, patience, glance, "%s is ready", obj.GetName())
	}
}

func requireGone(t *testing.T, api client.Client, objects ...client.Object) {
	t.Helper()
	for _, obj := range objects {
		require.Eventually(t, func() bool {
			_, err := get(t, api, obj)
			return apierrors.IsNotFound(err)
		}, patience, glance, "%s is gone", obj.GetName())
	}
}

// operations counts the machines and firewalls that were allocated or freed.
func operations(s *testserver.Server, verb string) int {
	n := 0
	for _, operation := range s.Metal.Sim.Inventory().History {
		if operation.Verb == verb && (operation.Kind == "machine" || operation.Kind == "firewall") {
			n++
		}
	}
	return n
}

// held is what the tenant holds in metal.
func held(s *testserver.Server) (machines, networks, ips int) {
	inventory := s.Metal.Sim.Inventory()
	for _, m := range inventory.Machines {
		if m.Allocated {
			machines++
		}
	}
	for _, n := range inventory.Networks {
		if n.Project == simulator.ProjectA {
			networks++
		}
	}
	for _, ip := range inventory.IPs {
		if ip.Project == simulator.ProjectA {
			ips++
		}
	}
	return machines, networks, ips
}

func TestStandalone_ClustersAreAllocatedAndReleasedCompletely(t *testing.T) {
	s := testserver.Start(t, testserver.Options{Simulator: simulator.Config{Speed: 200}})
	api := apiOf(t, s)
	startControllerManager(t, s)

	objects := exampleCluster("c", 3)
	create(t, api, objects...)
	requireReady(t, api, objects...)
	require.Equal(t, 4, operations(s, "allocate"), "each server once")
	machines, networks, _ := held(s)
	require.Equal(t, 4, machines)
	require.Equal(t, 1, networks)

	// All at once: the cluster has to wait for the others by itself.
	for i := range objects {
		require.NoError(t, api.Delete(t.Context(), objects[len(objects)-1-i]))
	}
	requireGone(t, api, objects...)
	require.Equal(t, 4, operations(s, "free"), "each server once")
	machines, networks, ips := held(s)
	require.Zero(t, machines)
	require.Zero(t, networks)
	require.Zero(t, ips)
}

func TestStandalone_ControllerManagerResumesAfterRestart(t *testing.T) {
	s := testserver.Start(t, testserver.Options{Simulator: simulator.Config{Speed: 200}})
	api := apiOf(t, s)
	stop := startControllerManager(t, s)
	first := exampleCluster("a", 1)
	create(t, api, first...)
	requireReady(t, api, first...)
	stop()

	second := exampleCluster("b", 1)
	create(t, api, second...)
	require.NoError(t, api.Delete(t.Context(), first[1]))

	startControllerManager(t, s)
	requireReady(t, api, second...)
	requireGone(t, api, first[1])
	require.Equal(t, 4, operations(s, "allocate"))
	require.Equal(t, 1, operations(s, "free"))
}

func TestStandalone_KilledServerCostsNoSecondMachine(t *testing.T) {
	s := testserver.Start(t, testserver.Options{Simulator: simulator.Config{Speed: 200}})
	api := apiOf(t, s)
	startControllerManager(t, s)

	objects := exampleCluster("c", 3)
	create(t, api, objects...)
	require.Eventually(t, func() bool { return operations(s, "allocate") > 0 }, patience, time.Millisecond)
	s.Kill()
	s.Restart()

	requireReady(t, api, objects...)
	require.Equal(t, 4, operations(s, "allocate"))
	require.Zero(t, operations(s, "free"))
}

func TestStandalone_DeletionWithoutControllerManagerKeepsMetal(t *testing.T) {
	s := testserver.Start(t, testserver.Options{Simulator: simulator.Config{Speed: 200}})
	api := apiOf(t, s)
	stop := startControllerManager(t, s)
	objects := exampleCluster("c", 1)
	create(t, api, objects...)
	requireReady(t, api, objects...)
	stop()

	// What clusterctl move does on the cluster that it moves away from.
	for _, obj := range objects {
		require.NoError(t, api.Delete(t.Context(), obj))
		require.NoError(t, api.Patch(t.Context(), obj, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":[]}}`))))
	}
	requireGone(t, api, objects...)
	startControllerManager(t, s)
	time.Sleep(time.Second)
	require.Zero(t, operations(s, "free"))
	machines, _, _ := held(s)
	require.Equal(t, 2, machines)
}

func TestStandalone_PausedObjectsContinueAfterThePause(t *testing.T) {
	s := testserver.Start(t, testserver.Options{Simulator: simulator.Config{Speed: 200}})
	api := apiOf(t, s)
	startControllerManager(t, s)
	objects := exampleCluster("c", 1)
	machine := objects[1]
	machine.SetAnnotations(map[string]string{infrastructure.PausedAnnotation: ""})
	create(t, api, objects...)
	requireReady(t, api, objects[0], objects[2])
	require.Equal(t, 1, operations(s, "allocate"), "the firewall alone")

	fresh, err := get(t, api, machine)
	require.NoError(t, err)
	resumed := fresh.DeepCopyObject().(client.Object)
	resumed.SetAnnotations(nil)
	require.NoError(t, api.Patch(t.Context(), resumed, client.MergeFrom(fresh)))
	requireReady(t, api, machine)
}
