// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"encoding/json"
	"unique"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// maxInterned is the length of the longest string that objects are expected to have in
// common.
const maxInterned = 128

// interner lets the objects of a fleet share what is the same in the metadata of many:
// labels, annotations, and managed fields, which are the larger part of most objects. It is
// used while all records are read.
type interner struct {
	maps   map[string]map[string]string
	fields map[string]*metav1.FieldsV1
}

func newInterner() *interner {
	return &interner{maps: map[string]map[string]string{}, fields: map[string]*metav1.FieldsV1{}}
}

// intern replaces what obj has in common with others. What is shared must not change.
func (i *interner) intern(obj runtime.Object) {
	m, err := meta.Accessor(obj)
	if err != nil {
		return
	}
	m.SetLabels(i.internMap(m.GetLabels()))
	m.SetAnnotations(i.internMap(m.GetAnnotations()))
	finalizers := m.GetFinalizers()
	for n := range finalizers {
		finalizers[n] = internString(finalizers[n])
	}
	entries := m.GetManagedFields()
	for n := range entries {
		e := &entries[n]
		e.Manager, e.APIVersion = internString(e.Manager), internString(e.APIVersion)
		e.FieldsType, e.Operation = internString(e.FieldsType), metav1.ManagedFieldsOperationType(internString(string(e.Operation)))
		if e.FieldsV1 == nil {
			continue
		}
		raw := e.FieldsV1.GetRawString()
		if i.fields[raw] == nil {
			i.fields[raw] = e.FieldsV1
		}
		e.FieldsV1 = i.fields[raw]
	}
}

func (i *interner) internMap(from map[string]string) map[string]string {
	if len(from) == 0 {
		return from
	}
	content, err := json.Marshal(from)
	if err != nil {
		return from
	}
	to, known := i.maps[string(content)]
	if !known {
		to = make(map[string]string, len(from))
		for key, value := range from {
			to[internString(key)] = internString(value)
		}
		i.maps[string(content)] = to
	}
	return to
}

func internString(s string) string {
	if s == "" || len(s) > maxInterned {
		return s
	}
	return unique.Make(s).Value()
}
