// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

func machineTemplate(edits ...func(*infrastructure.MetalStackMachineTemplate)) *infrastructure.MetalStackMachineTemplate {
	t := &infrastructure.MetalStackMachineTemplate{
		ObjectMeta: metav1.ObjectMeta{Name: "workers.v1", Namespace: "metal-stack", ResourceVersion: "1"},
		Spec: infrastructure.MetalStackMachineTemplateSpec{Template: infrastructure.MetalStackMachineTemplateResource{
			Spec: infrastructure.MetalStackMachineSpec{Image: "ubuntu-24.04", MachineType: "v1-small-x86"},
		}},
	}
	for _, edit := range edits {
		edit(t)
	}
	return t
}

func clusterTemplate(edits ...func(*infrastructure.MetalStackClusterTemplate)) *infrastructure.MetalStackClusterTemplate {
	t := &infrastructure.MetalStackClusterTemplate{
		ObjectMeta: metav1.ObjectMeta{Name: "class", Namespace: "metal-stack", ResourceVersion: "1"},
	}
	for _, edit := range edits {
		edit(t)
	}
	return t
}

func TestValidateTemplate_AppliesTheRulesOfItsKind(t *testing.T) {
	t.Parallel()

	says(t, ValidateMachineTemplate(machineTemplate()))
	says(t, ValidateMachineTemplate(machineTemplate(func(t *infrastructure.MetalStackMachineTemplate) {
		t.Spec.Template.Spec.Image = ""
		t.Spec.Template.ObjectMeta.Labels = map[string]string{"a b": "c"}
	})), "spec.template.metadata.labels: Invalid value", "spec.template.spec.image: Required value")

	says(t, ValidateClusterTemplate(clusterTemplate()))
	says(t, ValidateClusterTemplate(clusterTemplate(func(t *infrastructure.MetalStackClusterTemplate) {
		t.Spec.Template.Spec.ControlPlaneEndpoint.Host = "no host"
	})), "spec.template.spec.controlPlaneEndpoint.host: Invalid value")
}

func TestValidateTemplate_RefusesProviderID(t *testing.T) {
	t.Parallel()

	says(t, ValidateMachineTemplate(machineTemplate(func(t *infrastructure.MetalStackMachineTemplate) {
		t.Spec.Template.Spec.ProviderID = "metal:///" + machineID
	})), "spec.template.spec.providerID: Forbidden")
	says(t, ValidateClusterTemplate(clusterTemplate(func(t *infrastructure.MetalStackClusterTemplate) {
		t.Spec.Template.Spec.FirewallSpec = &infrastructure.MetalStackFirewallSpec{Image: "a", MachineType: "b", ProviderID: "metal:///" + machineID}
	})), "spec.template.spec.firewallSpec.providerID: Forbidden")
}

func TestValidateTemplateUpdate_OnlyInATopologyDryRun(t *testing.T) {
	t.Parallel()

	asked := func(meta *metav1.ObjectMeta) {
		meta.Annotations = map[string]string{infrastructure.TopologyDryRunAnnotation: ""}
	}
	edit := func(t *infrastructure.MetalStackMachineTemplate) { t.Spec.Template.Spec.Image = "debian-12" }
	ask := func(t *infrastructure.MetalStackMachineTemplate) { asked(&t.ObjectMeta) }
	says(t, ValidateMachineTemplateUpdate(machineTemplate(edit), machineTemplate(), false), "spec: Forbidden: a template cannot be changed")
	says(t, ValidateMachineTemplateUpdate(machineTemplate(edit), machineTemplate(), true), "spec: Forbidden")
	says(t, ValidateMachineTemplateUpdate(machineTemplate(edit, ask), machineTemplate(), false), "spec: Forbidden")
	says(t, ValidateMachineTemplateUpdate(machineTemplate(edit, ask), machineTemplate(), true))
	says(t, ValidateMachineTemplateUpdate(machineTemplate(ask), machineTemplate(), false))

	editCluster := func(t *infrastructure.MetalStackClusterTemplate) { t.Spec.Template.Spec.Partition = "fra-equ01" }
	askCluster := func(t *infrastructure.MetalStackClusterTemplate) { asked(&t.ObjectMeta) }
	says(t, ValidateClusterTemplateUpdate(clusterTemplate(editCluster), clusterTemplate(), true), "spec: Forbidden")
	says(t, ValidateClusterTemplateUpdate(clusterTemplate(editCluster, askCluster), clusterTemplate(), true))
}

func TestValidateTemplate_RefusesSecretOfAnotherNamespace(t *testing.T) {
	t.Parallel()

	naming := func(namespace string) func(*infrastructure.MetalStackMachineTemplate) {
		return func(t *infrastructure.MetalStackMachineTemplate) {
			t.Spec.Template.Spec.UserData = &infrastructure.SecretReference{Name: "cloud-init", Namespace: namespace}
		}
	}
	says(t, ValidateMachineTemplate(machineTemplate(naming("metal-stack"))))
	says(t, ValidateMachineTemplate(machineTemplate(naming("kube-system"))), "spec.template.spec.userData.namespace: Invalid value")
}

func TestValidateTemplate_CapacityIsNotNegative(t *testing.T) {
	t.Parallel()

	capacity := func(cpu string) func(*infrastructure.MetalStackMachineTemplate) {
		return func(t *infrastructure.MetalStackMachineTemplate) {
			t.Status.Capacity = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}
		}
	}
	says(t, ValidateMachineTemplateStatusUpdate(machineTemplate(capacity("8")), machineTemplate()))
	says(t, ValidateMachineTemplateStatusUpdate(machineTemplate(capacity("-1")), machineTemplate()), `status.capacity[cpu]: Invalid value: "-1"`)
}

func TestValidateAllocation(t *testing.T) {
	t.Parallel()

	says(t, ValidateAllocation(&infrastructure.Allocation{ClusterRef: &infrastructure.LocalReference{Name: "cluster-1"}, UserData: []byte("#cloud-config")}, "node-1"))
	says(t, ValidateAllocation(&infrastructure.Allocation{}, "cluster-1"))
	says(t, ValidateAllocation(&infrastructure.Allocation{
		ObjectMeta: metav1.ObjectMeta{Name: "node-2"}, ClusterRef: &infrastructure.LocalReference{},
	}, "node-1"), `metadata.name: Invalid value: "node-2"`, "clusterRef.name: Required value")

	tooMuch := ValidateAllocation(&infrastructure.Allocation{UserData: []byte(strings.Repeat("secret", 1<<20))}, "node-1")
	says(t, tooMuch, "userData: Too long: may not be more than 1048576 bytes")
	assert.NotContains(t, tooMuch.ToAggregate().Error(), "secret")
}
