// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	firewallv2 "metal-stack.io/infrastructure-apiserver/pkg/apis/firewall/v2"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/memory"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/projection"
	"metal-stack.io/infrastructure-apiserver/pkg/registry"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/firewall"
	"metal-stack.io/infrastructure-apiserver/pkg/storage"
)

type derivedFirewalls = registry.DerivedREST[*infrastructure.MetalStackFirewall, *firewallv2.Firewall]

// firewallsEnvironment serves Firewalls of team-a and team-b.
type firewallsEnvironment struct {
	*environment
	*grants
	firewalls *derivedFirewalls
	origins   *registry.REST
	hidden    *atomic.Pointer[map[string]struct{}]
}

func inFirewallsEnvironment(t *testing.T, do func(*testing.T, *firewallsEnvironment)) {
	synctest.Test(t, func(t *testing.T) { do(t, newFirewallsEnvironment(t, nil)) })
}

func newFirewallsEnvironment(t *testing.T, a authorizer.Authorizer) *firewallsEnvironment {
	hidden := &atomic.Pointer[map[string]struct{}]{}
	hidden.Store(&map[string]struct{}{})
	backend, err := storage.NewBackend(t.Context(), storage.Options{Ledger: memory.New(), HiddenNamespaces: func() map[string]struct{} { return *hidden.Load() }})
	require.NoError(t, err)
	w := &firewallsEnvironment{hidden: hidden, environment: &environment{backend: backend, facts: facts{}}, grants: &grants{held: map[string]bool{"alice team-a": true, "admin *": true}}}
	if a == nil {
		a = w.grants
	}
	resolver := resolverOf(a, backend)
	go resolver.Run(t.Context())
	w.Resources, err = New(NewRESTOptionsGetter(backend, projection.Source{Facts: w.facts, Bindings: allBound{}, Clock: clock.RealClock{}}), allBound{}, resolver, anyCatalogue{}, nil)
	require.NoError(t, err)
	require.NoError(t, backend.Start(t.Context()))
	w.origins = w.all[firewall.Resource].main
	served := w.FirewallAPIGroup().VersionedResourcesStorageMap["v2"]
	w.firewalls = served["firewalls"].(*derivedFirewalls)
	return w
}

// allocate makes a MetalStackFirewall that holds a machine; its hostname is its name with
// "-host".
func (e *firewallsEnvironment) allocate(t *testing.T, namespace, name string, controller *infrastructure.FirewallController) {
	t.Helper()
	f := &infrastructure.MetalStackFirewall{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, Labels: map[string]string{"team": namespace}},
		Spec:       infrastructure.MetalStackFirewallSpec{Image: "firewall-ubuntu-3.0", MachineType: "v1-small-x86", Controller: controller},
	}
	_, err := e.origins.Create(in(namespace), f, rest.ValidateAllObjectFunc, &metav1.CreateOptions{})
	require.NoError(t, err)
	id := "machine-of-" + name
	e.facts[id] = &metal.Machine{
		ID: id, Partition: "fra-01", Size: "v1-small-x86", Liveliness: "Alive",
		Allocation: &metal.Allocation{
			UUID: "allocation-of-" + name, Project: namespace, Role: metal.RoleFirewall, Hostname: name + "-host", Created: time.Now(),
			Networks: []metal.MachineNetwork{{NetworkID: "n", Type: "privateprimaryunshared", Private: true, IPs: []string{"10.0.0.1"}}},
		},
	}
	e.record(t, namespace, name)
}

// record records the machine of a firewall.
func (e *firewallsEnvironment) record(t *testing.T, namespace, name string) {
	t.Helper()
	e.change(t, namespace, name, func(f *infrastructure.MetalStackFirewall) {
		f.Status.Allocation = &infrastructure.MachineAllocation{
			AllocationState: infrastructure.AllocationState{Phase: infrastructure.AllocationAllocated, UID: f.UID},
			MachineID:       "machine-of-" + name, AllocationUUID: "allocation-of-" + name,
		}
	})
}

func (e *firewallsEnvironment) change(t *testing.T, namespace, name string, change func(*infrastructure.MetalStackFirewall)) {
	t.Helper()
	_, err := e.Firewalls().Update(t.Context(), namespace, name, func(f *infrastructure.MetalStackFirewall) error {
		change(f)
		return nil
	})
	require.NoError(t, err)
}

