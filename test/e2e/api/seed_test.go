// SPDX-License-Identifier: Apache-2.0

package api

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/metal-stack/metal-go/api/client/ip"
	"github.com/metal-stack/metal-go/api/models"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"
)

// The manifests that the archived provider documented apply unchanged, and
// either version reads them back unchanged.
func TestSeedManifests_ReadBackUnchanged(t *testing.T) {
	t.Parallel()
	env := start(t, seedInventory)
	client, err := dynamic.NewForConfig(env.config)
	require.NoError(t, err)
	// The control plane's address is one that the project holds.
	project, network, kind := "00000000-0000-0000-0000-000000000000", "internet-vagrant-lab", "static"
	_, err = env.Metal.Edit.IP().AllocateSpecificIP(ip.NewAllocateSpecificIPParams().WithIP("100.255.254.1").
		WithBody(&models.V1IPAllocateRequest{Projectid: &project, Networkid: &network, Type: &kind}), nil)
	require.NoError(t, err)
	files, err := filepath.Glob("../../../artifacts/examples/seed/*.yaml")
	require.NoError(t, err)
	require.Len(t, files, 3)
	resources := map[string]string{"MetalStackCluster": "metalstackclusters", "MetalStackMachine": "metalstackmachines", "MetalStackFirewall": "metalstackfirewalls"}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			require.NoError(t, err)
			var manifest unstructured.Unstructured
			asJSON, err := yaml.YAMLToJSON(raw)
			require.NoError(t, err)
			require.NoError(t, manifest.UnmarshalJSON(asJSON))
			gvr := manifest.GroupVersionKind().GroupVersion().WithResource(resources[manifest.GetKind()])
			_, err = client.Resource(gvr).Namespace(manifest.GetNamespace()).Apply(t.Context(), manifest.GetName(), &manifest, metav1.ApplyOptions{FieldManager: "kubectl"})
			require.NoError(t, err)
			for _, version := range []string{"v1alpha3", "v1alpha4"} {
				got, err := client.Resource(schema.GroupVersionResource{Group: gvr.Group, Version: version, Resource: gvr.Resource}).
					Namespace(manifest.GetNamespace()).Get(t.Context(), manifest.GetName(), metav1.GetOptions{})
				require.NoError(t, err)
				require.Equal(t, manifest.Object["spec"], got.Object["spec"], version)
				require.Equal(t, manifest.GetLabels(), got.GetLabels())
			}
		})
	}
}
