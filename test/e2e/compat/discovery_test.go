// SPDX-License-Identifier: Apache-2.0

package compat_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	openapi_v3 "github.com/google/gnostic-models/openapiv3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/openapi"

	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
)

func fields(text string) []string { return strings.Fields(text) }

// resources are what the server itself says that it serves: by group-version, its resources
// and subresources, with their kinds and verbs.
func resources(t *testing.T, env *environment) map[string][]string {
	t.Helper()
	served := map[string][]string{}
	for _, version := range cluster.Versions {
		list, err := env.Client().Discovery().ServerResourcesForGroupVersion(version.String())
		require.NoError(t, err)
		require.NotEmpty(t, list.APIResources)
		for _, r := range list.APIResources {
			served[version.String()] = append(served[version.String()], describe(r))
		}
	}
	return served
}

func describe(r metav1.APIResource) string {
	return fmt.Sprintf("%s %s namespaced=%t %v %v", r.Name, r.Kind, r.Namespaced, slices.Sorted(slices.Values(r.Verbs)), r.ShortNames)
}

// discoveryAggregated asks for all groups at once, as kubectl does, and compares with what
// the group-versions answer one by one.
func discoveryAggregated(t *testing.T, env *environment) {
	served := resources(t, env)
	framework.Eventually(t, limit, func(ctx context.Context) error {
		var contentType string
		body, err := env.Client().Discovery().RESTClient().Get().AbsPath("/apis").SetHeader("Accept", discovery.AcceptV2).Do(ctx).ContentType(&contentType).Raw()
		if err != nil {
			return err
		}
		require.Equal(t, discovery.AcceptV2, contentType)
		var all apidiscoveryv2.APIGroupDiscoveryList
		require.NoError(t, json.Unmarshal(body, &all))
		var versions []string
		for _, g := range all.Items {
			if g.Name != group {
				continue
			}
			for _, v := range g.Versions {
				if v.Freshness != apidiscoveryv2.DiscoveryFreshnessCurrent {
					return fmt.Errorf("%s is %s", v.Version, v.Freshness)
				}
				versions = append(versions, v.Version)
			}
		}
		if want := []string{"v1alpha4", "v1alpha3"}; !slices.Equal(want, versions) {
			return fmt.Errorf("want versions %v, the preferred one first, got %v", want, versions)
		}
		groups, lists, failed := discovery.SplitGroupsAndResources(all)
		require.Empty(t, failed)
		require.NotEmpty(t, groups.Groups)
		for _, version := range cluster.Versions {
			var found []string
			for _, r := range lists[version].APIResources {
				found = append(found, describe(r))
			}
			assert.ElementsMatch(t, served[version.String()], found, version)
		}
		return nil
	})
}

// discoveryLegacy asks as clients do that know of no aggregated discovery.
func discoveryLegacy(t *testing.T, env *environment) {
	client, err := discovery.NewDiscoveryClientForConfig(env.Admin())
	require.NoError(t, err)
	legacy := client.WithLegacy()
	groups, err := legacy.ServerGroups()
	require.NoError(t, err)
	i := slices.IndexFunc(groups.Groups, func(g metav1.APIGroup) bool { return g.Name == group })
	require.GreaterOrEqual(t, i, 0)
	assert.Equal(t, "v1alpha4", groups.Groups[i].PreferredVersion.Version)
	assert.Len(t, groups.Groups[i].Versions, len(cluster.Versions))
	preferred, err := legacy.ServerPreferredResources()
	require.NoError(t, err)
	named := map[string]bool{}
	for _, list := range preferred {
		for _, r := range list.APIResources {
			named[list.GroupVersion+"/"+r.Name] = true
		}
	}
	assert.True(t, named[group+"/v1alpha4/metalstackmachines"])
	assert.False(t, named[group+"/v1alpha3/metalstackmachines"])
	assert.NotEmpty(t, resources(t, env))
}

// kinds are the kinds of each group-version, lists and subresources left out.
func kinds(t *testing.T, env *environment) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	for _, version := range cluster.Versions {
		list, err := env.Client().Discovery().ServerResourcesForGroupVersion(version.String())
		require.NoError(t, err)
		for _, r := range list.APIResources {
			if !strings.Contains(r.Name, "/") {
				all[version.Version] = append(all[version.Version], r.Kind)
			}
		}
	}
	return all
}

// openAPIV2 is one document of the whole cluster, which is transferred as protobuf. The
// kube-apiserver merges ours into it some time after we are available.
func openAPIV2(t *testing.T, env *environment) {
	want := kinds(t, env)
	framework.Eventually(t, limit, func(context.Context) error {
		document, err := env.Client().Discovery().OpenAPISchema()
		if err != nil {
			return err
		}
		published := map[string]string{} // descriptions
		for _, definition := range document.GetDefinitions().GetAdditionalProperties() {
			for _, extension := range definition.GetValue().GetVendorExtension() {
				if extension.GetName() == "x-kubernetes-group-version-kind" {
					published[strings.Join(fields(extension.GetValue().GetYaml()), " ")] = definition.GetValue().GetDescription()
				}
			}
		}
		for version, names := range want {
			for _, kind := range names {
				about := fmt.Sprintf("- group: %s kind: %s version: %s", group, kind, version)
				if description, found := published[about]; !found || description == "" {
					return fmt.Errorf("%s: no definition, or none that is described, among %d", about, len(published))
				}
			}
		}
		return nil
	})
}

// openAPIV3 is a document of each group-version, as JSON or protobuf.
func openAPIV3(t *testing.T, env *environment) {
	for version, names := range kinds(t, env) {
		var asJSON, asProtobuf []byte
		framework.Eventually(t, limit, func(context.Context) error {
			paths, err := env.Client().Discovery().OpenAPIV3().Paths()
			if err != nil {
				return err
			}
			served, found := paths["apis/"+group+"/"+version]
			if !found {
				return fmt.Errorf("no document of %s", version)
			}
			if asJSON, err = served.Schema("application/json"); err != nil {
				return err
			}
			asProtobuf, err = served.Schema(openapi.ContentTypeOpenAPIV3PB)
			return err
		})
		var document struct {
			Components struct {
				Schemas map[string]struct {
					Description string
					Kinds       []metav1.GroupVersionKind `json:"x-kubernetes-group-version-kind"`
				}
			}
		}
		require.NoError(t, json.Unmarshal(asJSON, &document), version)
		var described []string
		for _, schema := range document.Components.Schemas {
			for _, kind := range schema.Kinds {
				if kind.Group == group && kind.Version == version && schema.Description != "" {
					described = append(described, kind.Kind)
				}
			}
		}
		assert.Subset(t, described, names, version)

		binary := &openapi_v3.Document{}
		require.NoError(t, proto.Unmarshal(asProtobuf, binary), version)
		var inJSON, inProtobuf []string
		for name := range document.Components.Schemas {
			inJSON = append(inJSON, name)
		}
		for _, schema := range binary.GetComponents().GetSchemas().GetAdditionalProperties() {
			inProtobuf = append(inProtobuf, schema.GetName())
		}
		assert.ElementsMatch(t, inJSON, inProtobuf, version)
		assert.NotEmpty(t, binary.GetPaths().GetPath(), version)
	}
}
