// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apistorage "k8s.io/apiserver/pkg/storage"

	"metal-stack.io/infrastructure-apiserver/pkg/keylock"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// Store is the storage of one resource.
//
// Objects in lists and watches are shared: callers may change the top
// level of a list's items, and nothing below it. What Get returns is a copy.
type Store struct {
	backend      *Backend
	resource     schema.GroupResource
	prefix       string // of keys, "/metalstackmachines/"
	ledgerPrefix string // of the ledger's keys, "metalstackmachines/"
	codec        runtime.Codec
	newFunc      func() runtime.Object
	newListFunc  func() runtime.Object
	projector    Projector
	// kind is what it shows if that is not machines, and what belongs to them.
	kind          metal.RefKind
	clusterScoped bool
	versioner     apistorage.APIObjectVersioner

	view     view
	keys     keylock.Locks
	sizes    atomic.Bool // estimate the size of objects
	progress progress
	watches  atomic.Int64
}

var _ apistorage.Interface = &Store{}

func newStore(b *Backend, cfg ResourceConfig) (*Store, error) {
	if cfg.Resource.Resource == "" || cfg.Codec == nil || cfg.NewFunc == nil || cfg.NewListFunc == nil {
		return nil, fmt.Errorf("storage: %s: resource, codec and the functions that make objects and lists must be set", cfg.Resource)
	}
	s := &Store{
		backend:      b,
		resource:     cfg.Resource,
		prefix:       "/" + strings.Trim(cfg.Prefix, "/") + "/",
		ledgerPrefix: cfg.Resource.Resource + "/",
		codec:        cfg.Codec,
		newFunc:      cfg.NewFunc,
		newListFunc:  cfg.NewListFunc,
		projector:    cfg.Projector,

		clusterScoped: cfg.ClusterScoped,
	}
	if kinded, ok := cfg.Projector.(Kinded); ok && kinded.Kind() != metal.KindMachine {
		s.kind = kinded.Kind()
	}
	if aware, ok := cfg.Projector.(HolderAware); ok {
		aware.SetHolders(b.holders)
	}
	if s.prefix == "//" {
		return nil, fmt.Errorf("storage: %s: no prefix", cfg.Resource)
	}
	s.view.tree = newTree()
	s.view.ring = ring{history: b.history}
	return s, nil
}

// load fills the view before it is read. Whatever is there at the start
// has the revision of the start. The references of all stores are in the index
// already.
func (s *Store) load(records map[string]*record, start uint64) {
	s.view.mu.Lock()
	defer s.view.mu.Unlock()
	s.view.ring.floor = start
	s.view.shared = nil
	for key, rec := range records {
		if !strings.HasPrefix(key, s.ledgerPrefix) {
			continue
		}
		e := &entry{key: s.key(key), rec: rec, obj: s.project(s.key(key), rec.obj, nil)}
		s.setVersion(e.obj, start)
		s.view.tree.ReplaceOrInsert(e)
		s.backend.encodings.objects.Add(1)
		s.view.records++
		s.view.bytes += int64(rec.size)
		s.scheduleExpiry(e.key, rec)
	}
}

// key is the key of a record in the ledger.
func (s *Store) key(ledgerKey string) string {
	return s.prefix + strings.TrimPrefix(ledgerKey, s.ledgerPrefix)
}

// ledgerKey is where the record of a key is.
func (s *Store) ledgerKey(key string) string {
	return s.ledgerPrefix + strings.TrimPrefix(key, s.prefix)
}

// prepareRequest is how every request begins: it returns the whole key, or an error if
// this process is not the one that answers.
func (s *Store) prepareRequest(key string, recursive bool) (string, error) {
	if err := s.backend.checkServing(); err != nil {
		return "", err
	}
	return apistorage.PrepareKey(s.prefix, key, recursive)
}

// name is the last part of a key, for messages.
func (s *Store) name(key string) string {
	return key[strings.LastIndexByte(key, '/')+1:]
}

func (s *Store) refs(record runtime.Object) []metal.Ref {
	if s.projector == nil {
		return nil
	}
	return s.projector.Refs(record)
}

