// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/warning"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/memory"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/projection"
	"metal-stack.io/infrastructure-apiserver/pkg/registry"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/catalogue"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/cluster"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/machine"
	"metal-stack.io/infrastructure-apiserver/pkg/storage"
	"metal-stack.io/infrastructure-apiserver/pkg/tenancy"
	"metal-stack.io/infrastructure-apiserver/pkg/visibility"
)

const (
	project = "10000000-0000-4000-8000-00000000000a"
	idleID  = "2294c949-88f6-5390-8154-fa53d93a3313"
	foundID = "e0ab02d2-27cd-5a5e-8efc-080ba80cf258"
)

// environment is the resources over facts that a test decides on.
type environment struct {
	*Resources
	backend *storage.Backend
	facts   facts
}

type facts map[string]*metal.Machine

func (f facts) Machine(id string) (*metal.Machine, metal.Presence) {
	if m, known := f[id]; known {
		return m, metal.Present
	}
	return nil, metal.Unobserved
}
func (f facts) MachinesByUID(string) []*metal.Machine           { return nil }
func (f facts) Network(string) (*metal.Network, metal.Presence) { return nil, metal.Unobserved }
func (f facts) IP(string) (*metal.IP, metal.Presence)           { return nil, metal.Unobserved }

// teamABinding binds team-a.
type teamABinding struct{}

func (teamABinding) Project(namespace string) (string, bool) { return project, namespace == "team-a" }
func (teamABinding) Namespace(p string) (string, bool)       { return "team-a", p == project }
func (b teamABinding) BeginCreate(_ context.Context, resource schema.GroupResource, namespace, name string) (func(), error) {
	if _, bound := b.Project(namespace); !bound {
		return nil, tenancy.NotBound(resource, namespace, name, "run bind "+namespace)
	}
	return func() {}, nil
}

// anyCatalogue is a catalogue that has it.
type anyCatalogue struct{}

func (anyCatalogue) LookupSize(_ context.Context, id string) (*metal.Size, []string, error) {
	return &metal.Size{ID: id}, nil, nil
}
func (anyCatalogue) LookupImage(_ context.Context, id, feature string) (*metal.Image, []string, error) {
	return &metal.Image{ID: id, Features: []string{feature}}, nil, nil
}
func (anyCatalogue) WithAllowance(ctx context.Context, _ string) context.Context { return ctx }

func (anyCatalogue) LookupPartition(_ context.Context, id string) (*metal.Partition, []string, error) {
	return &metal.Partition{ID: id}, nil, nil
}
func (anyCatalogue) LookupMachine(_ context.Context, id, _ string) (*metal.Machine, error) {
	return &metal.Machine{ID: id}, nil
}
func (anyCatalogue) LookupAddress(_ context.Context, address netip.Addr, project string) (*metal.IP, *metal.Network, error) {
	return &metal.IP{Address: address.String(), Project: project}, nil, nil
}
func (anyCatalogue) LookupNetwork(_ context.Context, id, project string) (*metal.Network, []string, error) {
	return &metal.Network{ID: id, Project: project}, []string{id}, nil
}

func newEnvironment(t testing.TB, offers ...catalogue.Catalogue) *environment {
	t.Helper()
	return newEnvironmentWith(t, memory.New(), nil, append(offers, anyCatalogue{})[0])
}

// newEnvironmentWith is over records that may be there already, in a cluster if there are
// owners.
func newEnvironmentWith(t testing.TB, records ledger.Ledger, clusterOwners registry.OwnerLookup, offers catalogue.Catalogue) *environment {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	backend, err := storage.NewBackend(ctx, storage.Options{Ledger: records})
	require.NoError(t, err)
	w := &environment{backend: backend, facts: facts{}}
	w.Resources, err = New(NewRESTOptionsGetter(backend, projection.Source{Facts: w.facts, Bindings: teamABinding{}, Clock: clock.RealClock{}}), teamABinding{}, resolverOf(authorizerfactory.NewAlwaysAllowAuthorizer(), backend), offers, clusterOwners)
	require.NoError(t, err)
	require.NoError(t, backend.Start(ctx))
	return w
}

