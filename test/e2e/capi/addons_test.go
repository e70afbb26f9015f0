// SPDX-License-Identifier: Apache-2.0

package capi

import (
	"context"
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

// ccmVariables are those of the flavour calico.
func ccmVariables(env *environment, projectMetal ProjectMetal) map[string]string {
	return map[string]string{
		"METAL_PROJECT_ID": projectMetal.project, "METAL_CCM_API_URL": env.Site.Metal.URL, "METAL_CCM_API_HMAC": env.Site.Metal.Key("Metal-Edit"),
	}
}

// addOnsArrive: Cluster API brings metal-ccm to the cluster, and the chart of
// Calico is meant for it.
func addOnsArrive(t *testing.T, c *Tenant, variables map[string]string) {
	t.Helper()
	ordered, err := c.Cluster(t.Context())
	require.NoError(t, err)
	workload, err := c.m.Site.Workload(fmt.Sprintf("%s:%d", ordered.Spec.ControlPlaneEndpoint.Host, ordered.Spec.ControlPlaneEndpoint.Port))
	require.NoError(t, err)
	system := metav1.NamespaceSystem
	var env []corev1.EnvVar
	framework.Eventually(t, slow, func(ctx context.Context) error {
		deployment, err := workload.Client().AppsV1().Deployments(system).Get(ctx, "metal-ccm", metav1.GetOptions{})
		if err == nil {
			env = deployment.Spec.Template.Spec.Containers[0].Env
		}
		return err
	})
	assert.Contains(t, env, corev1.EnvVar{Name: "METAL_PROJECT_ID", Value: variables["METAL_PROJECT_ID"]})
	assert.Contains(t, env, corev1.EnvVar{Name: "METAL_PARTITION_ID", Value: Partition})
	secret, err := workload.Client().CoreV1().Secrets(system).Get(t.Context(), "metal-ccm", metav1.GetOptions{})
	require.NoError(t, err)
	for _, variable := range env {
		if from := variable.ValueFrom; from != nil {
			assert.Equal(t, secret.Name, from.SecretKeyRef.Name)
			assert.Contains(t, secret.Data, from.SecretKeyRef.Key)
		}
	}
	assert.Equal(t, variables["METAL_CCM_API_URL"], string(secret.Data["url"]))

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
