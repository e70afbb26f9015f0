// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/apis/example"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// fact is what the fake metal-api says about one machine.
type fact struct {
	namespace  string // of its project; "" if it is not bound
	role       string // the resource that shows it
	phase      string
	allocation string
	uid        string // that the metal carries
}

// fakeMetal is the metal half of Pods: the phase of the machine that the
// record names as spec.nodeName "<machine>/<allocation>", or by the uid that
// an allocation under way will carry, in an annotation.
type fakeMetal struct {
	mu    sync.Mutex
	facts map[string]fact
}

func newFakeMetal() *fakeMetal { return &fakeMetal{facts: map[string]fact{}} }

func (m *fakeMetal) set(id string, f fact) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.facts[id] = f
}

func (m *fakeMetal) gone(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.facts, id)
}

func (m *fakeMetal) get(id string) (fact, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, found := m.facts[id]
	return f, found
}

func machineRef(id string) metal.Ref { return metal.Ref{Kind: metal.KindMachine, ID: id} }

// fakeProjector projects one resource.
type fakeProjector struct {
	metal *fakeMetal
	role  string
}

const uidAnnotation = "uid"

func (fakeProjector) Refs(record runtime.Object) []metal.Ref {
	p := record.(*example.Pod)
	var refs []metal.Ref
	if id, allocation, found := strings.Cut(p.Spec.NodeName, "/"); found {
		refs = append(refs, machineRef(id), metal.Ref{Kind: "allocation", ID: allocation})
	}
	if uid := p.Annotations[uidAnnotation]; uid != "" {
		refs = append(refs, metal.Ref{Kind: metal.KindUID, ID: uid})
	}
	return refs
}

func (fp fakeProjector) Project(record, _ runtime.Object) runtime.Object {
	p := record.(*example.Pod).DeepCopy()
	p.Status.Phase = "Pending"
	if id, allocation, found := strings.Cut(p.Spec.NodeName, "/"); found {
		p.Status.Phase = "Gone"
		if f, found := fp.metal.get(id); found && f.allocation == allocation {
			p.Status.Phase = example.PodPhase(f.phase)
		}
	}
	return p
}

func (fakeProjector) Strip(obj runtime.Object) { obj.(*example.Pod).Status.Phase = "" }

func (fp fakeProjector) Discovered(ref metal.Ref) (runtime.Object, []metal.Ref) {
	f, found := fp.metal.get(ref.ID)
	if ref.Kind != metal.KindMachine || !found || f.role != fp.role || f.namespace == "" || f.allocation == "" {
		return nil, nil
	}
	p := pod(f.namespace, ref.ID)
	p.ObjectMeta.UID = types.UID("discovered-" + f.allocation)
	p.Labels = map[string]string{"discovered": "true"}
	p.Status.Phase = example.PodPhase(f.phase)
	return p, []metal.Ref{{Kind: "allocation", ID: f.allocation}, {Kind: metal.KindUID, ID: f.uid}}
}

// refsProjector is a fakeProjector that knows the refs of what is discovered.
type refsProjector struct{ fakeProjector }

var _ DiscoveredRefs = refsProjector{}

func (rp refsProjector) DiscoveredRefs(ref metal.Ref) []metal.Ref {
	_, refs := rp.Discovered(ref)
	return refs
}

// fixture is a backend over fake metal, with two resources that show it, and one
// that does not.
type fixture struct {
	*Backend
	metal                  *fakeMetal
	pods, firewalls, plain *Store
}

func newFixture(t testing.TB, opts Options) *fixture {
	t.Helper()
	w := openFixture(t, newFakeMetal(), opts)
	start(t, w.Backend)
	return w
}

// openFixture returns a fixture that has not started.
func openFixture(t testing.TB, metal *fakeMetal, opts Options) *fixture {
	t.Helper()
	w := &fixture{metal: metal, Backend: newBackend(t, opts)}
	w.pods = openPods(t, w.Backend, "pods", refsProjector{fakeProjector{w.metal, "pods"}})
	w.firewalls = openPods(t, w.Backend, "walls", fakeProjector{w.metal, "walls"})
	w.plain = openPods(t, w.Backend, "plain", nil)
	return w
}

// observe changes a fact and reports it.
func (f *fixture) observe(id string, is fact) {
	f.metal.set(id, is)
	f.MetalChanged([]metal.Ref{machineRef(id)})
}

// managed is a record that names an allocation.
func managed(name, machine, allocation string) *example.Pod {
	p := pod("team-a", name)
	p.ObjectMeta.UID = types.UID("uid-of-" + name)
	p.ObjectMeta.CreationTimestamp = metav1.NewTime(time.Unix(1e9, 0))
	if machine != "" {
		p.Spec.NodeName = machine + "/" + allocation
	}
	return p
}

// faulty is a ledger that fails on demand.
type faulty struct {
	ledger.Ledger
	mu sync.Mutex
	// before a write it may return an error: the write is not done.
	before func(verb, key string) error
	// after a write it may return an error: the write was done.
	after func(verb, key string) error
}

func (l *faulty) inject(before, after func(verb, key string) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.before, l.after = before, after
}

func (l *faulty) ask(which *func(verb, key string) error, verb, key string) error {
	l.mu.Lock()
	hook := *which
	l.mu.Unlock()
	if hook == nil {
		return nil
	}
	return hook(verb, key)
}

func (l *faulty) around(verb, key string, do func() error) error {
	if err := l.ask(&l.before, verb, key); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return l.ask(&l.after, verb, key)
}

func (l *faulty) List(ctx context.Context) (list []ledger.Record, err error) {
	err = l.around("list", "", func() error {
		list, err = l.Ledger.List(ctx)
		return err
	})
	return list, err
}

func (l *faulty) Get(ctx context.Context, key string) (r ledger.Record, err error) {
	err = l.around("get", key, func() error {
		r, err = l.Ledger.Get(ctx, key)
		return err
	})
	return r, err
}

func (l *faulty) Create(ctx context.Context, key string, value []byte) (version string, err error) {
	err = l.around("create", key, func() error {
		version, err = l.Ledger.Create(ctx, key, value)
		return err
	})
	return version, err
}

func (l *faulty) Update(ctx context.Context, key, version string, value []byte) (next string, err error) {
	err = l.around("update", key, func() error {
		next, err = l.Ledger.Update(ctx, key, version, value)
		return err
	})
	return next, err
}

func (l *faulty) Delete(ctx context.Context, key, version string) error {
	return l.around("delete", key, func() error { return l.Ledger.Delete(ctx, key, version) })
}

// fakeRefresher answers what it was given, and notes what it was asked.
type fakeRefresher struct {
	mu     sync.Mutex
	scopes []Scope
	since  time.Time
	cause  error
	during func()
	known  func(Scope) bool
}

func (f *fakeRefresher) Refresh(_ context.Context, scope Scope) (time.Time, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.scopes = append(f.scopes, scope)
	if f.during != nil {
		f.during()
	}
	return f.since, f.cause
}

// Known implements Refresher.
func (f *fakeRefresher) Known(scope Scope) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.known == nil || f.known(scope)
}

func (f *fakeRefresher) takeScopes() []Scope {
	f.mu.Lock()
	defer f.mu.Unlock()
	scopes := f.scopes
	f.scopes = nil
	return scopes
}

// countingProjector counts projections.
type countingProjector struct {
	Projector
	calls *int
}

func (cp countingProjector) Project(record, previous runtime.Object) runtime.Object {
	*cp.calls++
	return cp.Projector.Project(record, previous)
}
