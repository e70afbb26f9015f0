// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger/memory"
	"metal-stack.io/infrastructure-apiserver/pkg/projection"
	"metal-stack.io/infrastructure-apiserver/pkg/registry"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/machine"
	"metal-stack.io/infrastructure-apiserver/pkg/storage"
)

// grants is an authorizer: who may get what is where. "*" is everywhere.
type grants struct {
	mu   sync.Mutex
	held map[string]bool
	err  error
}

func (g *grants) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err != nil {
		return authorizer.DecisionNoOpinion, "", g.err
	}
	who := a.GetUser().GetName()
	if a.GetVerb() == "get" && (g.held[who+" "+a.GetNamespace()] || g.held[who+" *"]) {
		return authorizer.DecisionAllow, "", nil
	}
	return authorizer.DecisionNoOpinion, "", nil
}

func (g *grants) set(who, namespace string, held bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held[who+" "+namespace] = held
}

// allBound binds every namespace to a project of its own name.
type allBound struct{}

func (allBound) Project(namespace string) (string, bool) { return namespace, true }
func (allBound) Namespace(project string) (string, bool) { return project, true }
func (allBound) BeginCreate(context.Context, schema.GroupResource, string, string) (func(), error) {
	return func() {}, nil
}

// visibilityEnvironment has machines in team-a and team-b; alice may get those in team-a,
// and admin all.
type visibilityEnvironment struct {
	*grants
	machines *registry.REST
}

func inVisibilityEnvironment(t *testing.T, do func(*testing.T, *visibilityEnvironment)) {
	synctest.Test(t, func(t *testing.T) {
		backend, err := storage.NewBackend(t.Context(), storage.Options{Ledger: memory.New()})
		require.NoError(t, err)
		w := &visibilityEnvironment{grants: &grants{held: map[string]bool{"alice team-a": true, "admin *": true}}}
		resolver := resolverOf(w.grants, backend)
		go resolver.Run(t.Context())
		resources, err := New(NewRESTOptionsGetter(backend, projection.Source{Facts: facts{}, Bindings: allBound{}, Clock: clock.RealClock{}}), allBound{}, resolver, anyCatalogue{}, nil)
		require.NoError(t, err)
		require.NoError(t, backend.Start(t.Context()))
		w.machines = resources.all[machine.Resource].main
		for _, namespace := range []string{"team-a", "team-b"} {
			for i := range 3 {
				w.create(t, namespace, fmt.Sprintf("%s-%d", namespace, i))
			}
		}
		do(t, w)
	})
}

func (e *visibilityEnvironment) create(t *testing.T, namespace, name string) {
	t.Helper()
	m := newMachine(name)
	m.Namespace, m.Labels = namespace, map[string]string{"team": namespace}
	_, err := e.machines.Create(in(namespace), m, rest.ValidateAllObjectFunc, &metav1.CreateOptions{})
	require.NoError(t, err)
}

func (e *visibilityEnvironment) watch(t *testing.T, ctx context.Context, options metainternalversion.ListOptions) watch.Interface {
	t.Helper()
	watch, err := e.machines.Watch(ctx, &options)
	require.NoError(t, err)
	t.Cleanup(watch.Stop)
	return watch
}

// expect compares the next events with "TYPE NAME" or "ERROR REASON", and
// "END" if there are no more.
func expect(t *testing.T, w watch.Interface, want ...string) {
	t.Helper()
	for _, words := range want {
		select {
		case event, open := <-w.ResultChan():
			said := "END"
			if open {
				said = string(event.Type)
				if status, failed := event.Object.(*metav1.Status); failed {
					said += " " + string(status.Reason)
				} else if obj, err := meta.Accessor(event.Object); err == nil && obj.GetName() != "" {
					said += " " + obj.GetName()
				}
			}
			require.Equal(t, words, said)
		case <-time.After(5 * time.Minute):
			t.Fatalf("no event instead of %q", words)
		}
	}
}

func field(selector string) *metainternalversion.ListOptions {
	return &metainternalversion.ListOptions{FieldSelector: fields.ParseSelectorOrDie(selector)}
}

