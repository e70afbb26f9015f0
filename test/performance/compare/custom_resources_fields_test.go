// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// property is a part of a schema.
type property struct {
	Type       string
	Properties map[string]*property
	Items      *property
}

// A field that the schema does not have would be pruned, and the custom resources
// would hold less than our objects.
func TestDefinition_HasFieldsOfOurKind(t *testing.T) {
	t.Parallel()
	var crd struct {
		Spec struct {
			Versions []struct {
				Schema struct {
					OpenAPIV3Schema *property `json:"openAPIV3Schema"`
				}
			}
		}
	}
	require.NoError(t, yaml.Unmarshal(definition, &crd))
	require.Len(t, crd.Spec.Versions, 1)
	schema := crd.Spec.Versions[0].Schema.OpenAPIV3Schema
	require.NotNil(t, schema)
	requireFields(t, "spec", reflect.TypeFor[v1alpha4.MetalStackMachineSpec](), schema.Properties["spec"])
	requireFields(t, "status", reflect.TypeFor[v1alpha4.MetalStackMachineStatus](), schema.Properties["status"])
}

func requireFields(t *testing.T, path string, typ reflect.Type, p *property) {
	t.Helper()
	require.NotNil(t, p, "%s is not in testdata/customresourcedefinition.yaml", path)
	switch typ.Kind() {
	case reflect.Pointer:
		requireFields(t, path, typ.Elem(), p)
	case reflect.Slice:
		assert.Equal(t, "array", p.Type, path)
		requireFields(t, path+"[]", typ.Elem(), p.Items)
	case reflect.Struct:
		if typ == reflect.TypeFor[metav1.Time]() || typ == reflect.TypeFor[metav1.MicroTime]() || typ == reflect.TypeFor[time.Time]() {
			assert.Equal(t, "string", p.Type, path)
			return
		}
		assert.Equal(t, "object", p.Type, path)
		for i := range typ.NumField() {
			name, options, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			if name == "" && strings.Contains(options, "inline") {
				requireFields(t, path, typ.Field(i).Type, p)
				continue
			}
			requireFields(t, path+"."+name, typ.Field(i).Type, p.Properties[name])
		}
	default:
		assert.NotEqual(t, "object", p.Type, path)
	}
}

func TestCustomResource_DiffersByGroupAndUIDOnly(t *testing.T) {
	t.Parallel()
	item := map[string]any{
		"apiVersion": v1alpha4.SchemeGroupVersion.String(),
		"metadata": map[string]any{
			"name": "node-1", "namespace": "team-a", "uid": "u", "resourceVersion": "7", "labels": map[string]any{"a": "b"},
			"managedFields": []any{map[string]any{"manager": "m", "apiVersion": v1alpha4.SchemeGroupVersion.String()}},
		},
		"spec": map[string]any{"image": "i"},
	}
	key, value, err := custom(item)
	require.NoError(t, err)
	assert.Equal(t, "/registry/compare.example.org/metalstackmachines/team-a/node-1", key)
	var stored map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(value), &stored))
	metadata := stored["metadata"].(map[string]any)
	assert.NotEqual(t, "u", metadata["uid"])
	assert.NotContains(t, metadata, "resourceVersion")
	assert.Equal(t, map[string]any{"a": "b"}, metadata["labels"])
	assert.Equal(t, customVersion.String(), stored["apiVersion"])
	assert.Equal(t, customVersion.String(), metadata["managedFields"].([]any)[0].(map[string]any)["apiVersion"])
	assert.Equal(t, item["spec"], stored["spec"])
}
