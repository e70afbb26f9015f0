// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"context"
	"fmt"
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
)

const (
	// pendingInterval is how often it is looked whether a namespace still holds
	// records, if its binding waits for that.
	pendingInterval = time.Second
	// standbyInterval is how often a server that stands by reads what is in force.
	standbyInterval = 30 * time.Second
	// resyncInterval is how often everything is judged although nothing has changed.
	resyncInterval = 5 * time.Minute
)

// reconcileBackoff is when what failed is tried again.
var reconcileBackoff = wait.Backoff{Duration: 100 * time.Millisecond, Factor: 2, Jitter: 0.1, Steps: 9, Cap: 30 * time.Second}

var resource = corev1.SchemeGroupVersion.WithResource("namespaces")

// Namespaces are the bindings of a server in a cluster: the label
// infrastructure.ProjectLabel on a Namespace asks for a project. What is in
// force is written down, so that it outlives a label that is changed.
type Namespaces struct {
	client metadata.Interface
	events events.EventRecorder
	clock  clock.WithTicker

	// state is replaced while mu is held, and read without.
	state atomic.Pointer[state]
	// synced is true after everything was looked at once, leads from when on this
	// server is to decide, and led after it has.
	synced, active, reconciledActive atomic.Bool
	// namespaceChanged is for changes of Namespaces, and turn for the one of leads.
	namespaceChanged, activation chan struct{}

	mu sync.Mutex
	// creating is how many objects are being created, by namespace.
	creating map[string]int
	// stateChanged is closed, and replaced, when something has changed.
	stateChanged chan struct{}
}

var _ Bindings = &Namespaces{}

// state is what is in force. It is immutable.
type state struct {
	bindings map[string]binding // by namespace; those in force
	shown    map[string]string  // namespaces by project
	// hidden are the namespaces whose records are of a Namespace that is gone.
	hidden  map[string]struct{}
	results map[string]result
}

// newState returns the state in which all bindings are in force but those of
// records that were abandoned.
func newState(bindings map[string]binding, judged map[string]result) *state {
	s := &state{bindings: map[string]binding{}, shown: map[string]string{}, hidden: map[string]struct{}{}, results: judged}
	for name, j := range judged {
		if j.outcome == abandoned {
			s.hidden[name] = struct{}{}
		}
	}
	for name, b := range bindings {
		ns := judged[name]
		if ns.outcome == abandoned {
			continue
		}
		s.bindings[name] = b
		if !ns.deleting && ns.uid != "" {
			s.shown[b.project] = name
		}
	}
	return s
}

// NewNamespaces returns bindings of which none is in force until Run. A nil
// clock is the real one.
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

// Hidden returns the namespaces whose records are shown to nobody, because they
// are of a Namespace that is gone. The caller does not change it.
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

// Synced tells whether every Namespace has been judged once.
func (n *Namespaces) Synced() bool { return n.synced.Load() }

// Config is what a binder works with.
type Config struct {
	// Ledger is where they are written down. Of several servers, only the active
	// one's may take writes.
	Ledger ledger.Ledger
	// HasRecords tells whether a namespace has records.
	HasRecords func(namespace string) bool
	// OldestRecord returns when the oldest object of a namespace that has a record was
	// created; zero if there is none.
	OldestRecord func(namespace string) time.Time
	// Origins returns what records say of the Namespaces that they are of, by name.
	Origins func() map[string][]Origin
	// GetNamespace looks at a Namespace at the kube-apiserver, which is asked for the most
	// recent state. What says that a Namespace is gone is put in force only after
	// that.
	GetNamespace func(ctx context.Context, name string) (metav1.Object, error)
	// OnChange is told of which namespaces the project, and of which projects
	// the namespace that shows their metal, is another one now.
	OnChange func(namespaces, projects []string)
	// OnHiddenChange is told when Hidden answers otherwise than before. Optional.
	OnHiddenChange func()
	// Standby leaves it to another server what is in force, until Lead is called.
	Standby bool
}

// Run reconciles the bindings until ctx ends.
func (n *Namespaces) Run(ctx context.Context, k Config) {
	logger := klog.FromContext(ctx)
	if !k.Standby {
		n.active.Store(true)
	}
	list, err := n.startInformer(ctx)
	if err != nil {
		if ctx.Err() == nil {
			logger.Error(err, "Failed to watch Namespaces; no namespace is bound to a project")
		}
		return
	}
	keeper := newBinder(n, k, list)
	backoff := reconcileBackoff
	for {
		again, err := keeper.reconcile(ctx)
		if err != nil && ctx.Err() == nil {
			again = backoff.Step()
			logger.Error(err, "Failed to reconcile the bindings of namespaces; retrying", "after", again.String())
		} else {
			backoff = reconcileBackoff
		}
		changed := n.namespaceChanged
		if !n.active.Load() {
			changed = nil // to read all records with each change is too much
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

// Activate makes a server that stood by the one that decides what is in force. It
// returns when that is done. Call it when the records are known, and before
// anything is answered.
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

// wake wakes whoever reads c, now or when next they do.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// startInformer has everything looked at when a Namespace changes. It returns what lists
// them, once they are known.
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

// trimMetadata drops what nobody here asks for.
func trimMetadata(obj any) (any, error) {
	if m, ok := obj.(*metav1.PartialObjectMetadata); ok {
		m.ManagedFields, m.Annotations, m.OwnerReferences = nil, nil, nil
	}
	return obj, nil
}

func namespaceOf(m metav1.Object) namespace {
	project, asks := m.GetLabels()[infrastructure.ProjectLabel]
	return namespace{
		name: m.GetName(), uid: m.GetUID(), resourceVersion: m.GetResourceVersion(), created: m.GetCreationTimestamp().Time,
		labeled: asks, project: project, deleting: m.GetDeletionTimestamp() != nil,
	}
}
