// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/controlplane"
)

// Overlay is a directory to apply instead of artifacts/deploy: the same with
// components of it.
func Overlay(t testing.TB, components ...string) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	deploy, err := filepath.EvalSymlinks(Deploy())
	require.NoError(t, err)
	// kustomize wants paths that are relative.
	base, err := filepath.Rel(dir, deploy)
	require.NoError(t, err)
	overlay := map[string]any{"resources": []string{base}}
	var paths []string
	for _, name := range components {
		paths = append(paths, filepath.Join(base, "components", name))
	}
	if paths != nil {
		overlay["components"] = paths
	}
	content, err := yaml.Marshal(overlay)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "kustomization.yaml"), content, 0o600))
	return dir
}

// Render is what an overlay, or artifacts/deploy, makes.
func Render(t testing.TB, plane *controlplane.ControlPlane, overlay string) []*unstructured.Unstructured {
	t.Helper()
	stdout, stderr, err := plane.Kubectl(t, plane.Admin(), "kustomize", overlay)
	require.NoError(t, err, stderr)
	var objects []*unstructured.Unstructured
	for document := range strings.SplitSeq(stdout, "\n---\n") {
		object := &unstructured.Unstructured{}
		require.NoError(t, yaml.UnmarshalStrict([]byte(document), &object.Object))
		objects = append(objects, object)
	}
	return objects
}

// others are the groups whose kinds components use, and which a test's control
// plane does not have.
var others = []string{"cert-manager.io", "monitoring.coreos.com"}

// DefineOthers defines the kinds of others among objects, so that they can be
// applied. Nothing in them is checked, and nobody acts on them.
func DefineOthers(t testing.TB, plane *controlplane.ControlPlane, objects []*unstructured.Unstructured) {
	t.Helper()
	client, err := dynamic.NewForConfig(plane.Admin())
	require.NoError(t, err)
	definitions := client.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	for _, object := range objects {
		kind := object.GroupVersionKind()
		if !slices.Contains(others, kind.Group) {
			continue
		}
		singular := strings.ToLower(kind.Kind)
		_, err := definitions.Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
			"metadata": map[string]any{"name": singular + "s." + kind.Group},
			"spec": map[string]any{
				"group": kind.Group, "scope": "Namespaced",
				"names": map[string]any{"kind": kind.Kind, "listKind": kind.Kind + "List", "plural": singular + "s", "singular": singular},
				"versions": []any{map[string]any{
					"name": kind.Version, "served": true, "storage": true,
					"schema": map[string]any{"openAPIV3Schema": map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
				}},
			},
		}}, metav1.CreateOptions{})
		if !apierrors.IsAlreadyExists(err) {
			require.NoError(t, err)
		}
		resource := client.Resource(kind.GroupVersion().WithResource(singular + "s"))
		framework.EventuallyRetrying(t, readyLimit, func(ctx context.Context) error {
			if _, err := resource.List(ctx, metav1.ListOptions{}); err != nil {
				return fmt.Errorf("%s: %w", kind, err)
			}
			return nil
		})
	}
}
