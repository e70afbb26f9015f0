package tenancy

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
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
	ended      map[string]int       // how many Namespaces of a name are gone
	events     []string
	changes    [][2][]string
	version    int
}

func newBed(t *testing.T) *bed {
	return &bed{
		t: t, clock: clocktesting.NewFakeClock(time.Unix(1e9, 0)), ledger: memory.New(),
		namespaces: map[string]namespace{}, holding: map[string]bool{}, oldest: map[string]time.Time{}, ended: map[string]int{},
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
	var all []namespace
	for _, ns := range b.namespaces {
		all = append(all, ns)
	}
	return all
}

// Eventf implements events.EventRecorder.
func (b *bed) Eventf(regarding, _ runtime.Object, kind, reason, action, note string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	about := regarding.(*corev1.ObjectReference)
	require.Equal(b.t, "Namespace", about.Kind)
	require.Contains(b.t, []string{"uid-of-" + about.Name, "uid-of-" + about.Name + "-again", string(unknownUID)}, string(about.UID))
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
	return &keeper{
		Namespaces: n, list: b.list, book: book{ledger: b.ledger}, announced: newState(nil, nil), said: map[string]saying{},
		Keeping: b.keeping(),
	}
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
