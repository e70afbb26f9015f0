// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/registry/rest"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/memory"
	"metal-stack.io/infrastructure-apiserver/pkg/registry"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/cluster"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/firewall"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/machine"
)

const (
	namespaceUser = "system:serviceaccount:kube-system:namespace-controller"
	collectorUser = "system:serviceaccount:kube-system:generic-garbage-collector"
	capiVersion   = "cluster.x-k8s.io/v1beta2"
)

// clusterAPI are the Machines and Clusters of a cluster, by kind and name.
type clusterAPI struct {
	objects map[string]*metav1.ObjectMeta
	away    error
}

func (c clusterAPI) Supports(apiVersion, kind string) bool {
	return apiVersion == capiVersion && (kind == "Machine" || kind == "Cluster")
}

func (c clusterAPI) Owner(_ context.Context, key registry.OwnerKey) (metav1.Object, error) {
	owner := c.objects[key.Kind+"/"+key.Name]
	switch {
	case c.away != nil:
		return nil, c.away
	case owner == nil:
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: key.Kind}, key.Name)
	}
	return owner, nil
}

func (c clusterAPI) Namespace(ctx context.Context, name string) (metav1.Object, error) {
	return c.Owner(ctx, registry.OwnerKey{Kind: "Namespace", Name: name})
}

// deletingCluster is a cluster in which team-a is being deleted.
func deletingCluster() clusterAPI {
	return clusterAPI{objects: map[string]*metav1.ObjectMeta{"Namespace/team-a": beingDeleted("uid-of-team-a")}}
}

func existing(uid types.UID) *metav1.ObjectMeta { return &metav1.ObjectMeta{UID: uid} }

func beingDeleted(uid types.UID) *metav1.ObjectMeta {
	return &metav1.ObjectMeta{UID: uid, DeletionTimestamp: &metav1.Time{Time: time.Now()}}
}

func ownedBy(apiVersion, kind, name string, uid types.UID) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: apiVersion, Kind: kind, Name: name, UID: uid}
}

// allocatedMachine makes node-1 of Cluster c and Machine m.
func (e *environment) allocatedMachine(t *testing.T, phase infrastructure.AllocationPhase, owners ...metav1.OwnerReference) {
	t.Helper()
	m := newMachine("node-1")
	m.Labels = map[string]string{infrastructure.ClusterNameLabel: "c"}
	m.OwnerReferences = owners
	create(t, e, machine.Resource, m)
	_, err := e.Machines().Update(t.Context(), "team-a", "node-1", func(m *infrastructure.MetalStackMachine) error {
		m.Status.Allocation = &infrastructure.MachineAllocation{AllocationState: infrastructure.AllocationState{Phase: phase}}
		return nil
	})
	require.NoError(t, err)
}

func (e *environment) delete(ctx context.Context, resource, name string) error {
	_, _, err := e.all[resource].main.Delete(ctx, name, rest.ValidateAllObjectFunc, &metav1.DeleteOptions{})
	return err
}

func (e *environment) machine(t *testing.T) *infrastructure.MetalStackMachine {
	t.Helper()
	m, err := e.Machines().Get(t.Context(), "team-a", "node-1")
	require.NoError(t, err)
	return m
}

// withAgent is a context of a request with a User-Agent.
func withAgent(ctx context.Context, agent string) (got context.Context) {
	req := httptest.NewRequestWithContext(ctx, http.MethodDelete, "/", nil)
	req.Header.Set("User-Agent", agent)
	registry.WithUserAgent(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) { got = req.Context() })).ServeHTTP(httptest.NewRecorder(), req)
	return got
}

