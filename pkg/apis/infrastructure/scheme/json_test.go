// SPDX-License-Identifier: Apache-2.0

package scheme

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha3"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// Cluster API's accessors fail on a null, and block the reconcile.
func TestJSON_EmptyFieldsAreOmitted(t *testing.T) {
	t.Parallel()

	empty := map[string]string{
		"MetalStackCluster":             `{"metadata":{},"spec":{"controlPlaneEndpoint":{"port":6443}},"status":{"ready":false}}`,
		"MetalStackMachine":             `{"metadata":{},"spec":{},"status":{"ready":false}}`,
		"MetalStackFirewall":            `{"metadata":{},"spec":{},"status":{"ready":false}}`,
		"MetalStackMachineTemplate":     `{"metadata":{},"spec":{"template":{"spec":{}}}}`,
		"MetalStackClusterTemplate":     `{"metadata":{},"spec":{"template":{"spec":{}}}}`,
		"MetalStackRemediation":         `{"metadata":{},"spec":{"strategy":{"type":"Reboot","retryLimit":1,"timeout":"15m0s"}}}`,
		"MetalStackRemediationTemplate": `{"metadata":{}}`,
		"Allocation":                    `{"metadata":{}}`,
	}
	for _, gv := range []schema.GroupVersion{v1alpha3.SchemeGroupVersion, v1alpha4.SchemeGroupVersion} {
		for kind, want := range empty {
			object, err := Scheme.New(gv.WithKind(kind))
			require.NoError(t, err)
			Scheme.Default(object)
			encoded, err := json.Marshal(object)
			require.NoError(t, err)
			assert.JSONEq(t, want, string(encoded), "%s %s", gv.Version, kind)
		}
	}
}

// The same for what is there but holds nothing.
func TestJSON_EmptyStructsAreNotNull(t *testing.T) {
	t.Parallel()

	for _, object := range []runtime.Object{
		&v1alpha4.MetalStackMachine{Status: v1alpha4.MetalStackMachineStatus{Metal: &v1alpha4.Metal{
			LastEvent: &v1alpha4.MetalEvent{}, Networks: []v1alpha4.MetalNetwork{{}},
		}, Allocation: &v1alpha4.MachineAllocation{}}},
		&v1alpha4.MetalStackCluster{
			Spec: v1alpha4.MetalStackClusterSpec{FirewallSpec: &v1alpha4.MetalStackFirewallSpec{Rules: &v1alpha4.FirewallRules{
				Egress: []v1alpha4.FirewallEgressRule{{}}, Ingress: []v1alpha4.FirewallIngressRule{{}},
			}}, MetalAPIAccess: &v1alpha4.MetalAPIAccess{}},
			Status: v1alpha4.MetalStackClusterStatus{
				FailureDomains: []v1alpha4.FailureDomain{{}}, Network: &v1alpha4.ClusterNetwork{},
				ControlPlaneIP: &v1alpha4.ClusterIP{}, Allocation: &v1alpha4.ClusterAllocation{},
			},
		},
		&v1alpha4.MetalStackMachineTemplate{Status: v1alpha4.MetalStackMachineTemplateStatus{NodeInfo: &v1alpha4.NodeInfo{}}},
	} {
		encoded, err := json.Marshal(object)
		require.NoError(t, err)
		assert.NotContains(t, string(encoded), "null")
	}
}

func TestMachine_JSONIsAsDocumented(t *testing.T) {
	t.Parallel()

	machine := v1alpha4.MetalStackMachine{
		Status: v1alpha4.MetalStackMachineStatus{
			Ready:          true,
			Initialization: v1alpha4.Initialization{Provisioned: ptr.To(true)},
			Addresses:      []v1alpha4.MachineAddress{{Type: v1alpha4.MachineInternalIP, Address: "172.22.0.10"}},
			FailureDomain:  "vagrant",
			Metal:          &v1alpha4.Metal{MachineID: "m", Managed: true, Phase: infrastructure.PhasePhonedHome, Liveliness: infrastructure.LivelinessAlive},
			Allocation: &v1alpha4.MachineAllocation{
				AllocationState: v1alpha4.AllocationState{Phase: v1alpha4.AllocationAllocated, Attempt: 1, UID: "u", ClusterName: "c"},
				MachineID:       "m", AllocationUUID: "a",
			},
		},
	}
	encoded, err := json.Marshal(machine.Status)
	require.NoError(t, err)
	assert.JSONEq(t, `{
		"ready": true,
		"initialization": {"provisioned": true},
		"addresses": [{"type": "InternalIP", "address": "172.22.0.10"}],
		"failureDomain": "vagrant",
		"metal": {"machineID": "m", "managed": true, "phase": "Phoned Home", "liveliness": "Alive"},
		"allocation": {"phase": "Allocated", "attempt": 1, "uid": "u", "clusterName": "c", "machineID": "m", "allocationUUID": "a"}
	}`, string(encoded))
}

func TestScheme_RecordsAreStoredInV1alpha4(t *testing.T) {
	t.Parallel()

	record, err := runtime.Encode(StorageCodec, &infrastructure.MetalStackMachine{})
	require.NoError(t, err)
	assert.Contains(t, string(record), `"apiVersion":"infrastructure.cluster.x-k8s.io/v1alpha4"`)
	object, err := runtime.Decode(StorageCodec, record)
	require.NoError(t, err)
	assert.IsType(t, &infrastructure.MetalStackMachine{}, object)
}

func TestScheme_BothVersionsServeTheSameKinds(t *testing.T) {
	t.Parallel()

	v4 := Scheme.KnownTypes(v1alpha4.SchemeGroupVersion)
	assert.ElementsMatch(t, slices.Collect(maps.Keys(Scheme.KnownTypes(v1alpha3.SchemeGroupVersion))), slices.Collect(maps.Keys(v4)))
	for kind := range Scheme.KnownTypes(infrastructure.SchemeGroupVersion) {
		assert.Contains(t, v4, kind)
	}
}
