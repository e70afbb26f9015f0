// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/memory"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/projection"
	"metal-stack.io/infrastructure-apiserver/pkg/registry"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/references"
	"metal-stack.io/infrastructure-apiserver/pkg/storage"
	"metal-stack.io/infrastructure-apiserver/pkg/tenancy"
	"metal-stack.io/infrastructure-apiserver/pkg/visibility"
)

const (
	projectA = "10000000-0000-4000-8000-00000000000a"
	idleID   = "2294c949-88f6-5390-8154-fa53d93a3313"
	foundID  = "e0ab02d2-27cd-5a5e-8efc-080ba80cf258"
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

func (teamABinding) Project(namespace string) (string, bool) { return projectA, namespace == "team-a" }
func (teamABinding) Namespace(p string) (string, bool)       { return "team-a", p == projectA }

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
	return &metal.IP{Address: address.String(), Project: project, NetworkID: "internet", Type: metal.TypeStatic}, nil, nil
}

func (anyCatalogue) LookupNetwork(_ context.Context, id, project string) (*metal.Network, []string, error) {
	return &metal.Network{ID: id, Project: project}, []string{id}, nil
}

func (anyCatalogue) LookupSuperNetwork(context.Context, string) (*metal.Network, error) {
	return nil, nil
}

func newEnvironment(t testing.TB, offers ...references.Catalogue) *environment {
	t.Helper()
	return newEnvironmentWith(t, memory.New(), nil, append(offers, anyCatalogue{})[0])
}

// newEnvironmentWith is over records that may be there already, in a cluster if there are
// owners.
func newEnvironmentWith(t testing.TB, records ledger.Ledger, clusterOwners registry.OwnerLookup, offers references.Catalogue) *environment {
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
func (e *environment) discover(id string) {
	e.facts[id] = &metal.Machine{
		ID: id, Partition: "fra-01", Rack: "rack-1", Size: "v1-small-x86", Liveliness: "Alive",
		Allocation: &metal.Allocation{
			UUID: "a", Project: projectA, Role: metal.RoleMachine, Image: "ubuntu-24.04.1", Created: time.Now().Add(-time.Hour),
			Networks: []metal.MachineNetwork{{NetworkID: "n", Private: true, IPs: []string{"10.0.0.1"}}},
		},
		Events: []metal.Event{{Event: "Phoned Home", Time: time.Now()}},
	}
	e.backend.MetalChanged([]metal.Ref{{Kind: metal.KindMachine, ID: id}})
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
