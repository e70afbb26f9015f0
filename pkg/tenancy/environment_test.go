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
func (b *environment) label(name, project string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.version++
	ns, known := b.namespaces[name]
	if !known {
		// Another one of the same name has another uid.
		ns = namespace{name: name, uid: types.UID("uid-of-" + name + strings.Repeat("-again", b.removed[name])), created: time.Unix(int64(b.version), 0)}
	}
	ns.resourceVersion, ns.labeled, ns.project = fmt.Sprint(b.version), project != "", project
	b.namespaces[name] = ns
}

// startDeletion begins to delete a namespace.
func (b *environment) startDeletion(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ns := b.namespaces[name]
	ns.deleting = true
	b.namespaces[name] = ns
}

func (b *environment) remove(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.namespaces, name)
	b.removed[name]++
}

func (b *environment) setHasRecords(name string, holds bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hasRecords[name] = holds
}

func (b *environment) list() []namespace {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stale != nil {
		return slices.Collect(maps.Values(b.stale))
	}
	return slices.Collect(maps.Values(b.namespaces))
}

// listLive lists Namespaces as they are, whatever the watch shows.
func (b *environment) listLive(ctx context.Context) ([]namespace, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, limited := ctx.Deadline(); !limited {
		b.t.Error("a list has no deadline")
	}
	if b.listError != nil {
		return nil, b.listError
	}
	return slices.Collect(maps.Values(b.namespaces)), nil
}

// stallWatch has the watch show from now on what there is now, until the clock of the
// watch goes on.
func (b *environment) stallWatch() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stale = maps.Clone(b.namespaces)
}

func (b *environment) resumeWatch() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stale = nil
}

// failGets makes gets of Namespaces fail; nil ends that.
func (b *environment) failGets(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.getError = err
}

// getNamespace gets a Namespace, as Config.GetNamespace does.
func (b *environment) getNamespace(ctx context.Context, name string) (metav1.Object, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, limited := ctx.Deadline(); !limited {
		b.t.Error("a get has no deadline")
	}
	b.gets[name]++
	ns, found := b.namespaces[name]
	switch {
	case b.getError != nil:
		return nil, b.getError
	case !found:
		return nil, apierrors.NewNotFound(resource.GroupResource(), name)
	}
	m := namespaceObjectWithUID(name, ns.resourceVersion, ns.project, string(ns.uid))
	if ns.labeled && ns.project == "" {
		m.Labels = map[string]string{infrastructure.ProjectLabel: ""}
	}
	if ns.deleting {
		m.DeletionTimestamp = &metav1.Time{Time: b.clock.Now()}
	}
	return m, nil
}

// takeGets returns how many gets of Namespaces there were since the last call.
func (b *environment) takeGets() (total int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, count := range b.gets {
		total += count
	}
	clear(b.gets)
	return total
}

// Eventf implements events.EventRecorder.
func (b *environment) Eventf(regarding, _ runtime.Object, kind, reason, action, note string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	about := regarding.(*corev1.ObjectReference)
	require.Equal(b.t, "Namespace", about.Kind)
	require.Regexp(b.t, "^(uid-of-"+about.Name+"(-again)*|"+string(unknownUID)+")$", string(about.UID))
	require.NotEmpty(b.t, action)
	b.events = append(b.events, fmt.Sprintf("%s %s %s: %s", about.Name, kind, reason, fmt.Sprintf(note, args...)))
}

// takeEvents returns the events since the last call.
func (b *environment) takeEvents() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	events := b.events
	b.events = nil
	return events
}

// newServer is a server that has just started.
func (b *environment) newServer() *binder {
	n := NewNamespaces(metadatafake.NewSimpleMetadataClient(metadatafake.NewTestScheme()), b, b.clock)
	n.active.Store(true)
	return newBinder(n, b.config(), b.list, b.listLive)
}

func (b *environment) config() Config {
	return Config{
		Ledger: b.ledger,
		HasRecords: func(name string) bool {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.hasRecords[name]
		},
		OldestRecord: func(name string) time.Time {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.oldest[name]
		},
		Origins: func() map[string][]Origin {
			b.mu.Lock()
			defer b.mu.Unlock()
			return maps.Clone(b.origins)
		},
		GetNamespace: b.getNamespace,
		OnChange: func(namespaces, projects []string) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.changes = append(b.changes, [2][]string{namespaces, projects})
		},
	}
}

// reconcile has a server reconcile all bindings.
func (b *environment) reconcile(k *binder) *binder {
	b.t.Helper()
	_, err := k.reconcile(context.Background())
	require.NoError(b.t, err)
	return k
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
func startServer(t *testing.T, b *environment, objects ...runtime.Object) *runningServer {
	t.Helper()
	return startReplica(t, b, false, objects...)
}

func startReplica(t *testing.T, b *environment, standBy bool, objects ...runtime.Object) *runningServer {
	t.Helper()
	scheme := metadatafake.NewTestScheme()
	require.NoError(t, metav1.AddMetaToScheme(scheme))
	c := &runningServer{environment: b, api: metadatafake.NewSimpleMetadataClient(scheme, objects...)}
	c.Namespaces = NewNamespaces(c.api, b, clock.RealClock{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	keeping := b.config()
	keeping.Standby = standBy
	keeping.GetNamespace = func(ctx context.Context, name string) (metav1.Object, error) {
		return c.api.Resource(resource).Get(ctx, name, metav1.GetOptions{})
	}
	go func() {
		defer close(done)
		c.Run(ctx, keeping)
	}()
	t.Cleanup(func() { cancel(); <-done })
	require.Eventually(t, c.Synced, 10*time.Second, time.Millisecond)
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