func TestList_AcrossNamespacesShowsVisibleObjects(t *testing.T) {
	inVisibilityEnvironment(t, func(t *testing.T, w *visibilityEnvironment) {
		for selector, want := range map[string][]string{
			"":                            {"team-a-0", "team-a-1", "team-a-2"},
			"metadata.name!=team-a-1":     {"team-a-0", "team-a-2"},
			"metadata.namespace!=team-a":  {},
			"status.metal.phase=Pending":  {"team-a-0", "team-a-1", "team-a-2"},
			"metadata.name=team-b-0":      {},
			"spec.providerID=":            {"team-a-0", "team-a-1", "team-a-2"},
			"metadata.namespace=team-a":   {"team-a-0", "team-a-1", "team-a-2"},
			"metadata.namespace!=nowhere": {"team-a-0", "team-a-1", "team-a-2"},
		} {
			list, err := w.machines.List(as("alice", ""), field(selector))
			assert.Equal(t, want, names(t, list, err), selector)
		}
		list, err := w.machines.List(as("admin", ""), nil)
		assert.Len(t, names(t, list, err), 6)
		list, err = w.machines.List(as("bob", ""), nil)
		assert.Empty(t, names(t, list, err))
	})
}

func TestList_OfForeignNamespaceIsForbidden(t *testing.T) {
	inVisibilityEnvironment(t, func(t *testing.T, w *visibilityEnvironment) {
		texts := map[string]bool{}
		for _, namespace := range []string{"team-b", "nowhere"} {
			for _, ask := range []func() error{
				func() error { _, err := w.machines.List(as("alice", namespace), nil); return err },
				func() error {
					_, err := w.machines.List(as("alice", ""), field("metadata.namespace="+namespace))
					return err
				},
				func() error {
					_, err := w.machines.List(as("alice", namespace), &metainternalversion.ListOptions{Limit: 1, ResourceVersion: "0"})
					return err
				},
				func() error {
					_, err := w.machines.Watch(as("alice", namespace), &metainternalversion.ListOptions{})
					return err
				},
				func() error {
					_, err := w.machines.Watch(as("alice", ""), field("metadata.namespace="+namespace))
					return err
				},
				func() error {
					_, err := w.machines.DeleteCollection(as("alice", namespace), rest.ValidateAllObjectFunc, &metav1.DeleteOptions{}, nil)
					return err
				},
			} {
				err := ask()
				require.True(t, apierrors.IsForbidden(err), "%v", err)
				texts[strings.ReplaceAll(err.Error(), namespace, "NAMESPACE")] = true
			}
		}
		assert.Len(t, texts, 1, "%v", texts)
	})
}

func TestDeleteCollection_DeletesVisibleObjectsOnly(t *testing.T) {
	inVisibilityEnvironment(t, func(t *testing.T, w *visibilityEnvironment) {
		list, err := w.machines.DeleteCollection(as("alice", "team-a"), rest.ValidateAllObjectFunc, &metav1.DeleteOptions{}, nil)
		assert.Equal(t, []string{"team-a-0", "team-a-1", "team-a-2"}, names(t, list, err))
		// No request of Kubernetes deletes across namespaces. If one did, it could
		// not delete by name alone.
		list, err = w.machines.DeleteCollection(as("bob", ""), rest.ValidateAllObjectFunc, &metav1.DeleteOptions{}, nil)
		assert.Empty(t, names(t, list, err))
	})
}

func TestWatch_SendsInitialEvents(t *testing.T) {
	inVisibilityEnvironment(t, func(t *testing.T, w *visibilityEnvironment) {
		watch := w.watch(t, as("alice", ""), metainternalversion.ListOptions{
			SendInitialEvents: ptr.To(true), AllowWatchBookmarks: true, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan,
		})
		expect(t, watch, "ADDED team-a-0", "ADDED team-a-1", "ADDED team-a-2", "BOOKMARK")
		w.create(t, "team-b", "team-b-3")
		w.create(t, "team-a", "team-a-3")
		expect(t, watch, "ADDED team-a-3")
		assert.Positive(t, cap(watch.ResultChan()), "the generic server flushes events together that wait in the channel")
	})
}

