// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	"metal-stack.io/infrastructure-apiserver/pkg/recordformat"
)

const (
	// pendingInterval is how often a namespace is checked for records while its
	// binding waits for the last of them to go.
	pendingInterval = time.Second
	// standbyInterval is how often a standby reads the bindings in force.
	standbyInterval = 30 * time.Second
	// resyncInterval is how often all Namespaces are reconciled without a change.
	resyncInterval = 5 * time.Minute
)

// reconcileBackoff is the backoff after a failure.
var reconcileBackoff = wait.Backoff{Duration: 100 * time.Millisecond, Factor: 2, Jitter: 0.1, Steps: 9, Cap: 30 * time.Second}

var resource = corev1.SchemeGroupVersion.WithResource("namespaces")

// Namespaces are the bindings of a server in a cluster: the label
// infrastructure.ProjectLabel on a Namespace asks for a project. Bindings in force
// are stored in the ledger, so that they outlive a change of the label.
type Namespaces struct {
	client metadata.Interface
	events events.EventRecorder
	clock  clock.WithTicker

	// state is replaced while mu is held, and read without it.
	state atomic.Pointer[state]
	// synced is true after the first reconciliation, active once this server is the
	// active one, and reconciledActive after its first reconciliation as such.
	synced, active, reconciledActive atomic.Bool
	// namespaceChanged signals a change of a Namespace, activation that of active.
	namespaceChanged, activation chan struct{}

	mu sync.Mutex
	// creating is how many objects are being created, by namespace.
	creating map[string]int
	// stateChanged is closed, and replaced, when the state has changed.
	stateChanged chan struct{}
}

var _ Bindings = &Namespaces{}

// state is the bindings in force. It is immutable.
type state struct {
	bindings map[string]binding // by namespace; those in force
	shown    map[string]string  // namespaces by project
	projects []string           // of shown, sorted
	// hidden are the namespaces whose records belong to a deleted Namespace.
	hidden  map[string]struct{}
	results map[string]result
}

// newState returns the state in which all bindings are in force, except those of
// abandoned records.
func newState(bindings map[string]binding, results map[string]result) *state {
	s := &state{bindings: map[string]binding{}, shown: map[string]string{}, hidden: map[string]struct{}{}, results: results}
	for name, r := range results {
		if r.outcome == abandoned {
			s.hidden[name] = struct{}{}
		}
	}
	for name, b := range bindings {
		ns := results[name]
		if ns.outcome == abandoned {
			continue
		}
		s.bindings[name] = b
		if !ns.deleting && ns.uid != "" {
			s.shown[b.project] = name
		}
	}
	s.projects = slices.Sorted(maps.Keys(s.shown))
	return s
}

// NewNamespaces returns bindings of which none is in force before Run. A nil clock
// is the real one.
func NewNamespaces(client metadata.Interface, recorder events.EventRecorder, c clock.WithTicker) *Namespaces {
	if c == nil {
		c = clock.RealClock{}
	}
	n := &Namespaces{client: client, events: recorder, clock: c, creating: map[string]int{}, namespaceChanged: make(chan struct{}, 1), activation: make(chan struct{}, 1), stateChanged: make(chan struct{})}
	n.state.Store(newState(nil, nil))
	return n
}

// Project implements Bindings.
func (n *Namespaces) Project(namespace string) (string, bool) {
	b, bound := n.state.Load().bindings[namespace]
	return b.project, bound
}

// Hidden returns the namespaces whose records are hidden, because they belong to a
// deleted Namespace. Callers must not change it.
func (n *Namespaces) Hidden() map[string]struct{} { return n.state.Load().hidden }

// TakenOver returns when the Namespace took over the records of an earlier one
// of its name; zero if it did not.
func (n *Namespaces) TakenOver(namespace string) time.Time {
	return n.state.Load().bindings[namespace].takenOver
}

// Namespace implements Bindings.
func (n *Namespaces) Namespace(project string) (string, bool) {
	namespace, bound := n.state.Load().shown[project]
	return namespace, bound
}

// Synced reports whether every Namespace has been reconciled once.
func (n *Namespaces) Synced() bool { return n.synced.Load() }

