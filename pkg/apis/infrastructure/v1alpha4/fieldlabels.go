// SPDX-License-Identifier: Apache-2.0

package v1alpha4

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/runtime"
)

// selectableFields are the fields that a field selector may name, by kind,
// besides metadata.name and metadata.namespace. Their values are set in
// pkg/registry.
var selectableFields = map[string][]string{
	"MetalStackCluster":             {"status.ready"},
	"MetalStackClusterTemplate":     {},
	"MetalStackFirewall":            {"spec.providerID", "status.metal.managed", "status.metal.phase", "status.ready"},
	"MetalStackImage":               {"status.alias", "status.newest", "status.os"},
	"MetalStackIP":                  {"status.address", "status.managed", "status.networkID", "status.ready"},
	"MetalStackNetwork":             {"status.managed", "status.networkID", "status.ready", "status.type"},
	"MetalStackPartition":           {},
	"MetalStackProject":             {},
	"MetalStackSize":                {},
	"MetalStackMachine":             {"spec.providerID", "status.metal.managed", "status.metal.phase", "status.ready"},
	"MetalStackMachineTemplate":     {},
	"MetalStackRemediation":         {},
	"MetalStackRemediationTemplate": {},
}

func addFieldLabelConversionFuncs(scheme *runtime.Scheme) error {
	for kind, fields := range selectableFields {
		supported := append([]string{"metadata.name", "metadata.namespace"}, fields...)
		convert := func(label, value string) (string, string, error) {
			if !slices.Contains(supported, label) {
				return "", "", fmt.Errorf("field label %q is not supported for %s: supported labels are %q", label, kind, supported)
			}
			return label, value, nil
		}
		if err := scheme.AddFieldLabelConversionFunc(SchemeGroupVersion.WithKind(kind), convert); err != nil {
			return err
		}
	}
	return nil
}