func TestDelete_RefusesGarbageCollectorWhileNoOwnerIsBeingDeleted(t *testing.T) {
	t.Parallel()
	byMachine := ownedBy(capiVersion, "Machine", "m", "uid-of-m")
	for name, c := range map[string]struct {
		owner   metav1.OwnerReference
		objects map[string]*metav1.ObjectMeta
		says    string
	}{
		"owner has a new uid":                      {byMachine, map[string]*metav1.ObjectMeta{"Machine/m": existing("new"), "Cluster/c": existing("c")}, "Machine m has uid new, the ownerReference has uid-of-m"},
		"owner with a new uid is being deleted":    {byMachine, map[string]*metav1.ObjectMeta{"Machine/m": beingDeleted("new"), "Cluster/c": existing("c")}, "Machine m has uid new"},
		"owner is not there":                       {byMachine, map[string]*metav1.ObjectMeta{"Cluster/c": existing("c")}, "Machine m (uid uid-of-m) not found"},
		"owner and Cluster are not there":          {byMachine, nil, "Cluster c not found"},
		"owner is there":                           {byMachine, map[string]*metav1.ObjectMeta{"Machine/m": existing("uid-of-m")}, "Machine m is not being deleted"},
		"owner is of a kind that is not looked up": {ownedBy("v1", "ConfigMap", "x", "uid-of-x"), nil, "owner ConfigMap x: owners of this kind are not looked up"},
		"owner of our own is not there":            {ownedBy("infrastructure.cluster.x-k8s.io/v1alpha4", "MetalStackCluster", "x", "uid-of-x"), nil, "MetalStackCluster x (uid uid-of-x) not found"},
	} {
		for _, phase := range []infrastructure.AllocationPhase{infrastructure.AllocationAllocating, infrastructure.AllocationAllocated, infrastructure.AllocationReleasing} {
			t.Run(name+", "+string(phase), func(t *testing.T) {
				t.Parallel()
				w := newEnvironmentWith(t, memory.New(), clusterAPI{objects: c.objects}, anyCatalogue{})
				w.allocatedMachine(t, phase, c.owner)
				before := w.machine(t)
				var logged string
				ctx := logr.NewContext(as(collectorUser, "team-a"), funcr.New(func(_, args string) { logged += args }, funcr.Options{}))
				err := w.delete(ctx, machine.Resource, "node-1")
				require.True(t, apierrors.IsForbidden(err), "%v", err)
				require.ErrorContains(t, err, c.says)
				require.Contains(t, logged, "Refused to delete an object for the garbage collector")
				require.Contains(t, logged, `"namespace"="team-a"`)
				require.Contains(t, logged, c.says)
				require.ErrorContains(t, err, "kubectl delete metalstackmachines.infrastructure.cluster.x-k8s.io node-1 -n team-a")
				require.Equal(t, before, w.machine(t))

				require.NoError(t, w.delete(as("alice", "team-a"), machine.Resource, "node-1"), "a person may")
				require.Equal(t, infrastructure.DeletionByUser, w.machine(t).Status.Deletion.RequestedBy)
			})
		}
	}
}

func TestDelete_AdmitsGarbageCollectorWhileOwnerOrClusterIsBeingDeleted(t *testing.T) {
	t.Parallel()
	byMachine := ownedBy(capiVersion, "Machine", "m", "uid-of-m")
	for name, objects := range map[string]map[string]*metav1.ObjectMeta{
		"owner":   {"Machine/m": beingDeleted("uid-of-m"), "Cluster/c": existing("c")},
		"Cluster": {"Cluster/c": beingDeleted("c")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newEnvironmentWith(t, memory.New(), clusterAPI{objects: objects}, anyCatalogue{})
			w.allocatedMachine(t, infrastructure.AllocationAllocated, byMachine)
			require.NoError(t, w.delete(as(collectorUser, "team-a"), machine.Resource, "node-1"))
			require.NotNil(t, w.machine(t).DeletionTimestamp)
			require.Equal(t, infrastructure.DeletionByGarbageCollector, w.machine(t).Status.Deletion.RequestedBy)
		})
	}
	t.Run("owner of this server", func(t *testing.T) {
		t.Parallel()
		// What this server keeps itself is not asked of the cluster.
		w := newEnvironmentWith(t, memory.New(), clusterAPI{away: errors.New("connection refused")}, anyCatalogue{})
		owner := create(t, w, cluster.Resource, newCluster("c-infra"))
		f := &infrastructure.MetalStackFirewall{
			ObjectMeta: metav1.ObjectMeta{Name: "fw", Namespace: "team-a", OwnerReferences: []metav1.OwnerReference{
				ownedBy("infrastructure.cluster.x-k8s.io/v1alpha3", "MetalStackCluster", "c-infra", owner.UID)}},
			Spec: infrastructure.MetalStackFirewallSpec{Image: "firewall-ubuntu-3.0", MachineType: "v1-small-x86"},
		}
		create(t, w, firewall.Resource, f)
		_, err := w.Firewalls().Update(t.Context(), "team-a", "fw", func(f *infrastructure.MetalStackFirewall) error {
			f.Status.Allocation = &infrastructure.MachineAllocation{AllocationState: infrastructure.AllocationState{Phase: infrastructure.AllocationAllocated}}
			return nil
		})
		require.NoError(t, err)
		require.True(t, apierrors.IsForbidden(w.delete(as(collectorUser, "team-a"), firewall.Resource, "fw")))
		require.NoError(t, w.delete(as("alice", "team-a"), cluster.Resource, "c-infra"))
		require.NoError(t, w.delete(as(collectorUser, "team-a"), firewall.Resource, "fw"))
	})
	t.Run("nothing is held", func(t *testing.T) {
		t.Parallel()
		for _, phase := range []infrastructure.AllocationPhase{"", infrastructure.AllocationReleased} {
			w := newEnvironmentWith(t, memory.New(), clusterAPI{away: errors.New("connection refused")}, anyCatalogue{})
			w.allocatedMachine(t, phase, byMachine)
			require.NoError(t, w.delete(as(collectorUser, "team-a"), machine.Resource, "node-1"))
		}
	})
}