func (e *firewallsEnvironment) watch(t *testing.T, ctx context.Context, options metainternalversion.ListOptions) watch.Interface {
	t.Helper()
	w, err := e.firewalls.Watch(ctx, &options)
	require.NoError(t, err)
	t.Cleanup(w.Stop)
	return w
}

func controlled() *infrastructure.FirewallController { return &infrastructure.FirewallController{} }

func TestFirewalls_GetIsByHostname(t *testing.T) {
	inFirewallsEnvironment(t, func(t *testing.T, w *firewallsEnvironment) {
		w.allocate(t, "team-a", "fw-1", controlled())
		w.allocate(t, "team-a", "static", nil)
		for _, revision := range []string{"", "0", "1"} {
			obj, err := w.firewalls.Get(in("team-a"), "fw-1-host", &metav1.GetOptions{ResourceVersion: revision})
			require.NoError(t, err, revision)
			f := obj.(*firewallv2.Firewall)
			assert.Equal(t, "fw-1-host", f.Name)
			origin, err := w.origins.Get(in("team-a"), "fw-1", &metav1.GetOptions{})
			require.NoError(t, err)
			assert.Equal(t, origin.(metav1.Object).GetResourceVersion(), f.ResourceVersion)
			assert.Equal(t, origin.(metav1.Object).GetUID(), f.UID)
		}
		for _, name := range []string{"fw-1", "static-host", "static", ""} {
			_, err := w.firewalls.Get(in("team-a"), name, &metav1.GetOptions{})
			require.True(t, apierrors.IsNotFound(err), "%s: %v", name, err)
			assert.Contains(t, err.Error(), `firewalls.firewall.metal-stack.io "`+name+`" not found`)
		}
		_, err := w.firewalls.Get(in("team-b"), "fw-1-host", &metav1.GetOptions{})
		require.True(t, apierrors.IsNotFound(err), "%v", err)
		obj, err := w.firewalls.Status().(rest.Getter).Get(in("team-a"), "fw-1-host", &metav1.GetOptions{})
		require.NoError(t, err)
		assert.Equal(t, "fw-1-host", obj.(*firewallv2.Firewall).Name)
	})
}

func TestFirewalls_GetOfSharedHostnameIsTheOlder(t *testing.T) {
	inFirewallsEnvironment(t, func(t *testing.T, w *firewallsEnvironment) {
		w.allocate(t, "team-a", "z-old", controlled())
		time.Sleep(time.Minute)
		w.allocate(t, "team-a", "a-new", controlled())
		for _, name := range []string{"z-old", "a-new"} {
			w.facts["machine-of-"+name].Allocation.Hostname = "shared"
		}
		w.backend.MetalChanged([]metal.Ref{{Kind: metal.KindMachine, ID: "machine-of-z-old"}, {Kind: metal.KindMachine, ID: "machine-of-a-new"}})
		obj, err := w.firewalls.Get(in("team-a"), "shared", &metav1.GetOptions{})
		require.NoError(t, err)
		assert.Equal(t, "machine-of-z-old", obj.(*firewallv2.Firewall).Status.MachineStatus.MachineID)
	})
}

func TestFirewalls_ListSelectsAndPages(t *testing.T) {
	inFirewallsEnvironment(t, func(t *testing.T, w *firewallsEnvironment) {
		for i := range 3 {
			w.allocate(t, "team-a", fmt.Sprintf("fw-%d", i), controlled())
			w.allocate(t, "team-a", fmt.Sprintf("static-%d", i), nil)
			w.allocate(t, "team-b", fmt.Sprintf("fw-%d", i+3), controlled())
		}
		all := []string{"fw-0-host", "fw-1-host", "fw-2-host", "fw-3-host", "fw-4-host", "fw-5-host"}
		for selector, want := range map[string][]string{
			"":                           all,
			"metadata.name=fw-1-host":    {"fw-1-host"},
			"metadata.name=fw-1":         {},
			"metadata.name=":             {},
			"metadata.name!=fw-1-host":   {"fw-0-host", "fw-2-host", "fw-3-host", "fw-4-host", "fw-5-host"},
			"metadata.namespace=team-b":  all[3:],
			"metadata.namespace!=team-b": all[:3],
			"metadata.name=fw-1-host,metadata.namespace=team-a": {"fw-1-host"},
			"metadata.name=fw-1-host,metadata.namespace=team-b": {},
		} {
			list, err := w.firewalls.List(as("admin", ""), field(selector))
			assert.Equal(t, want, names(t, list, err), selector)
		}
		list, err := w.firewalls.List(as("admin", ""), &metainternalversion.ListOptions{LabelSelector: labels.SelectorFromSet(labels.Set{"team": "team-b"})})
		assert.Equal(t, all[3:], names(t, list, err))

		var paged []string
		options := &metainternalversion.ListOptions{Limit: 2}
		for {
			list, err := w.firewalls.List(as("admin", ""), options)
			page := names(t, list, err)
			assert.LessOrEqual(t, len(page), 2)
			paged = append(paged, page...)
			options.Continue = list.(metav1.ListInterface).GetContinue()
			if options.Continue == "" {
				break
			}
		}
		assert.Equal(t, all, paged)

		origins, err := w.origins.List(as("admin", ""), nil)
		require.NoError(t, err)
		list, err = w.firewalls.List(as("admin", ""), nil)
		require.NoError(t, err)
		assert.Equal(t, origins.(metav1.ListInterface).GetResourceVersion(), list.(metav1.ListInterface).GetResourceVersion())
	})
}

