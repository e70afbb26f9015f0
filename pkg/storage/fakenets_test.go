// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/apis/example"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// net is what the fake metal-api says about one network.
type net struct {
	project string
	shared  bool
	phase   string
}

// fakeNets is networks, and the namespaces of projects.
type fakeNets struct {
	mu         sync.Mutex
	nets       map[string]net
	namespaces map[string]string
	asked      int // how often what is discovered
}

func newFakeNets(projects ...string) *fakeNets {
	n := &fakeNets{nets: map[string]net{}, namespaces: map[string]string{}}
	for _, project := range projects {
		n.namespaces[project] = "team-" + project
	}
	return n
}

func (n *fakeNets) change(edit func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	edit()
}

// netProjector shows networks in the namespaces of their projects, shared ones in all. A record
// claims the network that spec.nodeName names.
type netProjector struct {
	*fakeNets
	holders func(metal.Ref) []runtime.Object
}

var (
	_ Expander    = &netProjector{}
	_ HolderAware = &netProjector{}
	_ Kinded      = &netProjector{}
)

func netRef(id string) metal.Ref { return metal.Ref{Kind: metal.KindNetwork, ID: id} }

func (*netProjector) Kind() metal.RefKind { return metal.KindNetwork }

func (p *netProjector) SetHolders(holders func(metal.Ref) []runtime.Object) { p.holders = holders }

func (p *netProjector) Refs(record runtime.Object) []metal.Ref {
	id := record.(*example.Pod).Spec.NodeName
	if id == "" {
		return nil
	}
	return []metal.Ref{netRef(id), {Kind: metal.KindNetworkClaim, ID: id}}
}

// heldBy are the names of those that hold a network.
func (p *netProjector) heldBy(id string) map[string]string {
	held := map[string]string{}
	for _, obj := range p.holders(netRef(id)) {
		held[obj.(*example.Pod).Name] = obj.(*example.Pod).Annotations["version"]
	}
	return held
}

func (p *netProjector) Project(record, _ runtime.Object) runtime.Object {
	pod := record.(*example.Pod).DeepCopy()
	pod.Status.Phase = "Pending"
	if pod.Spec.NodeName != "" {
		p.mu.Lock()
		pod.Status.Phase = example.PodPhase(p.nets[pod.Spec.NodeName].phase)
		p.mu.Unlock()
		pod.Spec.NodeSelector = p.heldBy(pod.Spec.NodeName)
	}
	return pod
}

func (*netProjector) Strip(obj runtime.Object) {
	p := obj.(*example.Pod)
	p.Status.Phase, p.Spec.NodeSelector = "", nil
}

func (p *netProjector) Expand(ref metal.Ref) (all []metal.ExpandedRef) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n, found := p.nets[ref.ID]; ref.Kind == metal.KindNetwork && found && n.shared {
		for _, project := range slices.Sorted(maps.Keys(p.namespaces)) {
			if project != n.project {
				all = append(all, metal.ExpandedRef{Ref: metal.Ref{Kind: metal.KindNetworkIn, ID: project + "/" + ref.ID}, Namespace: p.namespaces[project], Shows: n.phase})
			}
		}
	}
	return all
}

func (p *netProjector) Discovered(ref metal.Ref) (runtime.Object, []metal.Ref) {
	project, id := "", ref.ID
	switch ref.Kind {
	case metal.KindNetwork:
	case metal.KindNetworkIn:
		project, id, _ = strings.Cut(ref.ID, "/")
	default:
		return nil, nil
	}
	p.mu.Lock()
	p.asked++
	n, found := p.nets[id]
	own := project == ""
	if own {
		project = n.project
	}
	namespace, bound := p.namespaces[project]
	p.mu.Unlock()
	if !found || !bound {
		return nil, nil
	}
	shown := pod(namespace, id)
	shown.UID = types.UID(namespace + "-" + id)
	shown.Labels = map[string]string{"discovered": "true"}
	shown.Status.Phase = example.PodPhase(n.phase)
	if !own {
		return shown, nil
	}
	shown.Spec.NodeSelector = p.heldBy(id)
	return shown, []metal.Ref{{Kind: metal.KindNetworkClaim, ID: id}}
}

// clusterProjector shows nothing; its records use the network that spec.nodeName names.
type clusterProjector struct{ fakeProjector }

func (clusterProjector) RecordsOnly() {}

func (clusterProjector) Refs(record runtime.Object) []metal.Ref {
	if id := record.(*example.Pod).Spec.NodeName; id != "" {
		return []metal.Ref{netRef(id)}
	}
	return nil
}

func (clusterProjector) Project(record, _ runtime.Object) runtime.Object {
	return record.DeepCopyObject()
}

func (clusterProjector) Discovered(metal.Ref) (runtime.Object, []metal.Ref) { return nil, nil }

// netFixture is a backend with networks, and clusters that use them.
type netFixture struct {
	*Backend
	facts          *fakeNets
	clusters, nets *Store
}

func startNets(t testing.TB, l ledger.Ledger, facts *fakeNets) *netFixture {
	t.Helper()
	f := &netFixture{Backend: newBackend(t, Options{Ledger: l}), facts: facts}
	// The store of the clusters is filled after that of the networks.
	f.nets = openPods(t, f.Backend, "nets", &netProjector{fakeNets: facts})
	f.clusters = openPods(t, f.Backend, "clusters", clusterProjector{})
	var refs []metal.Ref
	for id := range facts.nets {
		refs = append(refs, netRef(id))
	}
	f.MetalChanged(refs)
	start(t, f.Backend)
	return f
}

// observe changes a network and reports it.
func (f *netFixture) observe(id string, n net) {
	f.facts.change(func() { f.facts.nets[id] = n })
	f.MetalChanged([]metal.Ref{netRef(id)})
}

// using is a record that names a network.
func using(namespace, name, id string) *example.Pod {
	p := pod(namespace, name)
	p.Spec.NodeName = id
	return p
}
