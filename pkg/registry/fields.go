package registry

import (
	"fmt"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/storage"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/scheme"
)

// Selectable makes the scheme accept fields of a kind, besides name and
// namespace, in field selectors. The scheme is everybody's: call it from init.
func Selectable(kind string, set fields.Set) {
	known := append([]string{"metadata.name", "metadata.namespace"}, slices.Sorted(maps.Keys(set))...)
	convert := func(label, value string) (string, string, error) {
		if !slices.Contains(known, label) {
			return "", "", fmt.Errorf("%q is no field that a %s can be selected by; those are %q", label, kind, known)
		}
		return label, value, nil
	}
	for _, gv := range servedVersions() {
		utilruntime.Must(scheme.Scheme.AddFieldLabelConversionFunc(gv.WithKind(kind), convert))
	}
}

// servedVersions are the served ones.
func servedVersions() []schema.GroupVersion {
	return scheme.Scheme.PrioritizedVersionsForGroup(scheme.StorageVersion.Group)
}

// attrFunc returns what selectors see of an object.
func attrFunc[T Object](fieldsOf func(T) fields.Set) storage.AttrFunc {
	return func(o runtime.Object) (labels.Set, fields.Set, error) {
		obj, ok := o.(T)
		if !ok {
			return nil, nil, fmt.Errorf("a %T cannot be selected here", o)
		}
		set := fields.Set{}
		if fieldsOf != nil {
			set = fieldsOf(obj)
		}
		return obj.GetLabels(), generic.AddObjectMetaFieldsSet(set, objectMeta(obj), true), nil
	}
}

func objectMeta(obj Object) *metav1.ObjectMeta { return obj.GetObjectMeta().(*metav1.ObjectMeta) }
