// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/scheme"
	"metal-stack.io/infrastructure-apiserver/pkg/storage"
)

// memRecords are Records in memory, as bytes, with compare-and-swap. What is
// read is joined with metal.
type memRecords[T runtime.Object] struct {
	resource  schema.GroupResource
	projector storage.Projector

	mu      sync.Mutex
	records map[string][]byte
	// every holds each state that was ever recorded.
	every [][]byte
	// fail, if set, is asked before each write, and after it.
	fail func(when string) error
	// listFails: no list is answered.
	listFails bool
}

func newMemRecords[T runtime.Object](resource schema.GroupResource, projector storage.Projector) *memRecords[T] {
	return &memRecords[T]{resource: resource, projector: projector, records: map[string][]byte{}}
}

func (r *memRecords[T]) decode(data []byte) T {
	obj, err := runtime.Decode(scheme.StorageCodec, data)
	if err != nil {
		panic(err)
	}
	return obj.(T)
}

func (r *memRecords[T]) encode(obj T) []byte {
	r.projector.Strip(obj)
	data, err := runtime.Encode(scheme.StorageCodec, obj)
	if err != nil {
		panic(err)
	}
	return data
}

func (r *memRecords[T]) load(namespace, name string) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	data, ok := r.records[namespace+"/"+name]
	if !ok {
		return nil, apierrors.NewNotFound(r.resource, name)
	}
	return data, nil
}

func (r *memRecords[T]) Get(_ context.Context, namespace, name string) (T, error) {
	var none T
	data, err := r.load(namespace, name)
	if err != nil {
		return none, err
	}
	return r.projector.Project(r.decode(data), nil).(T), nil
}

func (r *memRecords[T]) Update(ctx context.Context, namespace, name string, change func(T) error) (T, error) {
	var none T
	for {
		before, err := r.load(namespace, name)
		if err != nil {
			return none, err
		}
		obj := r.decode(before)
		if err := change(obj); err != nil {
			return none, err
		}
		after := r.encode(obj)
		if r.fail != nil {
			if err := r.fail("before"); err != nil {
				return none, err
			}
		}
		r.mu.Lock()
		current, there := r.records[namespace+"/"+name]
		swapped := there && bytes.Equal(current, before)
		if swapped {
			r.records[namespace+"/"+name] = after
			r.every = append(r.every, after)
		}
		r.mu.Unlock()
		if !swapped {
			continue
		}
		if r.fail != nil {
			if err := r.fail("after"); err != nil {
				return none, err
			}
		}
		return r.Get(ctx, namespace, name)
	}
}

func (r *memRecords[T]) List(ctx context.Context) ([]T, error) {
	if r.listFails {
		return nil, apierrors.NewServiceUnavailable("no list is answered")
	}
	r.mu.Lock()
	all := maps.Clone(r.records)
	r.mu.Unlock()
	var list []T
	for _, key := range slices.Sorted(maps.Keys(all)) {
		list = append(list, r.projector.Project(r.decode(all[key]), nil).(T))
	}
	return list, nil
}

// Changes compares what is shown with what was shown before.
func (r *memRecords[T]) Changes() func() ([]types.NamespacedName, bool) {
	var shown map[string][]byte
	return func() (changed []types.NamespacedName, ok bool) {
		r.mu.Lock()
		all := maps.Clone(r.records)
		r.mu.Unlock()
		before := shown
		shown = map[string][]byte{}
		for key, data := range all {
			projected, err := runtime.Encode(scheme.StorageCodec, r.projector.Project(r.decode(data), nil))
			if err != nil {
				panic(err)
			}
			shown[key] = projected
		}
		for key := range all {
			if was, found := before[key]; !found || !bytes.Equal(was, shown[key]) {
				changed = append(changed, namespacedName(key))
			}
		}
		for key := range before {
			if _, found := all[key]; !found {
				changed = append(changed, namespacedName(key))
			}
		}
		return changed, before != nil
	}
}

func namespacedName(key string) types.NamespacedName {
	namespace, name, _ := strings.Cut(key, "/")
	return types.NamespacedName{Namespace: namespace, Name: name}
}

func (r *memRecords[T]) put(t testing.TB, obj T) T {
	t.Helper()
	m, err := meta.Accessor(obj)
	require.NoError(t, err)
	data := r.encode(obj.DeepCopyObject().(T))
	r.mu.Lock()
	r.records[m.GetNamespace()+"/"+m.GetName()] = data
	r.mu.Unlock()
	return r.decode(data)
}

func (r *memRecords[T]) remove(m metav1.Object) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.records, m.GetNamespace()+"/"+m.GetName())
}

func (r *memRecords[T]) everything() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Join(r.every, []byte("\n"))
}

var _ fmt.Stringer = objectRef{}
