// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/generic"
	apistorage "k8s.io/apiserver/pkg/storage"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/scheme"
)

// servedVersions are the served ones.
func servedVersions() []schema.GroupVersion {
	return scheme.Scheme.PrioritizedVersionsForGroup(scheme.StorageVersion.Group)
}

// attrFunc returns what selectors see of an object.
func attrFunc[T Object](fieldsOf func(T) fields.Set) apistorage.AttrFunc {
	return func(o runtime.Object) (labels.Set, fields.Set, error) {
		obj, ok := o.(T)
		if !ok {
			return nil, nil, fmt.Errorf("unexpected object type %T", o)
		}
		set := fields.Set{}
		if fieldsOf != nil {
			set = fieldsOf(obj)
		}
		return obj.GetLabels(), generic.AddObjectMetaFieldsSet(set, objectMeta(obj), true), nil
	}
}

// readOnlyAttrFunc returns what selectors see of an object of a kind that has no records.
func readOnlyAttrFunc[T Object](kind *ReadOnlyKind[T]) apistorage.AttrFunc {
	return func(o runtime.Object) (labels.Set, fields.Set, error) {
		obj, ok := o.(T)
		if !ok {
			return nil, nil, fmt.Errorf("unexpected object type %T", o)
		}
		set := fields.Set{}
		if kind.SelectableFields != nil {
			set = kind.SelectableFields(obj)
		}
		return obj.GetLabels(), generic.AddObjectMetaFieldsSet(set, objectMeta(obj), !kind.ClusterScoped), nil
	}
}

func objectMeta(obj Object) *metav1.ObjectMeta { return obj.GetObjectMeta().(*metav1.ObjectMeta) }