// discover makes a machine known that is allocated in the project.
func (w *environment) discover(id string) {
	w.facts[id] = &metal.Machine{
		ID: id, Partition: "fra-01", Rack: "rack-1", Size: "v1-small-x86", Liveliness: "Alive",
		Allocation: &metal.Allocation{
			UUID: "a", Project: project, Role: metal.RoleMachine, Image: "ubuntu-24.04.1", Created: time.Now().Add(-time.Hour),
			Networks: []metal.MachineNetwork{{NetworkID: "n", Private: true, IPs: []string{"10.0.0.1"}}},
		},
		Events: []metal.Event{{Event: "Phoned Home", Time: time.Now()}},
	}
	w.backend.MetalChanged([]metal.Ref{{Kind: metal.KindMachine, ID: id}})
}

func resolverOf(a authorizer.Authorizer, backend *storage.Backend) *visibility.Resolver {
	return visibility.NewResolver(a, backend.AdvanceRevision, clock.RealClock{})
}

func in(namespace string) context.Context { return as("admin", namespace) }

func as(who, namespace string) context.Context {
	return request.WithUser(request.WithNamespace(context.Background(), namespace), &user.DefaultInfo{Name: who})
}

func newMachine(name string) *infrastructure.MetalStackMachine {
	return &infrastructure.MetalStackMachine{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "team-a"},
		Spec:       infrastructure.MetalStackMachineSpec{Image: "ubuntu-24.04", MachineType: "v1-small-x86"},
	}
}

func newCluster(name string) *infrastructure.MetalStackCluster {
	return &infrastructure.MetalStackCluster{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "team-a"},
		Spec: infrastructure.MetalStackClusterSpec{
			Partition: "fra-01", PublicNetworkID: "internet", ControlPlaneEndpoint: infrastructure.APIEndpoint{Port: 6443},
		},
	}
}

func create[T runtime.Object](t *testing.T, w *environment, resource string, obj T) T {
	t.Helper()
	out, err := w.all[resource].main.Create(in("team-a"), obj, rest.ValidateAllObjectFunc, &metav1.CreateOptions{})
	require.NoError(t, err)
	return out.(T)
}

// update changes the object as a PUT does.
func update[T runtime.Object](t *testing.T, storage rest.Updater, name string, change func(T)) (T, error) {
	t.Helper()
	info := rest.DefaultUpdatedObjectInfo(nil, func(_ context.Context, _, old runtime.Object) (runtime.Object, error) {
		obj := old.DeepCopyObject().(T)
		change(obj)
		return obj, nil
	})
	out, _, err := storage.Update(in("team-a"), name, patchInfo{info}, rest.ValidateAllObjectFunc, rest.ValidateAllObjectUpdateFunc, false, &metav1.UpdateOptions{})
	if err != nil {
		return *new(T), err
	}
	return out.(T), nil
}

// patchInfo has no preconditions, like a patch.
type patchInfo struct{ rest.UpdatedObjectInfo }

func (patchInfo) Preconditions() *metav1.Preconditions { return nil }

func names(t *testing.T, list runtime.Object, err error) []string {
	t.Helper()
	require.NoError(t, err)
	found := []string{}
	require.NoError(t, meta.EachListItem(list, func(o runtime.Object) error {
		found = append(found, o.(metav1.Object).GetName())
		return nil
	}))
	return found
}

func TestCreate_KeepsFinalizersAndDropsStatus(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	m := newMachine("node-1")
	provisioned := true
	m.UID, m.Generation, m.ResourceVersion, m.Finalizers = "elsewhere", 7, "123", []string{"example.org/theirs"}
	m.Status = infrastructure.MetalStackMachineStatus{
		Ready: true, Initialization: infrastructure.Initialization{Provisioned: &provisioned},
		Allocation: &infrastructure.MachineAllocation{MachineID: idleID, AllocationUUID: "stolen"},
	}
	out := create(t, w, machine.Resource, m)
	assert.NotEqual(t, "elsewhere", string(out.UID))
	assert.EqualValues(t, 1, out.Generation)
	assert.Equal(t, []string{"example.org/theirs", infrastructure.MachineFinalizer}, out.Finalizers)
	assert.Nil(t, out.Status.Allocation)
	assert.Nil(t, out.Status.Initialization.Provisioned)
	assert.False(t, out.Status.Ready)
	assert.Equal(t, infrastructure.PhasePending, out.Status.Metal.Phase)
	assert.True(t, out.Status.Metal.Managed)
}

