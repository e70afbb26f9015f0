// SPDX-License-Identifier: Apache-2.0

package capi

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"metal-stack.io/infrastructure-apiserver/test/framework"
)

// helmAddOns is what the add-on provider for Helm defines, as far as objects
// can be kept: it is not installed.
const helmAddOns = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: helmchartproxies.addons.cluster.x-k8s.io}
spec:
  group: addons.cluster.x-k8s.io
  names: {kind: HelmChartProxy, listKind: HelmChartProxyList, plural: helmchartproxies, singular: helmchartproxy}
  scope: Namespaced
  versions:
  - name: v1alpha1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`

// addOnsArrive: Cluster API brings metal-ccm to the cluster, with its access to the
// metal-api and no key, and the chart of Calico is meant for it.
func addOnsArrive(t *testing.T, c *Tenant) {
	t.Helper()
	workload := c.Workload(t)
	system := metav1.NamespaceSystem
	var secret *corev1.Secret
	framework.Eventually(t, slow, func(ctx context.Context) (err error) {
		if _, err = workload.c.metalCCM.controller(); err == nil {
			secret, err = workload.Client().CoreV1().Secrets(system).Get(ctx, metalCCM, metav1.GetOptions{})
		}
		return err
	})
	infra, err := c.Infrastructure(t.Context())
	require.NoError(t, err)
	ordered, err := c.Cluster(t.Context())
	require.NoError(t, err)
	assert.Equal(t, fmt.Sprintf("%s/apis/infrastructure.cluster.x-k8s.io/v1alpha4/namespaces/%s/metalstackclusters/%s/metalapi", c.m.Admin().Host, infra.Namespace, infra.Name), string(secret.Data["url"]))
	assert.Equal(t, infra.Status.ClusterID, string(secret.Data["cluster"]))
	assert.Equal(t, Partition, string(secret.Data["partition"]))
	assert.Equal(t, infra.Spec.ProjectID, string(secret.Data["project"]))
	assert.Equal(t, infra.Spec.PublicNetworkID, string(secret.Data["default-external-network"]))
	assert.Equal(t, infra.Status.Network.ID+","+infra.Spec.PublicNetworkID, string(secret.Data["additional-networks"]))
	everything, err := json.Marshal(secret)
	require.NoError(t, err)
	assert.NotContains(t, string(everything), c.m.Site.Metal.Key("Metal-Edit"), "no key of the metal-api")

	chart := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "addons.cluster.x-k8s.io/v1alpha1", "kind": "HelmChartProxy"}}
	require.NoError(t, c.Client.Get(t.Context(), client.ObjectKey{Namespace: c.Key.Namespace, Name: c.Key.Name + "-calico"}, chart))
	selector, _, err := unstructured.NestedStringMap(chart.Object, "spec", "clusterSelector", "matchLabels")
	require.NoError(t, err)
	chosen := &clusterv1.ClusterList{}
	require.NoError(t, c.Client.List(t.Context(), chosen, client.InNamespace(c.Key.Namespace), client.MatchingLabels(selector)))
	assert.Len(t, chosen.Items, 1)
	text, _, err := unstructured.NestedString(chart.Object, "spec", "valuesTemplate")
	require.NoError(t, err)
	values := struct {
		Installation struct {
			CalicoNetwork struct {
				IPPools []struct{ CIDR string } `json:"ipPools"`
			} `json:"calicoNetwork"`
		}
	}{}
	require.NoError(t, yaml.Unmarshal([]byte(text), &values))
	require.Len(t, values.Installation.CalicoNetwork.IPPools, 1)
	assert.Equal(t, ordered.Spec.ClusterNetwork.Pods.CIDRBlocks, []string{values.Installation.CalicoNetwork.IPPools[0].CIDR})
}