func TestDelete_HasGarbageCollectorTryAgainWhenOwnersCannotBeRead(t *testing.T) {
	t.Parallel()
	w := newEnvironmentWith(t, memory.New(), clusterAPI{away: errors.New("connection refused")}, anyCatalogue{})
	w.allocatedMachine(t, infrastructure.AllocationAllocated, ownedBy(capiVersion, "Machine", "m", "uid-of-m"))
	err := w.delete(as(collectorUser, "team-a"), machine.Resource, "node-1")
	require.True(t, apierrors.IsServiceUnavailable(err), "%v", err)
	require.ErrorContains(t, err, "connection refused")
	require.Nil(t, w.machine(t).DeletionTimestamp)
}

func TestDelete_RecordsWhoAskedFirst(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ctx  context.Context
		want infrastructure.DeletionRequester
	}{
		"garbage collector":                              {as(collectorUser, "team-a"), infrastructure.DeletionByGarbageCollector},
		"garbage collector without a service account":    {withAgent(as("system:kube-controller-manager", "team-a"), "kube-controller-manager/v1.36.3 (linux/amd64) kubernetes/abc/generic-garbage-collector"), infrastructure.DeletionByGarbageCollector},
		"namespace controller":                           {as(namespaceUser, "team-a"), infrastructure.DeletionByNamespaceController},
		"namespace controller without a service account": {withAgent(as("admin", "team-a"), "kube-controller-manager/v1.36.3 (linux/amd64) kubernetes/abc/namespace-controller"), infrastructure.DeletionByNamespaceController},
		"Cluster API":                                    {as("system:serviceaccount:capi-system:capi-manager", "team-a"), infrastructure.DeletionByUser},
		"another namespace's service account":            {as("system:serviceaccount:team-a:generic-garbage-collector", "team-a"), infrastructure.DeletionByUser},
		"person":                                         {withAgent(as("alice", "team-a"), "kubectl/v1.36.3 (linux/amd64) kubernetes/abc"), infrastructure.DeletionByUser},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			records := memory.New()
			w := newEnvironmentWith(t, records, deletingCluster(), anyCatalogue{})
			w.allocatedMachine(t, "")
			_, _, err := w.all[machine.Resource].main.Delete(c.ctx, "node-1", rest.ValidateAllObjectFunc, &metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}})
			require.NoError(t, err)
			require.Nil(t, w.machine(t).Status.Deletion, "a dry run records nothing")
			require.NoError(t, w.delete(c.ctx, machine.Resource, "node-1"))
			require.Equal(t, &infrastructure.Deletion{RequestedBy: c.want}, w.machine(t).Status.Deletion)

			// No other client changes it.
			for _, again := range []string{"alice", collectorUser} {
				require.NoError(t, w.delete(as(again, "team-a"), machine.Resource, "node-1"))
			}
			for _, storage := range []rest.Updater{w.all[machine.Resource].main, w.all[machine.Resource].status} {
				_, err := update(t, storage, "node-1", func(m *infrastructure.MetalStackMachine) { m.Status.Deletion = nil })
				require.NoError(t, err)
			}
			require.Equal(t, &infrastructure.Deletion{RequestedBy: c.want}, w.machine(t).Status.Deletion)
			require.Equal(t, w.machine(t).Status.Deletion, newEnvironmentWith(t, records, clusterAPI{}, anyCatalogue{}).machine(t).Status.Deletion, "it is in the record")
		})
	}
}