func TestCreate_SetsProjectOfTheNamespace(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	assert.Equal(t, project, create(t, w, cluster.Resource, newCluster("c")).Spec.ProjectID)

	other := newCluster("d")
	other.Spec.ProjectID = "10000000-0000-4000-8000-00000000000b"
	_, err := w.all[cluster.Resource].main.Create(in("team-a"), other, rest.ValidateAllObjectFunc, &metav1.CreateOptions{})
	require.True(t, apierrors.IsInvalid(err), "%v", err)
	assert.ErrorContains(t, err, "spec.projectID")
}

func TestCreate_InUnboundNamespaceIsForbidden(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	m := newMachine("node-1")
	m.Namespace = "stray"
	_, err := w.all[machine.Resource].main.Create(in("stray"), m, rest.ValidateAllObjectFunc, &metav1.CreateOptions{})
	require.True(t, apierrors.IsForbidden(err), "%v", err)
	assert.ErrorContains(t, err, `the namespace "stray" is not bound to a metal-stack project: run bind stray`)
}

func TestCreate_WarnsOfUnavailableReferencesOfMovedObject(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t, nothing{})
	create := func(m *infrastructure.MetalStackMachine) (*warnings, error) {
		var warned warnings
		_, err := w.all[machine.Resource].main.Create(warning.WithWarningRecorder(in("team-a"), &warned), m, rest.ValidateAllObjectFunc, &metav1.CreateOptions{})
		return &warned, err
	}
	m := newMachine("node-1")
	m.Spec.ProviderID = "metal://fra-01/" + idleID
	_, err := create(m)
	require.True(t, apierrors.IsInvalid(err), "%v", err)
	assert.ErrorContains(t, err, "spec.image")
	assert.ErrorContains(t, err, "spec.providerID")

	m.Finalizers = []string{infrastructure.MachineFinalizer}
	warned, err := create(m)
	require.NoError(t, err)
	assert.Len(t, *warned, 3, "%v", *warned)

	c := newCluster("c")
	c.Finalizers, c.Spec.ProjectID = []string{infrastructure.ClusterFinalizer}, "10000000-0000-4000-8000-00000000000b"
	_, err = w.all[cluster.Resource].main.Create(in("team-a"), c, rest.ValidateAllObjectFunc, &metav1.CreateOptions{})
	require.True(t, apierrors.IsInvalid(err), "%v", err)
	assert.ErrorContains(t, err, "spec.projectID")
}

// nothing is a catalogue that has nothing.
type nothing struct{ anyCatalogue }

func (nothing) LookupSize(context.Context, string) (*metal.Size, []string, error) {
	return nil, nil, nil
}
func (nothing) LookupImage(context.Context, string, string) (*metal.Image, []string, error) {
	return nil, nil, nil
}
func (nothing) LookupMachine(context.Context, string, string) (*metal.Machine, error) {
	return nil, nil
}

type warnings []string

func (w *warnings) AddWarning(_, text string) { *w = append(*w, text) }

func TestUpdate_KeepsStatusAndServerSetFields(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	create(t, w, machine.Resource, newMachine("node-1"))
	_, err := w.Machines().Update(context.Background(), "team-a", "node-1", func(m *infrastructure.MetalStackMachine) error {
		m.Spec.ProviderID = "metal://fra-01/" + idleID
		m.Status.Allocation = &infrastructure.MachineAllocation{AllocationState: infrastructure.AllocationState{Phase: infrastructure.AllocationAllocated}, MachineID: idleID}
		return nil
	})
	require.NoError(t, err)
	out, err := update(t, w.all[machine.Resource].main, "node-1", func(m *infrastructure.MetalStackMachine) {
		m.Labels = map[string]string{"a": "b"}
		m.Spec.ProviderID = ""
		m.Status = infrastructure.MetalStackMachineStatus{Ready: true}
	})
	require.NoError(t, err)
	assert.Equal(t, "metal://fra-01/"+idleID, out.Spec.ProviderID)
	assert.Equal(t, idleID, out.Status.Allocation.MachineID)
	assert.False(t, out.Status.Ready)
	assert.EqualValues(t, 1, out.Generation, "the spec has not changed")
}

