// SPDX-License-Identifier: Apache-2.0

package refresh

import (
	"context"
	"sync"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/storage"
)

// watchKey is the networks or the addresses of a namespace.
type watchKey struct {
	kind      metal.RefKind
	namespace string
}

// watches are the open watches of the networks or the addresses of a namespace, which have those of
// its project observed.
type watches struct {
	open    int
	project string // empty: the namespace is not bound
	stop    func()
}

// Watching implements storage.WatchObserver. Watches of networks and addresses across namespaces
// do not count: those of the kube-controller-manager's garbage collector are always there.
func (r *Refresher) Watching(scope storage.Scope) (stop func()) {
	switch scope.Kind {
	case metal.KindPartition, metal.KindSize, metal.KindImage, metal.KindProject:
		return r.catalogue.Watching(scope.Kind)
	}
	if scope.Namespace == "" {
		return func() {}
	}
	key := watchKey{scope.Kind, scope.Namespace}
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.watches[key]
	if w == nil {
		w = &watches{stop: func() {}}
		r.watches[key] = w
		r.followBinding(key, w)
	}
	w.open++
	return sync.OnceFunc(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if w.open--; w.open == 0 {
			w.stop()
			delete(r.watches, key)
		}
	})
}

// followBinding has the metal observed of the project that the namespace is bound to now, and
// returns whether that is another one than before. mu is held.
func (r *Refresher) followBinding(key watchKey, w *watches) (changed bool) {
	project, bound := r.bindings.Project(key.namespace)
	if !bound {
		project = ""
	}
	if project == w.project {
		return false
	}
	w.stop()
	w.project, w.stop = project, func() {}
	if bound {
		w.stop = r.observer.Watching(key.kind, project)
	}
	return true
}

// BindingsChanged has open watches in namespaces whose binding changed show the metal of the
// project that they are bound to now: it is observed once, in the background, and then as what
// other watches show.
func (r *Refresher) BindingsChanged(ctx context.Context, namespaces []string) {
	var unobserved []metal.Scope
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, namespace := range namespaces {
		for _, kind := range []metal.RefKind{metal.KindNetwork, metal.KindIP} {
			key := watchKey{kind, namespace}
			if w := r.watches[key]; w != nil && r.followBinding(key, w) && w.project != "" {
				unobserved = append(unobserved, r.metalScope(storage.Scope{Kind: kind}, w.project))
			}
		}
	}
	if len(unobserved) == 0 {
		return
	}
	go func() {
		for _, scope := range unobserved {
			// What fails here, sweeps do.
			_ = r.observer.Refresh(ctx, scope)
		}
	}()
}
