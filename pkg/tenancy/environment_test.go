// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	metadatafake "k8s.io/client-go/metadata/fake"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/memory"
)

const projectC = "10000000-0000-4000-8000-00000000000c"

// environment is a cluster's Namespaces, a ledger, and servers that come and go.
type environment struct {
	t      *testing.T
	clock  *clocktesting.FakeClock
	ledger ledger.Ledger

	mu         sync.Mutex
	namespaces map[string]namespace
	hasRecords map[string]bool
	oldest     map[string]time.Time // of the records of a namespace
	origins    map[string][]Origin  // of the records of a namespace
	// stale is what the watch shows, if it is behind; nil: it is not.
	stale map[string]namespace
	// gets counts gets of Namespaces, and fails is their error.
	gets     map[string]int
	getError error
	// listError is the error of live lists.
	listError error
	removed   map[string]int // how many Namespaces of a name are gone
	events    []string
	changes   [][2][]string
	version   int
}

func newEnvironment(t *testing.T) *environment {
	return &environment{
		t: t, clock: clocktesting.NewFakeClock(time.Unix(1e9, 0)), ledger: memory.New(),
		namespaces: map[string]namespace{}, hasRecords: map[string]bool{}, oldest: map[string]time.Time{}, gets: map[string]int{}, removed: map[string]int{},
	}
}

// label makes a namespace, or changes its label; "" takes the label off.
func (e *environment) label(name, project string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.version++
	ns, known := e.namespaces[name]
	if !known {
		// Another one of the same name has another uid.
		ns = namespace{name: name, uid: types.UID("uid-of-" + name + strings.Repeat("-again", e.removed[name])), created: time.Unix(int64(e.version), 0)}
	}
	ns.resourceVersion, ns.labeled, ns.project = fmt.Sprint(e.version), project != "", project
	e.namespaces[name] = ns
}

// startDeletion begins to delete a namespace.
func (e *environment) startDeletion(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	ns := e.namespaces[name]
	ns.deleting = true
	e.namespaces[name] = ns
}

func (e *environment) remove(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.namespaces, name)
	e.removed[name]++
}

func (e *environment) setHasRecords(name string, holds bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.hasRecords[name] = holds
}

func (e *environment) list() []namespace {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stale != nil {
		return slices.Collect(maps.Values(e.stale))
	}
	return slices.Collect(maps.Values(e.namespaces))
}

// listLive lists Namespaces as they are, whatever the watch shows.
func (e *environment) listLive(ctx context.Context) ([]namespace, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, limited := ctx.Deadline(); !limited {
		e.t.Error("a list has no deadline")
	}
	if e.listError != nil {
		return nil, e.listError
	}
	return slices.Collect(maps.Values(e.namespaces)), nil
}

// stallWatch has the watch show from now on what there is now, until the clock of the
// watch goes on.
func (e *environment) stallWatch() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stale = maps.Clone(e.namespaces)
}

func (e *environment) resumeWatch() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stale = nil
}

// failGets makes gets of Namespaces fail; nil ends that.
func (e *environment) failGets(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.getError = err
}

// getNamespace gets a Namespace, as Config.GetNamespace does.
func (e *environment) getNamespace(ctx context.Context, name string) (metav1.Object, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, limited := ctx.Deadline(); !limited {
		e.t.Error("a get has no deadline")
	}
	e.gets[name]++
	ns, found := e.namespaces[name]
	switch {
	case e.getError != nil:
		return nil, e.getError
	case !found:
		return nil, apierrors.NewNotFound(resource.GroupResource(), name)
	}
	m := namespaceObjectWithUID(name, ns.resourceVersion, ns.project, string(ns.uid))
	if ns.labeled && ns.project == "" {
		m.Labels = map[string]string{infrastructure.ProjectLabel: ""}
	}
	if ns.deleting {
		m.DeletionTimestamp = &metav1.Time{Time: e.clock.Now()}
	}
	return m, nil
}