func TestStatusUpdate_TakesOnlyConditionsAndInitialization(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	created := create(t, w, machine.Resource, newMachine("node-1"))
	yes, no := true, false
	status := w.all[machine.Resource].status
	paused := metav1.Condition{Type: infrastructure.ConditionPaused, Status: "False", Reason: "NotPaused", LastTransitionTime: metav1.Now()}
	out, err := update(t, status, "node-1", func(m *infrastructure.MetalStackMachine) {
		m.Labels = map[string]string{"a": "b"}
		m.Spec.Image = "other"
		m.Status.Ready = true
		m.Status.Addresses = []infrastructure.MachineAddress{{Type: infrastructure.MachineInternalIP, Address: "10.0.0.1"}}
		m.Status.Metal.Managed = false
		m.Status.Allocation = &infrastructure.MachineAllocation{MachineID: idleID}
		m.Status.Initialization.Provisioned = &yes
		m.Status.Conditions = []metav1.Condition{paused, {Type: infrastructure.ConditionReady, Status: "True", Reason: "Lie", LastTransitionTime: metav1.Now()}}
	})
	require.NoError(t, err)
	assert.Empty(t, out.Labels)
	assert.Equal(t, "ubuntu-24.04", out.Spec.Image)
	assert.False(t, out.Status.Ready)
	assert.Empty(t, out.Status.Addresses)
	assert.True(t, out.Status.Metal.Managed)
	assert.Nil(t, out.Status.Allocation)
	assert.True(t, *out.Status.Initialization.Provisioned)
	assert.NotNil(t, meta.FindStatusCondition(out.Status.Conditions, infrastructure.ConditionPaused))
	assert.Equal(t, meta.FindStatusCondition(created.Status.Conditions, infrastructure.ConditionReady).Reason,
		meta.FindStatusCondition(out.Status.Conditions, infrastructure.ConditionReady).Reason)

	out, err = update(t, status, "node-1", func(m *infrastructure.MetalStackMachine) { m.Status.Initialization.Provisioned = &no })
	require.NoError(t, err)
	assert.True(t, *out.Status.Initialization.Provisioned, "it never goes back")
}

func TestDelete_WaitsForTheLastFinalizer(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	create(t, w, machine.Resource, newMachine("node-1"))
	main := w.all[machine.Resource].main
	out, gone, err := main.Delete(in("team-a"), "node-1", rest.ValidateAllObjectFunc, &metav1.DeleteOptions{})
	require.NoError(t, err)
	assert.False(t, gone)
	assert.NotNil(t, out.(*infrastructure.MetalStackMachine).DeletionTimestamp)
	_, err = update(t, main, "node-1", func(m *infrastructure.MetalStackMachine) { m.Finalizers = nil })
	require.NoError(t, err)
	_, err = main.Get(in("team-a"), "node-1", &metav1.GetOptions{})
	assert.True(t, apierrors.IsNotFound(err), "%v", err)
}

func TestUpdate_KeepsFinalizerUntilDeletion(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	create(t, w, machine.Resource, newMachine("node-1"))
	main := w.all[machine.Resource].main
	out, err := update(t, main, "node-1", func(m *infrastructure.MetalStackMachine) { m.Finalizers = []string{"example.org/theirs"} })
	require.NoError(t, err)
	assert.Equal(t, []string{"example.org/theirs", infrastructure.MachineFinalizer}, out.Finalizers)
}

func TestDeleteCollection_SkipsDiscoveredMetal(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.discover(foundID)
	create(t, w, machine.Resource, newMachine("node-1"))
	main := w.all[machine.Resource].main
	list, err := main.List(in("team-a"), &metainternalversion.ListOptions{})
	assert.ElementsMatch(t, []string{"node-1", foundID}, names(t, list, err))

	list, err = main.DeleteCollection(in("team-a"), rest.ValidateAllObjectFunc, &metav1.DeleteOptions{}, &metainternalversion.ListOptions{})
	assert.Equal(t, []string{"node-1"}, names(t, list, err))
	_, _, err = main.Delete(in("team-a"), foundID, rest.ValidateAllObjectFunc, &metav1.DeleteOptions{})
	assert.True(t, apierrors.IsForbidden(err), "%v", err)
	_, err = update(t, main, foundID, func(m *infrastructure.MetalStackMachine) { m.Labels = map[string]string{"a": "b"} })
	assert.True(t, apierrors.IsForbidden(err), "%v", err)
}

func TestRecords_ListEveryKind(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.discover(foundID)
	create(t, w, cluster.Resource, newCluster("cluster-1"))
	create(t, w, machine.Resource, newMachine("node-1"))
	clusters, err := w.Clusters().List(t.Context())
	require.NoError(t, err)
	require.Len(t, clusters, 1, "who looks after records must know of all of them")
	machines, err := w.Machines().List(t.Context())
	require.NoError(t, err)
	require.Len(t, machines, 1, "what was discovered has none")
}