func TestFirewalls_WatchFollowsWhatFirewallsFollowFrom(t *testing.T) {
	inFirewallsEnvironment(t, func(t *testing.T, w *firewallsEnvironment) {
		w.allocate(t, "team-a", "fw-1", controlled())
		events := w.watch(t, in("team-a"), metainternalversion.ListOptions{
			SendInitialEvents: ptr.To(true), AllowWatchBookmarks: true, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan,
		})
		expect(t, events, "ADDED fw-1-host")
		bookmark := <-events.ResultChan()
		assert.Equal(t, watch.Bookmark, bookmark.Type)
		assert.Equal(t, "true", bookmark.Object.(*firewallv2.Firewall).Annotations[metav1.InitialEventsAnnotationKey])
		assert.NotEmpty(t, bookmark.Object.(*firewallv2.Firewall).ResourceVersion)

		w.allocate(t, "team-a", "static", nil)
		w.change(t, "team-a", "fw-1", func(f *infrastructure.MetalStackFirewall) { f.Status.Distance = 3 })
		event := <-events.ResultChan()
		assert.Equal(t, watch.Modified, event.Type)
		origin, err := w.origins.Get(in("team-a"), "fw-1", &metav1.GetOptions{})
		require.NoError(t, err)
		assert.Equal(t, int32(3), event.Object.(*firewallv2.Firewall).Distance)
		assert.Equal(t, origin.(metav1.Object).GetResourceVersion(), event.Object.(*firewallv2.Firewall).ResourceVersion)

		w.change(t, "team-a", "static", func(f *infrastructure.MetalStackFirewall) { f.Spec.Controller = controlled() })
		expect(t, events, "ADDED static-host")
		w.change(t, "team-a", "static", func(f *infrastructure.MetalStackFirewall) { f.Spec.Controller = nil })
		deleted := <-events.ResultChan()
		assert.Equal(t, watch.Deleted, deleted.Type)
		gone := deleted.Object.(*firewallv2.Firewall)
		assert.Equal(t, "static-host", gone.Name)
		origin, err = w.origins.Get(in("team-a"), "static", &metav1.GetOptions{})
		require.NoError(t, err)
		assert.Equal(t, origin.(metav1.Object).GetResourceVersion(), gone.ResourceVersion, "the revision at which it went")

		w.change(t, "team-a", "fw-1", func(f *infrastructure.MetalStackFirewall) {
			f.Status.Allocation.Phase = infrastructure.AllocationReleasing
		})
		expect(t, events, "MODIFIED fw-1-host")
		w.change(t, "team-a", "fw-1", func(f *infrastructure.MetalStackFirewall) {
			f.Status.Allocation.Phase = infrastructure.AllocationReleased
		})
		expect(t, events, "DELETED fw-1-host")
	})
}

func TestFirewalls_WatchResumesFromList(t *testing.T) {
	inFirewallsEnvironment(t, func(t *testing.T, w *firewallsEnvironment) {
		w.allocate(t, "team-a", "fw-1", controlled())
		list, err := w.firewalls.List(in("team-a"), nil)
		require.NoError(t, err)
		from := metainternalversion.ListOptions{ResourceVersion: list.(metav1.ListInterface).GetResourceVersion(), FieldSelector: field("metadata.name=fw-2-host").FieldSelector}
		w.allocate(t, "team-a", "fw-2", controlled())
		w.allocate(t, "team-a", "fw-3", controlled())
		expect(t, w.watch(t, in("team-a"), from), "ADDED fw-2-host")
		from.ResourceVersion = "1"
		expect(t, w.watch(t, in("team-a"), from), "ERROR Expired", "END")
	})
}

