// SPDX-License-Identifier: Apache-2.0

package kubectl_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha3"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// kinds are the types of each version, by kind.
var kinds = map[string]map[string]runtime.Object{
	"v1alpha3": {
		"MetalStackCluster": &v1alpha3.MetalStackCluster{}, "MetalStackClusterTemplate": &v1alpha3.MetalStackClusterTemplate{},
		"MetalStackMachine": &v1alpha3.MetalStackMachine{}, "MetalStackMachineTemplate": &v1alpha3.MetalStackMachineTemplate{},
		"MetalStackFirewall": &v1alpha3.MetalStackFirewall{}, "MetalStackRemediation": &v1alpha3.MetalStackRemediation{},
		"MetalStackRemediationTemplate": &v1alpha3.MetalStackRemediationTemplate{},
	},
	"v1alpha4": {
		"MetalStackCluster": &v1alpha4.MetalStackCluster{}, "MetalStackClusterTemplate": &v1alpha4.MetalStackClusterTemplate{},
		"MetalStackMachine": &v1alpha4.MetalStackMachine{}, "MetalStackMachineTemplate": &v1alpha4.MetalStackMachineTemplate{},
		"MetalStackFirewall": &v1alpha4.MetalStackFirewall{}, "MetalStackRemediation": &v1alpha4.MetalStackRemediation{},
		"MetalStackRemediationTemplate": &v1alpha4.MetalStackRemediationTemplate{},
	},
}

// schema is as much of an OpenAPI schema as kubectl explain prints.
type schema struct {
	Ref         string `json:"$ref"`
	Description string
	Properties  map[string]schema
	Items       *schema
	AllOf       []schema
	Kinds       []metav1.GroupVersionKind `json:"x-kubernetes-group-version-kind"`
}

// explainDocumentsEveryField compares what the kube-apiserver publishes of each
// version, from which kubectl explains, with the fields that there are.
func explainDocumentsEveryField(s *space) {
	for version, types := range kinds {
		var document struct {
			Components struct{ Schemas map[string]schema }
		}
		require.NoError(s.t, json.Unmarshal([]byte(s.kubectl("get", "--raw", "/openapi/v3/apis/"+group+"/"+version)), &document))
		published := document.Components.Schemas
		for kind, object := range types {
			root := metav1.GroupVersionKind{Group: group, Version: version, Kind: kind}
			said := map[string]string{}
			for _, candidate := range published {
				if slices.Contains(candidate.Kinds, root) {
					describe(said, published, candidate, "")
				}
			}
			fields := fieldsOf(reflect.TypeOf(object).Elem(), "")
			require.NotEmpty(s.t, fields)
			for _, field := range fields {
				require.Greater(s.t, len(strings.Fields(said[field])), 2, "%s %s%s is described: %q", version, kind, field, said[field])
			}
		}
	}
	recursive := s.kubectl("explain", "msm", "--recursive")
	for _, field := range fieldsOf(reflect.TypeFor[v1alpha4.MetalStackMachine](), "") {
		require.Contains(s.t, recursive, "  "+path.Base(strings.ReplaceAll(field, ".", "/"))+"\t", field)
	}
}

// describe collects what is said of every field of a schema.
func describe(said map[string]string, published map[string]schema, of schema, at string) {
	for name, field := range of.Properties {
		here := at + "." + name
		if field.Description != "" {
			said[here] = field.Description
		}
		for _, part := range append([]schema{field}, field.AllOf...) {
			if part.Items != nil {
				part = *part.Items
			}
			for _, ref := range append([]schema{part}, part.AllOf...) {
				describe(said, published, ref, here)
				if target, found := published[strings.TrimPrefix(ref.Ref, "#/components/schemas/")]; found {
					describe(said, published, target, here)
				}
			}
		}
	}
}

// fieldsOf lists the fields of a type, down to the last, that are ours to
// describe: what is within metadata is Kubernetes'.
func fieldsOf(t reflect.Type, at string) []string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || !strings.Contains(t.PkgPath(), "infrastructure") && t != reflect.TypeFor[metav1.Condition]() {
		return nil
	}
	var fields []string
	for i := range t.NumField() {
		field := t.Field(i)
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if strings.Contains(options, "inline") {
			fields = append(fields, fieldsOf(field.Type, at)...)
			continue
		}
		fields = append(append(fields, at+"."+name), fieldsOf(field.Type, at+"."+name)...)
	}
	return fields
}

// explainNamesValuesAndExamples asks as a person does, and reads what an
// answer must hold.
func explainNamesValuesAndExamples(s *space) {
	for field, want := range map[string][]string{
		"msm":                               {"KIND:       MetalStackMachine", "VERSION:    v1alpha4", "a machine of metal-stack", "status.metal"},
		"msc.spec.partition":                {"kubectl get metalstackpartitions", "cannot be changed"},
		"msc.spec":                          {"partition <string> -required-", "publicNetworkID <string>"},
		"msm.status.metal.phase":            {"Phoned Home", "Installing"},
		"msm.status.metal.lastEvent.time":   {"FIELD: time"},
		"msm.status.conditions.reason":      {"reason contains"},
		"msf.spec.rules.ingress.from":       {"203.0.113.0/24", "<[]string>"},
		"msmt.spec.template.spec.tags":      {"key=value"},
		"msct.spec.template.spec":           {"firewallSpec", "privateNetworkID"},
		"msc.spec.controlPlaneEndpoint":     {"host", "port", "6443"},
		"metalstackclusters.status.network": {"availableIPs"},
	} {
		for _, version := range slices.Sorted(maps.Keys(kinds)) {
			said := s.kubectl("explain", field, fmt.Sprintf("--api-version=%s/%s", group, version))
			for _, words := range want {
				require.Contains(s.t, strings.Join(strings.Fields(said), " "), strings.Join(strings.Fields(strings.ReplaceAll(words, "v1alpha4", version)), " "), "explain %s", field)
			}
		}
	}
	said := s.kubectl("explain", "firewalls.spec", "--api-version=firewall.metal-stack.io/v2")
	require.Contains(s.t, said, "KIND:       Firewall")
	require.Contains(s.t, said, "rateLimits")
	require.Contains(s.t, s.refused("", "explain", "msm.spec.colour"), `field "colour" does not exist`)
}