// Config is what a binder works with.
type Config struct {
	// Ledger stores the bindings. Of several servers, only the active one may write.
	Ledger ledger.Ledger
	// CheckFormat returns an error once a record was met that this server cannot read,
	// because a newer one wrote it: the bindings stay as they are from then on. Optional.
	CheckFormat func() error
	// HasRecords reports whether a namespace has records.
	HasRecords func(namespace string) bool
	// OldestRecord returns when the oldest object with a record was created in a
	// namespace; zero if there is none.
	OldestRecord func(namespace string) time.Time
	// Origins returns the Namespaces that records name as their own, by name.
	Origins func() map[string][]Origin
	// GetNamespace reads a Namespace's most recent state from the kube-apiserver. A
	// result that says that a Namespace is gone is put in force only after that.
	GetNamespace func(ctx context.Context, name string) (metav1.Object, error)
	// OnChange is called with the namespaces whose project has changed, and the
	// projects whose namespace has.
	OnChange func(namespaces, projects []string)
	// OnHiddenChange is called when Hidden has changed. Optional.
	OnHiddenChange func()
	// Standby follows the bindings that another server stores, until Activate.
	Standby bool
}

// Run reconciles the bindings until ctx ends.
func (n *Namespaces) Run(ctx context.Context, b Config) {
	logger := klog.FromContext(ctx)
	if !b.Standby {
		n.active.Store(true)
	}
	list, err := n.startInformer(ctx)
	if err != nil {
		if ctx.Err() == nil {
			logger.Error(err, "Failed to watch Namespaces: no namespace is bound to a project")
		}
		return
	}
	binder := newBinder(n, b, list, n.listLive)
	backoff := reconcileBackoff
	for {
		again, err := binder.reconcile(ctx)
		if recordformat.IsNewer(err) {
			logger.Error(err, "The bindings of namespaces stay as they are")
			return
		}
		if err != nil && ctx.Err() == nil {
			again = backoff.Step()
			logger.Error(err, "Failed to reconcile the bindings of namespaces: retrying", "retryAfter", again.String())
		} else {
			backoff = reconcileBackoff
		}
		changed := n.namespaceChanged
		if !n.active.Load() {
			changed = nil // a standby would read all records with each change
		}
		timer := n.clock.NewTimer(again)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-changed:
		case <-n.activation:
		case <-timer.C():
		}
		timer.Stop()
	}
}

// Activate makes a standby the server that decides which bindings are in force. It
// returns after the first reconciliation. Call it when the records are loaded, and
// before the first request is served.
func (n *Namespaces) Activate(ctx context.Context) error {
	n.active.Store(true)
	wake(n.activation)
	for {
		n.mu.Lock()
		moved := n.stateChanged
		n.mu.Unlock()
		if n.reconciledActive.Load() {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// wake signals the reader of c, at once or at its next read.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// startInformer watches Namespaces; each change triggers a reconciliation. Once
// synced, it returns the function that lists the cached Namespaces.
func (n *Namespaces) startInformer(ctx context.Context) (list func() []namespace, err error) {
	informer := metadatainformer.NewFilteredMetadataInformer(n.client, resource, metav1.NamespaceAll, 0, cache.Indexers{}, nil).Informer()
	if err := informer.SetTransform(trimMetadata); err != nil {
		return nil, err
	}
	registered, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { wake(n.namespaceChanged) }, UpdateFunc: func(_, _ any) { wake(n.namespaceChanged) }, DeleteFunc: func(any) { wake(n.namespaceChanged) },
	})
	if err != nil {
		return nil, err
	}
	go informer.RunWithContext(ctx)
	if !cache.WaitForCacheSync(ctx.Done(), registered.HasSynced) {
		return nil, fmt.Errorf("failed to list Namespaces: %w", context.Cause(ctx))
	}
	return func() []namespace {
		var all []namespace
		for _, obj := range informer.GetStore().List() {
			if m, ok := obj.(*metav1.PartialObjectMetadata); ok {
				all = append(all, namespaceOf(m))
			}
		}
		return all
	}, nil
}

// trimMetadata drops the fields that are not used.
func trimMetadata(obj any) (any, error) {
	if m, ok := obj.(*metav1.PartialObjectMetadata); ok {
		m.ManagedFields, m.Annotations, m.OwnerReferences = nil, nil, nil
	}
	return obj, nil
}

// listLive lists Namespaces at the kube-apiserver, in their most recent state.
func (n *Namespaces) listLive(ctx context.Context) ([]namespace, error) {
	list, err := timeRead(n.clock, "list", func() (*metav1.PartialObjectMetadataList, error) {
		return n.client.Resource(resource).List(ctx, metav1.ListOptions{})
	})
	if err != nil {
		return nil, err
	}
	all := make([]namespace, 0, len(list.Items))
	for i := range list.Items {
		all = append(all, namespaceOf(&list.Items[i]))
	}
	return all, nil
}

func namespaceOf(m metav1.Object) namespace {
	project, asks := m.GetLabels()[infrastructure.ProjectLabel]
	return namespace{
		name: m.GetName(), uid: m.GetUID(), resourceVersion: m.GetResourceVersion(), created: m.GetCreationTimestamp().Time,
		labeled: asks, project: project, deleting: m.GetDeletionTimestamp() != nil,
	}
}
