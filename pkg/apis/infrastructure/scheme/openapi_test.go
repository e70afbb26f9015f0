// SPDX-License-Identifier: Apache-2.0

package scheme

import (
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/apitesting/roundtrip"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/managedfields"
	openapinamer "k8s.io/apiserver/pkg/endpoints/openapi"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/kube-openapi/pkg/builder3"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
	"sigs.k8s.io/structured-merge-diff/v6/value"

	"metal-stack.io/infrastructure-apiserver/generated/openapi"
	firewallv2 "metal-stack.io/infrastructure-apiserver/pkg/apis/firewall/v2"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

const (
	modelPrefix         = "io.x-k8s.cluster.infrastructure."
	firewallModelPrefix = "io.metal-stack.firewall.v2."
)

func definitions() map[string]common.OpenAPIDefinition {
	return openapi.GetOpenAPIDefinitions(func(path string) spec.Ref {
		return spec.MustCreateRef("#/definitions/" + path)
	})
}

// kubectl explain works to the last field.
func TestOpenAPI_EveryFieldIsDescribed(t *testing.T) {
	t.Parallel()

	ours := 0
	for name, definition := range definitions() {
		if !strings.HasPrefix(name, modelPrefix) && !strings.HasPrefix(name, firewallModelPrefix) {
			continue
		}
		ours++
		assert.NotEmpty(t, definition.Schema.Description, name)
		for field, schema := range definition.Schema.Properties {
			switch field {
			case "apiVersion", "kind":
			default:
				assert.Truef(t, strings.HasPrefix(schema.Description, field+" ") || strings.HasPrefix(schema.Description, field+"\n"),
					"%s.%s: %q should begin with the field's name", name, field, schema.Description)
			}
		}
	}
	assert.Positive(t, ours)
}

// A definition that refers to one that is not there breaks the OpenAPI of the
// whole cluster, and with it every user's kubectl and Argo CD.
func TestOpenAPI_EveryReferenceIsDefined(t *testing.T) {
	t.Parallel()

	all := definitions()
	for name, definition := range all {
		assert.NotContains(t, name, "/", "model names are dotted, or server-side apply and OpenAPI v2 break")
		for _, dependency := range definition.Dependencies {
			assert.Contains(t, all, dependency, "needed by %s", name)
		}
	}
}

func TestOpenAPI_EveryKindIsDefinedInBothVersions(t *testing.T) {
	t.Parallel()

	all := definitions()
	for kind := range Scheme.KnownTypes(infrastructure.SchemeGroupVersion) {
		if roundtrip.GlobalNonRoundTrippableTypes().Has(kind) {
			continue // Kubernetes' own, in every group.
		}
		for _, version := range []string{"v1alpha3", "v1alpha4"} {
			_, ok := all[modelPrefix+version+"."+kind]
			assert.True(t, ok, "%s %s", version, kind)
		}
	}
}

func TestOpenAPI_FirewallIsDefined(t *testing.T) {
	t.Parallel()

	all := definitions()
	for kind := range Scheme.KnownTypes(firewallv2.SchemeGroupVersion) {
		if !strings.HasPrefix(kind, "Firewall") {
			continue // Kubernetes' own, in every group.
		}
		_, ok := all[firewallModelPrefix+kind]
		assert.True(t, ok, kind)
	}
	assert.Contains(t, all, firewallModelPrefix+"Firewall")
}

// typeConverter is what server-side apply understands objects with.
func typeConverter(t *testing.T) managedfields.TypeConverter {
	t.Helper()
	config := genericapiserver.DefaultOpenAPIV3Config(openapi.GetOpenAPIDefinitions, openapinamer.NewDefinitionNamer(Scheme))
	var names []string
	for name := range definitions() {
		names = append(names, name)
	}
	schemas, err := builder3.BuildOpenAPIDefinitionsForResources(config, names...)
	require.NoError(t, err)
	converter, err := managedfields.NewTypeConverter(schemas, false)
	require.NoError(t, err)
	return converter
}

func TestServerSideApply_ListAndMapTypes(t *testing.T) {
	t.Parallel()

	converter := typeConverter(t)
	machine := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": StorageVersion.String(), "kind": "MetalStackMachine",
		"spec": map[string]any{
			"sshKeys": []any{"a", "b"}, "tags": []any{"x", "y"}, "networks": []any{"n"},
			"userData": map[string]any{"name": "s"},
		},
		"status": map[string]any{
			"conditions": []any{map[string]any{"type": "Ready", "status": "True"}},
			"addresses":  []any{map[string]any{"type": "Hostname", "address": "node-1"}},
			"metal":      map[string]any{"machineID": "m", "networks": []any{map[string]any{"id": "n"}}},
			"allocation": map[string]any{"phase": "Allocated", "machineID": "m"},
		},
	}}
	typedMachine, err := converter.ObjectToTyped(machine)
	require.NoError(t, err)
	got, err := typedMachine.ToFieldSet()
	require.NoError(t, err)

	set := func(parts ...any) fieldpath.Path { return fieldpath.MakePathOrDie(parts...) }
	ready := fieldpath.KeyByFields("type", "Ready")
	want := fieldpath.NewSet(
		set("apiVersion"), set("kind"),
		set("spec", "sshKeys"),
		set("spec", "tags", member("x")), set("spec", "tags", member("y")),
		set("spec", "networks", member("n")),
		set("spec", "userData"),
		set("status", "conditions", ready), set("status", "conditions", ready, "type"), set("status", "conditions", ready, "status"),
		set("status", "addresses"), set("status", "metal"), set("status", "allocation"),
	)
	assert.True(t, want.Equals(got), "more: %s\nless: %s", got.Difference(want), want.Difference(got))
}

// Server-side apply compares typed values; an object that changes on its way
// through them would never be seen as unchanged.
func TestServerSideApply_TypesOfEveryKind(t *testing.T) {
	t.Parallel()

	converter := typeConverter(t)
	for kind, objectType := range Scheme.KnownTypes(StorageVersion) {
		object, ok := reflect.New(objectType).Interface().(runtime.Object)
		require.True(t, ok)
		if _, isObject := object.(metav1.ObjectMetaAccessor); !isObject {
			continue
		}
		object.GetObjectKind().SetGroupVersionKind(StorageVersion.WithKind(kind))
		Scheme.Default(object)
		typedObject, err := converter.ObjectToTyped(object, typed.AllowDuplicates)
		require.NoError(t, err, kind)
		back, err := converter.TypedToObject(typedObject)
		require.NoError(t, err)
		want, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
		require.NoError(t, err)
		got, err := runtime.DefaultUnstructuredConverter.ToUnstructured(back)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
}

func member(s string) value.Value { return value.NewValueInterface(s) }