// takeGets returns how many gets of Namespaces there were since the last call.
func (e *environment) takeGets() (total int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, count := range e.gets {
		total += count
	}
	clear(e.gets)
	return total
}

// Eventf implements events.EventRecorder.
func (e *environment) Eventf(regarding, _ runtime.Object, kind, reason, action, note string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	about := regarding.(*corev1.ObjectReference)
	require.Equal(e.t, "Namespace", about.Kind)
	require.Regexp(e.t, "^(uid-of-"+about.Name+"(-again)*|"+string(unknownUID)+")$", string(about.UID))
	require.NotEmpty(e.t, action)
	e.events = append(e.events, fmt.Sprintf("%s %s %s: %s", about.Name, kind, reason, fmt.Sprintf(note, args...)))
}

// takeEvents returns the events since the last call.
func (e *environment) takeEvents() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	events := e.events
	e.events = nil
	return events
}

// newServer is a server that has just started.
func (e *environment) newServer() *binder {
	n := NewNamespaces(metadatafake.NewSimpleMetadataClient(metadatafake.NewTestScheme()), e, e.clock)
	n.active.Store(true)
	return newBinder(n, e.config(), e.list, e.listLive)
}

func (e *environment) config() Config {
	return Config{
		Ledger: e.ledger,
		HasRecords: func(name string) bool {
			e.mu.Lock()
			defer e.mu.Unlock()
			return e.hasRecords[name]
		},
		OldestRecord: func(name string) time.Time {
			e.mu.Lock()
			defer e.mu.Unlock()
			return e.oldest[name]
		},
		Origins: func() map[string][]Origin {
			e.mu.Lock()
			defer e.mu.Unlock()
			return maps.Clone(e.origins)
		},
		GetNamespace: e.getNamespace,
		OnChange: func(namespaces, projects []string) {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.changes = append(e.changes, [2][]string{namespaces, projects})
		},
	}
}

// reconcile has a server reconcile all bindings.
func (e *environment) reconcile(b *binder) *binder {
	e.t.Helper()
	_, err := b.reconcile(context.Background())
	require.NoError(e.t, err)
	return b
}

// projectOf returns the project that a namespace is bound to, "" for nothing.
func projectOf(n Bindings, namespace string) string {
	project, _ := n.Project(namespace)
	return project
}

// runningServer is a server over Namespaces in an API.
type runningServer struct {
	*environment
	*Namespaces
	api *metadatafake.FakeMetadataClient
}

// startServer runs a server until the test ends.
func startServer(t *testing.T, e *environment, objects ...runtime.Object) *runningServer {
	t.Helper()
	return startReplica(t, e, false, objects...)
}

func newMetadataScheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	scheme := metadatafake.NewTestScheme()
	require.NoError(t, metav1.AddMetaToScheme(scheme))
	return scheme
}

func startReplica(t *testing.T, e *environment, standBy bool, objects ...runtime.Object) *runningServer {
	t.Helper()
	c := &runningServer{environment: e, api: metadatafake.NewSimpleMetadataClient(newMetadataScheme(t), objects...)}
	c.Namespaces = NewNamespaces(c.api, e, clock.RealClock{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	keeping := e.config()
	keeping.Standby = standBy
	keeping.GetNamespace = func(ctx context.Context, name string) (metav1.Object, error) {
		return c.api.Resource(resource).Get(ctx, name, metav1.GetOptions{})
	}
	go func() {
		defer close(done)
		c.Run(ctx, keeping)
	}()
	t.Cleanup(func() { cancel(); <-done })
	require.Eventually(t, c.Synced, time.Minute, time.Millisecond)
	return c
}

func namespaceObject(name, version, project string) *metav1.PartialObjectMetadata {
	return namespaceObjectWithUID(name, version, project, "uid-of-"+name)
}

func namespaceObjectWithUID(name, version, project, uid string) *metav1.PartialObjectMetadata {
	m := &metav1.PartialObjectMetadata{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(uid), ResourceVersion: version},
	}
	if project != "" {
		m.Labels = map[string]string{infrastructure.ProjectLabel: project}
	}
	return m
}