// The namespace controller deletes by the name of a Namespace, which another one
// may have by then, with the objects of the first.
func TestDelete_RefusesNamespaceControllerUnlessTheNamespaceIsBeingDeleted(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cluster clusterAPI
		refused func(error) bool
		says    string
	}{
		"made again": {clusterAPI{objects: map[string]*metav1.ObjectMeta{"Namespace/team-a": existing("new")}}, apierrors.IsForbidden, `namespace "team-a" is not being deleted`},
		"gone":       {clusterAPI{}, apierrors.IsForbidden, `namespace "team-a" is not found`},
		"unreadable": {clusterAPI{away: errors.New("connection refused")}, apierrors.IsServiceUnavailable, "connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newEnvironmentWith(t, memory.New(), c.cluster, anyCatalogue{})
			w.allocatedMachine(t, infrastructure.AllocationAllocated)
			before := w.machine(t)
			err := w.delete(as(namespaceUser, "team-a"), machine.Resource, "node-1")
			require.True(t, c.refused(err), "%v", err)
			require.ErrorContains(t, err, c.says)
			_, err = w.all[machine.Resource].main.DeleteCollection(as(namespaceUser, "team-a"),
				rest.ValidateAllObjectFunc, &metav1.DeleteOptions{}, &metainternalversion.ListOptions{})
			require.True(t, c.refused(err), "%v", err)
			require.ErrorContains(t, err, c.says)
			require.Equal(t, before, w.machine(t))
			_, err = w.all[machine.Resource].main.DeleteCollection(as("alice", "team-a"),
				rest.ValidateAllObjectFunc, &metav1.DeleteOptions{}, &metainternalversion.ListOptions{})
			require.NoError(t, err, "a person may")
			require.NotNil(t, w.machine(t).DeletionTimestamp)
		})
	}
}

func TestDeleteCollection_RecordsWhoAsked(t *testing.T) {
	t.Parallel()
	w := newEnvironmentWith(t, memory.New(), deletingCluster(), anyCatalogue{})
	w.allocatedMachine(t, infrastructure.AllocationAllocated)
	_, err := w.all[machine.Resource].main.DeleteCollection(as(namespaceUser, "team-a"),
		rest.ValidateAllObjectFunc, &metav1.DeleteOptions{}, &metainternalversion.ListOptions{})
	require.NoError(t, err)
	require.Equal(t, infrastructure.DeletionByNamespaceController, w.machine(t).Status.Deletion.RequestedBy)
}

func TestCreate_DropsWhoAskedForADeletionElsewhere(t *testing.T) {
	t.Parallel()
	w := newEnvironmentWith(t, memory.New(), clusterAPI{}, anyCatalogue{})
	m := newMachine("node-1")
	m.Status.Deletion = &infrastructure.Deletion{RequestedBy: infrastructure.DeletionByUser}
	assert.Nil(t, create(t, w, machine.Resource, m).Status.Deletion)
	for _, storage := range []rest.Updater{w.all[machine.Resource].main, w.all[machine.Resource].status} {
		out, err := update(t, storage, "node-1", func(m *infrastructure.MetalStackMachine) {
			m.Status.Deletion = &infrastructure.Deletion{RequestedBy: infrastructure.DeletionByUser}
		})
		require.NoError(t, err)
		assert.Nil(t, out.Status.Deletion)
	}
}

func TestDelete_RecordsUserWhereNoGarbageCollectorIs(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.allocatedMachine(t, infrastructure.AllocationAllocated)
	require.NoError(t, w.delete(withAgent(as("admin", "team-a"), "x/generic-garbage-collector"), machine.Resource, "node-1"))
	require.Equal(t, infrastructure.DeletionByUser, w.machine(t).Status.Deletion.RequestedBy)
}