// A firewall-controller whose Firewall is gone lets everything through.
func TestFirewalls_AreNotListedBeforeTheirMachinesAreObserved(t *testing.T) {
	inFirewallsEnvironment(t, func(t *testing.T, w *firewallsEnvironment) {
		w.allocate(t, "team-a", "fw-1", controlled())
		w.allocate(t, "team-b", "fw-2", controlled())
		resume := w.watch(t, in("team-a"), metainternalversion.ListOptions{})
		expect(t, resume, "ADDED fw-1-host")

		// What a server shows of fw-3 that has not observed its machine.
		w.allocate(t, "team-a", "fw-3", nil)
		m := w.facts["machine-of-fw-3"]
		delete(w.facts, "machine-of-fw-3")
		w.change(t, "team-a", "fw-3", func(f *infrastructure.MetalStackFirewall) {
			f.Status.Allocation.AllocationUUID, f.Spec.Controller = "allocation-of-fw-3-2", controlled()
		})
		reads := map[string]func() error{
			"list": func() error { _, err := w.firewalls.List(in("team-a"), nil); return err },
			"list from view": func() error {
				_, err := w.firewalls.List(in("team-a"), &metainternalversion.ListOptions{ResourceVersion: "0"})
				return err
			},
			"list of another name": func() error { _, err := w.firewalls.List(in("team-a"), field("metadata.name=fw-3-host")); return err },
			"watch": func() error {
				_, err := w.firewalls.Watch(in("team-a"), &metainternalversion.ListOptions{})
				return err
			},
			"get": func() error { _, err := w.firewalls.Get(in("team-a"), "fw-3-host", &metav1.GetOptions{}); return err },
		}
		for name, read := range reads {
			err := read()
			require.True(t, apierrors.IsServiceUnavailable(err), "%s: %v", name, err)
			delay, suggested := apierrors.SuggestsClientDelay(err)
			assert.True(t, suggested, name)
			assert.Equal(t, 1, delay, name)
		}
		_, err := w.firewalls.Get(in("team-a"), "fw-1-host", &metav1.GetOptions{})
		require.NoError(t, err, "others are got")
		list, err := w.firewalls.List(in("team-a"), field("metadata.name=fw-1-host"))
		assert.Equal(t, []string{"fw-1-host"}, names(t, list, err), "and listed by name")
		list, err = w.firewalls.List(as("admin", ""), nil)
		assert.Equal(t, []string{"fw-1-host", "fw-2-host"}, names(t, list, err), "across namespaces")
		list, err = w.firewalls.List(as("admin", "team-b"), nil)
		assert.Equal(t, []string{"fw-2-host"}, names(t, list, err), "and listed elsewhere")

		m.Allocation.UUID = "allocation-of-fw-3-2"
		w.facts["machine-of-fw-3"] = m
		w.backend.MetalChanged([]metal.Ref{{Kind: metal.KindMachine, ID: "machine-of-fw-3"}})
		expect(t, resume, "ADDED fw-3-host")
		for name, read := range reads {
			require.NoError(t, read(), name)
		}
	})
}

func TestFirewalls_OfHiddenNamespacesAreNotThere(t *testing.T) {
	inFirewallsEnvironment(t, func(t *testing.T, w *firewallsEnvironment) {
		w.allocate(t, "team-a", "fw-1", controlled())
		w.allocate(t, "team-b", "fw-2", controlled())
		events := w.watch(t, in("team-a"), metainternalversion.ListOptions{})
		expect(t, events, "ADDED fw-1-host")
		w.hidden.Store(&map[string]struct{}{"team-a": {}})
		w.backend.HiddenNamespacesChanged()
		expect(t, events, "ERROR Expired", "END")
		_, err := w.firewalls.Get(in("team-a"), "fw-1-host", &metav1.GetOptions{})
		require.True(t, apierrors.IsNotFound(err), "%v", err)
		list, err := w.firewalls.List(as("admin", ""), nil)
		assert.Equal(t, []string{"fw-2-host"}, names(t, list, err))
		list, err = w.firewalls.List(in("team-a"), nil)
		assert.Empty(t, names(t, list, err))
	})
}

// resourceGrants is an authorizer: who may get which resource in team-a.
type resourceGrants map[string]string