func TestFieldSelectors_SelectByEachField(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.discover(foundID)
	create(t, w, machine.Resource, newMachine("node-1"))
	for selector, want := range map[string][]string{
		"metadata.name=node-1":                         {"node-1"},
		"status.metal.managed=false":                   {foundID},
		"status.metal.managed=true":                    {"node-1"},
		"status.metal.phase=Pending":                   {"node-1"},
		"status.ready=true":                            {foundID},
		"spec.providerID=metal://fra-01/" + foundID:    {foundID},
		"metadata.namespace=team-a,status.ready=false": {"node-1"},
	} {
		parsed, err := fields.ParseSelector(selector)
		require.NoError(t, err)
		list, err := w.all[machine.Resource].main.List(in("team-a"), &metainternalversion.ListOptions{FieldSelector: parsed})
		assert.Equal(t, want, names(t, list, err), selector)
	}
}

func TestRecords_LeaveOutDiscoveredMetal(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.discover(foundID)
	create(t, w, machine.Resource, newMachine("node-1"))
	records, err := w.Machines().List(context.Background())
	require.NoError(t, err)
	require.Len(t, records, 1)
	assert.Equal(t, "node-1", records[0].Name)
	_, err = w.Clusters().Get(request.WithRequestInfo(in("team-a"), &request.RequestInfo{Resource: machine.Resource}), "team-a", "nobody")
	assert.ErrorContains(t, err, cluster.Resource, "the error names the resource that was asked for")
}

func TestMachineReferrers_FindsTheRecordThatNamesAMachine(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	m := newMachine("node-1")
	m.Spec.ProviderID = "metalstack://" + idleID
	create(t, w, machine.Resource, m)
	m = newMachine("node-2")
	m.Spec.ProviderID = "metal://fra-01/" + idleID
	_, err := w.all[machine.Resource].main.Create(in("team-a"), m, rest.ValidateAllObjectFunc, &metav1.CreateOptions{})
	require.True(t, apierrors.IsInvalid(err), "%v", err)
	assert.ErrorContains(t, err, "node-1")
}

func TestCreate_DryRunCreatesNothing(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	main := w.all[machine.Resource].main
	_, err := main.Create(in("team-a"), newMachine("node-1"), rest.ValidateAllObjectFunc, &metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	require.NoError(t, err)
	_, err = main.Get(in("team-a"), "node-1", &metav1.GetOptions{})
	assert.True(t, apierrors.IsNotFound(err), "%v", err)
}

func TestTable_ShowsColumns(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.discover(foundID)
	m := newMachine("node-1")
	m.Labels = map[string]string{infrastructure.ClusterNameLabel: "cluster-1"}
	create(t, w, machine.Resource, m)
	main := w.all[machine.Resource].main
	list, err := main.List(in("team-a"), &metainternalversion.ListOptions{})
	require.NoError(t, err)
	table, err := main.ConvertToTable(in("team-a"), list, nil)
	require.NoError(t, err)
	var narrow, wide []string
	for _, c := range table.ColumnDefinitions {
		if c.Priority == 0 {
			narrow = append(narrow, c.Name)
		} else {
			wide = append(wide, c.Name)
		}
	}
	assert.Equal(t, []string{"Name", "Cluster", "Ready", "Phase", "Liveliness", "Size", "Address", "Age"}, narrow)
	assert.Equal(t, []string{"ProviderID", "Image", "Partition", "Rack", "Managed"}, wide)
	require.Len(t, table.Rows, 2)
	assert.Equal(t, []any{foundID, "<none>", "True", "Phoned Home", "Alive", "v1-small-x86", "10.0.0.1", "60m",
		"metal://fra-01/" + foundID, "ubuntu-24.04.1", "fra-01", "rack-1", false}, table.Rows[0].Cells)
	assert.Equal(t, []any{"node-1", "cluster-1", "False", "Pending", "<none>", "v1-small-x86", "<none>", "0s",
		"<none>", "ubuntu-24.04", "<none>", "<none>", true}, table.Rows[1].Cells)
	assert.Equal(t, list.(*infrastructure.MetalStackMachineList).ResourceVersion, table.ResourceVersion)
}
