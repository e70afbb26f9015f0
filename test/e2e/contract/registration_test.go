// SPDX-License-Identifier: Apache-2.0

package contract_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/registration"
	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
	"metal-stack.io/infrastructure-apiserver/test/framework/controlplane"
)

func TestMain(m *testing.M) { os.Exit(cluster.Main(m)) }

var definitions = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// markers are the kinds that Cluster API and clusterctl find by a definition.
var markers = map[string]string{
	"metalstackclusters": "MetalStackCluster", "metalstackclustertemplates": "MetalStackClusterTemplate",
	"metalstackmachines": "MetalStackMachine", "metalstackmachinetemplates": "MetalStackMachineTemplate",
	"metalstackfirewalls": "MetalStackFirewall", "metalstackips": "MetalStackIP", "metalstacknetworks": "MetalStackNetwork",
	"metalstackremediations": "MetalStackRemediation", "metalstackremediationtemplates": "MetalStackRemediationTemplate",
}

// theirs is a definition as cluster-api-provider-metal-stack has it.
func theirs(plural, kind string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": map[string]any{
			"name": plural + "." + v1alpha4.GroupName,
			"labels": map[string]any{
				"cluster.x-k8s.io/v1beta1": "v1alpha1", "cluster.x-k8s.io/v1beta2": "v1alpha1",
				"cluster.x-k8s.io/provider": "infrastructure-metal-stack", "clusterctl.cluster.x-k8s.io": "",
			},
		},
		"spec": map[string]any{
			"group": v1alpha4.GroupName, "scope": "Namespaced",
			"names": map[string]any{"kind": kind, "listKind": kind + "List", "plural": plural, "singular": plural[:len(plural)-1]},
			"versions": []any{map[string]any{
				"name": "v1alpha1", "served": true, "storage": true,
				"schema": map[string]any{"openAPIV3Schema": map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
			}},
		},
	}}
}

func TestDefinitions_OfAnotherProviderAreLeftAlone(t *testing.T) {
	t.Parallel()
	plane := controlplane.Start(t)
	client, err := dynamic.NewForConfig(plane.Admin())
	require.NoError(t, err)
	colliding := []string{"metalstackclusters", "metalstackmachines", "metalstackmachinetemplates"}
	for _, plural := range colliding {
		_, err := client.Resource(definitions).Create(t.Context(), theirs(plural, markers[plural]), metav1.CreateOptions{})
		require.NoError(t, err)
	}
	c := cluster.Start(t, cluster.Options{ControlPlane: plane})
	framework.Eventually(t, limit, func(ctx context.Context) error {
		events, err := c.Client().CoreV1().Events("").List(ctx, metav1.ListOptions{FieldSelector: "reason=" + registration.ReasonMarkerTaken})
		if err == nil && len(events.Items) < len(colliding) {
			err = fmt.Errorf("%d definitions are complained of", len(events.Items))
		}
		return err
	})
	for _, plural := range colliding {
		definition, err := client.Resource(definitions).Get(t.Context(), plural+"."+v1alpha4.GroupName, metav1.GetOptions{})
		require.NoError(t, err)
		assert.Equal(t, "v1alpha1", definition.GetLabels()["cluster.x-k8s.io/v1beta2"], "Cluster API still goes there")
		assert.NotContains(t, definition.GetLabels(), registration.RegisteredByLabel)
		// Both are served beside each other, under their versions.
		for _, version := range []string{"v1alpha1", v1alpha4.SchemeGroupVersion.Version} {
			resource := schema.GroupVersionResource{Group: v1alpha4.GroupName, Version: version, Resource: plural}
			_, err := client.Resource(resource).Namespace("default").List(t.Context(), metav1.ListOptions{})
			require.NoError(t, err, version)
		}
		require.NoError(t, client.Resource(definitions).Delete(t.Context(), definition.GetName(), metav1.DeleteOptions{}))
	}

	for plural, kind := range markers {
		framework.Eventually(t, limit, func(ctx context.Context) error {
			definition, err := client.Resource(definitions).Get(ctx, plural+"."+v1alpha4.GroupName, metav1.GetOptions{})
			if err != nil {
				return err
			}
			return isMarker(definition, kind)
		})
	}
}

// isMarker: a definition shows Cluster API a version, and serves nothing.
func isMarker(definition *unstructured.Unstructured, kind string) error {
	labels := definition.GetLabels()
	_, forMove := labels["clusterctl.cluster.x-k8s.io"]
	if !forMove || labels["cluster.x-k8s.io/v1beta2"] != "v1alpha4" || labels["cluster.x-k8s.io/provider"] != "infrastructure-metal-stack" {
		return fmt.Errorf("labels of %s: %v", kind, labels)
	}
	scope, _, _ := unstructured.NestedString(definition.Object, "spec", "scope")
	list, _, _ := unstructured.NestedString(definition.Object, "spec", "names", "listKind")
	if scope != "Namespaced" || list != kind+"List" {
		return fmt.Errorf("%s is %s, its list %s", kind, scope, list)
	}
	versions, _, _ := unstructured.NestedSlice(definition.Object, "spec", "versions")
	for _, v := range versions {
		if version := v.(map[string]any); version["served"] != false || version["name"] != "v1alpha4" {
			return errors.New(kind + " serves something")
		}
	}
	return nil
}