func (g resourceGrants) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	if a.GetVerb() == "get" && a.GetNamespace() == "team-a" && g[a.GetUser().GetName()] == a.GetResource()+"."+a.GetAPIGroup() {
		return authorizer.DecisionAllow, "", nil
	}
	return authorizer.DecisionNoOpinion, "", nil
}

func TestFirewalls_AreShownByTheirOwnRights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFirewallsEnvironment(t, resourceGrants{"controller": "firewalls.firewall.metal-stack.io", "owner": "metalstackfirewalls.infrastructure.cluster.x-k8s.io"})
		w.allocate(t, "team-a", "fw-1", controlled())
		w.allocate(t, "team-b", "fw-2", controlled())

		list, err := w.firewalls.List(as("controller", ""), nil)
		assert.Equal(t, []string{"fw-1-host"}, names(t, list, err))
		list, err = w.firewalls.List(as("controller", "team-a"), nil)
		assert.Equal(t, []string{"fw-1-host"}, names(t, list, err))
		expect(t, w.watch(t, as("controller", ""), metainternalversion.ListOptions{}), "ADDED fw-1-host")
		list, err = w.origins.List(as("controller", ""), nil)
		assert.Empty(t, names(t, list, err))
		_, err = w.origins.List(as("controller", "team-a"), nil)
		require.True(t, apierrors.IsForbidden(err), "%v", err)

		list, err = w.firewalls.List(as("owner", ""), nil)
		assert.Empty(t, names(t, list, err))
		for _, who := range []string{"controller", "owner"} {
			for _, namespace := range []string{"team-b", "nowhere"} {
				_, err = w.firewalls.List(as(who, namespace), nil)
				require.True(t, apierrors.IsForbidden(err), "%v", err)
				assert.Contains(t, err.Error(), "firewalls.firewall.metal-stack.io is forbidden")
				_, err = w.firewalls.Watch(as(who, namespace), &metainternalversion.ListOptions{})
				require.True(t, apierrors.IsForbidden(err), "%v", err)
				_, err = w.firewalls.List(as(who, ""), field("metadata.namespace="+namespace))
				require.True(t, apierrors.IsForbidden(err), "%v", err)
			}
		}
		list, err = w.origins.List(as("owner", ""), nil)
		assert.Equal(t, []string{"fw-1"}, names(t, list, err))
	})
}

func TestFirewalls_WatchEndsWhenAccessChanges(t *testing.T) {
	inFirewallsEnvironment(t, func(t *testing.T, w *firewallsEnvironment) {
		w.allocate(t, "team-a", "fw-1", controlled())
		w.allocate(t, "team-b", "fw-2", controlled())
		events := w.watch(t, as("alice", ""), metainternalversion.ListOptions{})
		expect(t, events, "ADDED fw-1-host")
		synctest.Wait() // fw-2 has been filtered
		w.set("alice", "team-b", true)
		expect(t, events, "ERROR Expired", "END")
	})
}

func TestFirewalls_AreReadOnly(t *testing.T) {
	inFirewallsEnvironment(t, func(t *testing.T, w *firewallsEnvironment) {
		for name, storage := range w.FirewallAPIGroup().VersionedResourcesStorageMap["v2"] {
			_, creates := storage.(rest.Creater)
			_, updates := storage.(rest.Updater)
			_, patches := storage.(rest.Patcher)
			_, deletes := storage.(rest.GracefulDeleter)
			_, deletesAll := storage.(rest.CollectionDeleter)
			_, connects := storage.(rest.Connecter)
			assert.False(t, creates || updates || patches || deletes || deletesAll || connects, name)
		}
	})
}

func TestFirewalls_TableHasColumns(t *testing.T) {
	inFirewallsEnvironment(t, func(t *testing.T, w *firewallsEnvironment) {
		w.allocate(t, "team-a", "fw-1", controlled())
		list, err := w.firewalls.List(in("team-a"), nil)
		require.NoError(t, err)
		table, err := w.firewalls.ConvertToTable(in("team-a"), list, nil)
		require.NoError(t, err)
		require.Len(t, table.Rows, 1)
		assert.Regexp(t, seconds, table.Rows[0].Cells[4])
		assert.Equal(t, []any{"fw-1-host", "machine-of-fw-1", "<none>", int32(0), table.Rows[0].Cells[4], "10s", "<none>"}, table.Rows[0].Cells)
		assert.Len(t, table.ColumnDefinitions, len(table.Rows[0].Cells))
		partial, err := meta.Accessor(table.Rows[0].Object.Object)
		require.NoError(t, err)
		assert.Equal(t, "fw-1-host", partial.GetName())
	})
}