func TestWatch_ResumesFromItsList(t *testing.T) {
	inVisibilityEnvironment(t, func(t *testing.T, w *visibilityEnvironment) {
		list, err := w.machines.List(as("alice", ""), nil)
		require.NoError(t, err)
		from := metainternalversion.ListOptions{ResourceVersion: list.(metav1.ListInterface).GetResourceVersion()}
		w.create(t, "team-b", "team-b-3")
		w.create(t, "team-a", "team-a-3")
		time.Sleep(time.Minute)
		expect(t, w.watch(t, as("alice", ""), from), "ADDED team-a-3")

		// The list of another user is not one that shows the same.
		list, err = w.machines.List(as("admin", ""), nil)
		require.NoError(t, err)
		w.set("carol", "team-b", true)
		from.ResourceVersion = list.(metav1.ListInterface).GetResourceVersion()
		expect(t, w.watch(t, as("carol", ""), from), "ERROR Expired", "END")
	})
}

// A list of a namespace does not show what its user could see in others. So the first
// watches across namespaces that resume from it end, even those of an administrator.
func TestWatch_ResumesFromANamespacesListOnlyIfTheUsersAccessIsKnown(t *testing.T) {
	inVisibilityEnvironment(t, func(t *testing.T, w *visibilityEnvironment) {
		from := func() metainternalversion.ListOptions {
			list, err := w.machines.List(as("admin", "team-a"), &metainternalversion.ListOptions{Limit: 1})
			require.NoError(t, err)
			return metainternalversion.ListOptions{ResourceVersion: list.(metav1.ListInterface).GetResourceVersion()}
		}
		unknown := from()
		for range 3 {
			expect(t, w.watch(t, as("admin", ""), unknown), "ERROR Expired", "END")
		}
		known := from()
		w.create(t, "team-b", "team-b-3")
		for range 3 {
			expect(t, w.watch(t, as("admin", ""), known), "ADDED team-b-3")
		}
	})
}

func TestWatch_ExpiresWhenVisibilityChanges(t *testing.T) {
	inVisibilityEnvironment(t, func(t *testing.T, w *visibilityEnvironment) {
		for _, held := range []bool{true, false} {
			all := w.watch(t, as("alice", ""), metainternalversion.ListOptions{SendInitialEvents: ptr.To(true), AllowWatchBookmarks: true})
			named := w.watch(t, as("alice", "team-a"), metainternalversion.ListOptions{SendInitialEvents: ptr.To(false)})
			for event := range all.ResultChan() {
				if event.Type == watch.Bookmark {
					break
				}
			}
			w.set("alice", "team-b", held)
			expect(t, all, "ERROR Expired", "END")
			name := fmt.Sprintf("team-a-%v", held)
			w.create(t, "team-a", name)
			expect(t, named, "ADDED "+name)
			named.Stop()
		}
	})
}

func TestWatch_SendsNothingAfterUndecidedVisibility(t *testing.T) {
	inVisibilityEnvironment(t, func(t *testing.T, w *visibilityEnvironment) {
		watch := w.watch(t, as("alice", ""), metainternalversion.ListOptions{SendInitialEvents: ptr.To(true), AllowWatchBookmarks: true})
		expect(t, watch, "ADDED team-a-0", "ADDED team-a-1", "ADDED team-a-2", "BOOKMARK")
		w.mu.Lock()
		w.err = errors.New("away")
		w.mu.Unlock()
		w.create(t, "team-c", "team-c-0")
		w.create(t, "team-a", "team-a-3")
		expect(t, watch, "ERROR ServiceUnavailable", "END")
	})
}

func TestList_FailsIfVisibilityIsUndecided(t *testing.T) {
	inVisibilityEnvironment(t, func(t *testing.T, w *visibilityEnvironment) {
		list, err := w.machines.List(as("alice", ""), nil)
		require.Len(t, names(t, list, err), 3)
		w.create(t, "team-c", "team-c-0")
		w.mu.Lock()
		w.err = errors.New("away")
		w.mu.Unlock()
		_, err = w.machines.List(as("alice", ""), nil)
		assert.True(t, apierrors.IsServiceUnavailable(err), "%v", err)
	})
}

func TestList_RequiresAUser(t *testing.T) {
	inVisibilityEnvironment(t, func(t *testing.T, w *visibilityEnvironment) {
		noNamespace := request.WithNamespace(context.Background(), "")
		_, err := w.machines.List(noNamespace, nil)
		assert.Error(t, err)
		_, err = w.machines.Watch(noNamespace, &metainternalversion.ListOptions{})
		assert.Error(t, err)
	})
}