// project returns the object at key as it is to be shown, for the view to keep.
func (s *Store) project(key string, record, previous runtime.Object) runtime.Object {
	if s.projector == nil {
		return record
	}
	obj := s.projector.Project(record, previous)
	s.backend.index.holders.track(dependent{store: s, key: key})
	if obj == record {
		obj = record.DeepCopyObject()
	}
	// Most of what they hold belongs to the record alone. So both can have the same, and
	// comparing them is for free.
	if from, err := meta.Accessor(record); err == nil {
		if to, err := meta.Accessor(obj); err == nil {
			to.SetManagedFields(from.GetManagedFields())
			to.SetLabels(from.GetLabels())
			to.SetAnnotations(from.GetAnnotations())
			to.SetFinalizers(from.GetFinalizers())
			to.SetOwnerReferences(from.GetOwnerReferences())
		}
	}
	return obj
}

// setVersion sets the revision of an object that is not shared yet.
func (s *Store) setVersion(obj runtime.Object, revision uint64) {
	_ = s.versioner.UpdateObject(obj, revision) // fails only without metadata, which the codec would not take
}

// versioned returns a copy of obj at another revision.
func (s *Store) versioned(obj runtime.Object, revision uint64) runtime.Object {
	obj = obj.DeepCopyObject()
	s.setVersion(obj, revision)
	return obj
}

func revisionOf(obj runtime.Object) string {
	m, err := meta.Accessor(obj)
	if err != nil {
		return ""
	}
	return m.GetResourceVersion()
}

func setRevision(obj runtime.Object, revision string) {
	if m, err := meta.Accessor(obj); err == nil {
		m.SetResourceVersion(revision)
	}
}

// copyInto copies obj into out, which the caller may modify.
func copyInto(out, obj runtime.Object) error {
	to, from := reflect.ValueOf(out), reflect.ValueOf(obj.DeepCopyObject())
	if to.Kind() != reflect.Pointer || to.IsNil() || to.Type() != from.Type() {
		return fmt.Errorf("storage: cannot return a %T in a %T", obj, out)
	}
	to.Elem().Set(from.Elem())
	return nil
}

// Versioner implements storage.Interface.
func (s *Store) Versioner() apistorage.Versioner { return s.versioner }

// ReadinessCheck implements storage.Interface. A store is ready from the start
// until the backend stops, or must.
func (s *Store) ReadinessCheck() error {
	if s.backend.checkServing() != nil {
		return apistorage.ErrStorageNotReady
	}
	return nil
}

// Stats implements storage.Interface.
func (s *Store) Stats(context.Context) (apistorage.Stats, error) {
	s.view.mu.RLock()
	defer s.view.mu.RUnlock()
	stats := apistorage.Stats{ObjectCount: int64(s.view.tree.Len())}
	if s.sizes.Load() && s.view.records > 0 {
		stats.EstimatedAverageObjectSizeBytes = s.view.bytes / int64(s.view.records)
	}
	return stats, nil
}

// EnableResourceSizeEstimation implements storage.Interface. The sizes are
// known, so keys is not asked.
func (s *Store) EnableResourceSizeEstimation(keys apistorage.KeysFunc) error {
	if keys == nil {
		return errors.New("KeysFunc cannot be nil")
	}
	if !s.sizes.CompareAndSwap(false, true) {
		return errors.New("size estimation is enabled already")
	}
	return nil
}

// GetCurrentResourceVersion implements storage.Interface.
func (s *Store) GetCurrentResourceVersion(context.Context) (uint64, error) {
	s.view.mu.RLock()
	defer s.view.mu.RUnlock()
	return s.backend.revisions.last.Load(), nil
}

// CompactRevision implements storage.Interface: the revision up to which
// events were forgotten, or 0.
func (s *Store) CompactRevision() int64 {
	s.view.mu.RLock()
	defer s.view.mu.RUnlock()
	return int64(s.view.ring.compacted)
}

// RequestWatchProgress implements storage.Interface: watches that asked for
// progress get a bookmark as soon as they have caught up.
func (s *Store) RequestWatchProgress(context.Context) error {
	s.progress.requested.Add(1)
	s.view.changed.wake()
	return nil
}

type progress struct{ requested atomic.Uint64 }
