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

// bed is a cluster's Namespaces, a ledger, and servers that come and go.
type bed struct {
	t      *testing.T
	clock  *clocktesting.FakeClock
	ledger ledger.Ledger

	mu         sync.Mutex
	namespaces map[string]namespace
	holding    map[string]bool
	oldest     map[string]time.Time // of the records of a namespace
	origins    map[string][]Origin  // of the records of a namespace
	// behind is what the watch shows, if it is behind; nil: it is not.
	behind map[string]namespace
	// looks counts looks at Namespaces, and fails is their error.
	looks   map[string]int
	fails   error
	ended   map[string]int // how many Namespaces of a name are gone
	events  []string
	changes [][2][]string
	version int
}

func newBed(t *testing.T) *bed {
	return &bed{
		t: t, clock: clocktesting.NewFakeClock(time.Unix(1e9, 0)), ledger: memory.New(),
		namespaces: map[string]namespace{}, holding: map[string]bool{}, oldest: map[string]time.Time{}, looks: map[string]int{}, ended: map[string]int{},
	}
}

// label makes a namespace, or changes its label; "" takes the label off.
func (b *bed) label(name, project string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.version++
	ns, known := b.namespaces[name]
	if !known {
		// Another one of the same name has another uid.
		ns = namespace{name: name, uid: types.UID("uid-of-" + name + strings.Repeat("-again", b.ended[name])), created: time.Unix(int64(b.version), 0)}
	}
	ns.version, ns.asks, ns.project = fmt.Sprint(b.version), project != "", project
	b.namespaces[name] = ns
}

// going begins to delete a namespace.
func (b *bed) going(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ns := b.namespaces[name]
	ns.going = true
	b.namespaces[name] = ns
}

func (b *bed) gone(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.namespaces, name)
	b.ended[name]++
}

func (b *bed) holds(name string, holds bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.holding[name] = holds
}

func (b *bed) list() []namespace {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.behind != nil {
		return slices.Collect(maps.Values(b.behind))
	}
	return slices.Collect(maps.Values(b.namespaces))
}

// stall has the watch show from now on what there is now, until the clock of the
// watch goes on.
func (b *bed) stall() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.behind = maps.Clone(b.namespaces)
}

func (b *bed) goOn() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.behind = nil
}

// fail makes looks at Namespaces fail; nil ends that.
func (b *bed) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fails = err
}

// live looks at a Namespace, as Keeping.Live does.
func (b *bed) live(ctx context.Context, name string) (metav1.Object, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, limited := ctx.Deadline(); !limited {
		b.t.Error("a look has no deadline")
	}
	b.looks[name]++
	ns, found := b.namespaces[name]
	switch {
	case b.fails != nil:
		return nil, b.fails
	case !found:
		return nil, apierrors.NewNotFound(resource.GroupResource(), name)
	}
	m := inAPIAs(name, ns.version, ns.project, string(ns.uid))
	if ns.asks && ns.project == "" {
		m.Labels = map[string]string{infrastructure.ProjectLabel: ""}
	}
	if ns.going {
		m.DeletionTimestamp = &metav1.Time{Time: b.clock.Now()}
	}
	return m, nil
}

// looked returns how many looks at Namespaces there were since the last call.
func (b *bed) looked() (looks int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, count := range b.looks {
		looks += count
	}
	clear(b.looks)
	return looks
}

// Eventf implements events.EventRecorder.
func (b *bed) Eventf(regarding, _ runtime.Object, kind, reason, action, note string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	about := regarding.(*corev1.ObjectReference)
	require.Equal(b.t, "Namespace", about.Kind)
	require.Regexp(b.t, "^(uid-of-"+about.Name+"(-again)*|"+string(unknownUID)+")$", string(about.UID))
	require.NotEmpty(b.t, action)
	b.events = append(b.events, fmt.Sprintf("%s %s %s: %s", about.Name, kind, reason, fmt.Sprintf(note, args...)))
}

// said returns the events since the last call.
func (b *bed) said() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	events := b.events
	b.events = nil
	return events
}

// server is a server that has just started.
func (b *bed) server() *keeper {
	n := NewNamespaces(metadatafake.NewSimpleMetadataClient(metadatafake.NewTestScheme()), b, b.clock)
	n.leads.Store(true)
	return newKeeper(n, b.keeping(), b.list)
}

func (b *bed) keeping() Keeping {
	return Keeping{
		Ledger: b.ledger,
		Holds: func(name string) bool {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.holding[name]
		},
		Oldest: func(name string) time.Time {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.oldest[name]
		},
		Origins: func() map[string][]Origin {
			b.mu.Lock()
			defer b.mu.Unlock()
			return maps.Clone(b.origins)
		},
		Live: b.live,
		Changed: func(namespaces, projects []string) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.changes = append(b.changes, [2][]string{namespaces, projects})
		},
	}
}

// kept has a server judge everything.
func (b *bed) kept(k *keeper) *keeper {
	b.t.Helper()
	_, err := k.keep(context.Background())
	require.NoError(b.t, err)
	return k
}

// bound tells what a namespace is bound to, "" for nothing.
func bound(n Bindings, namespace string) string {
	project, _ := n.Project(namespace)
	return project
}

// cluster is a server over Namespaces in an API.
type cluster struct {
	*bed
	*Namespaces
	api *metadatafake.FakeMetadataClient
}

// inCluster runs a server until the test ends.
func inCluster(t *testing.T, b *bed, objects ...runtime.Object) *cluster {
	t.Helper()
	return runCluster(t, b, false, objects...)
}

func runCluster(t *testing.T, b *bed, standBy bool, objects ...runtime.Object) *cluster {
	t.Helper()
	scheme := metadatafake.NewTestScheme()
	require.NoError(t, metav1.AddMetaToScheme(scheme))
	c := &cluster{bed: b, api: metadatafake.NewSimpleMetadataClient(scheme, objects...)}
	c.Namespaces = NewNamespaces(c.api, b, clock.RealClock{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	keeping := b.keeping()
	keeping.StandBy = standBy
	keeping.Live = func(ctx context.Context, name string) (metav1.Object, error) {
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

func inAPI(name, version, project string) *metav1.PartialObjectMetadata {
	return inAPIAs(name, version, project, "uid-of-"+name)
}

func inAPIAs(name, version, project, uid string) *metav1.PartialObjectMetadata {
	m := &metav1.PartialObjectMetadata{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(uid), ResourceVersion: version},
	}
	if project != "" {
		m.Labels = map[string]string{infrastructure.ProjectLabel: project}
	}
	return m
}
