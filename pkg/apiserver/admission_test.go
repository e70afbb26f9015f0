// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/scheme"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha3"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/admission"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/testserver"
)

// secretField matches names of fields that may have a secret. What references a Secret is
// none.
var secretField = regexp.MustCompile(`(?i)userdata|password|token|hmac|privatekey|kubeconfig|credential`)

// Policies and webhooks get the objects that requests bring and the stored ones. So neither
// the kind of a body nor the kind that it belongs to has a field with a secret.
func TestAdmission_NoSecretReachesPlugins(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{Memory: true})
	exempt := map[string]bool{}
	for _, version := range []schema.GroupVersion{v1alpha3.SchemeGroupVersion, v1alpha4.SchemeGroupVersion} {
		list, err := s.Client().Discovery().ServerResourcesForGroupVersion(version.String())
		require.NoError(t, err)
		require.NotEmpty(t, list.APIResources)
		for _, resource := range list.APIResources {
			_, subresource, _ := strings.Cut(resource.Name, "/")
			if !admission.Admits(subresource) {
				exempt[subresource] = true
				continue
			}
			for _, field := range secretFields(typeOf(t, version, resource)) {
				t.Errorf("%s of %s reaches policies and webhooks, and has the field %s", resource.Name, version, field)
			}
		}
	}
	for _, subresource := range []string{"allocation", "consolepassword"} {
		assert.True(t, exempt[subresource], "%s is not exempt", subresource)
	}
	assert.NotEmpty(t, secretFields(typeOf(t, v1alpha4.SchemeGroupVersion, metav1.APIResource{Kind: "Allocation"})), "the test finds a secret")
	assert.NotEmpty(t, secretFields(typeOf(t, v1alpha4.SchemeGroupVersion, metav1.APIResource{Kind: "MachineConsolePassword"})), "the test finds a secret")
}

func typeOf(t *testing.T, version schema.GroupVersion, resource metav1.APIResource) reflect.Type {
	t.Helper()
	obj, err := scheme.Scheme.New(version.WithKind(resource.Kind))
	require.NoError(t, err, resource.Name)
	return reflect.TypeOf(obj).Elem()
}

// secretFields are the paths of fields that are bytes, or whose names say that they have a
// secret.
func secretFields(of reflect.Type) (paths []string) {
	known := map[reflect.Type]bool{}
	var walk func(path string, of reflect.Type)
	walk = func(path string, of reflect.Type) {
		switch of.Kind() {
		case reflect.Pointer, reflect.Map, reflect.Slice, reflect.Array:
			if of == reflect.TypeFor[[]byte]() {
				paths = append(paths, path)
				return
			}
			walk(path, of.Elem())
		case reflect.Struct:
			if known[of] || strings.HasPrefix(of.PkgPath(), "k8s.io/apimachinery/") {
				return
			}
			known[of] = true
			for field := range of.Fields() {
				inside := path + "." + field.Name
				if secretField.MatchString(field.Name) && !referencesSecret(field) {
					paths = append(paths, inside)
				}
				walk(inside, field.Type)
			}
		}
	}
	walk(of.Name(), of)
	return paths
}

func referencesSecret(field reflect.StructField) bool {
	of := field.Type
	for of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	return of.Name() == "SecretReference" || strings.HasSuffix(field.Name, "SecretName")
}
