// Code generated from ../v1alpha4/register.go by hack/update-codegen.sh. DO NOT EDIT.

// SPDX-License-Identifier: Apache-2.0

package v1alpha3

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// GroupName is the API group: that of Cluster API's infrastructure providers.
const GroupName = infrastructure.GroupName

// SchemeGroupVersion is the group and version of the types of this package.
var SchemeGroupVersion = schema.GroupVersion{Group: GroupName, Version: "v1alpha3"}

var (
	// SchemeBuilder collects what makes a scheme know this version.
	SchemeBuilder      = runtime.NewSchemeBuilder(addKnownTypes, addDefaultingFuncs, addFieldLabelConversionFuncs)
	localSchemeBuilder = &SchemeBuilder
	// AddToScheme makes a scheme know this version: types, conversions, defaults.
	AddToScheme = SchemeBuilder.AddToScheme
)

// Kind qualifies a kind of this version with its group.
func Kind(kind string) schema.GroupKind {
	return SchemeGroupVersion.WithKind(kind).GroupKind()
}

// Resource qualifies a resource of this version with its group.
func Resource(resource string) schema.GroupResource {
	return SchemeGroupVersion.WithResource(resource).GroupResource()
}

func addKnownTypes(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(SchemeGroupVersion,
		&MetalStackCluster{},
		&MetalStackClusterList{},
		&MetalStackClusterTemplate{},
		&MetalStackClusterTemplateList{},
		&MetalStackFirewall{},
		&MetalStackFirewallList{},
		&MetalStackMachine{},
		&MetalStackMachineList{},
		&MetalStackMachineTemplate{},
		&MetalStackMachineTemplateList{},
		&MetalStackRemediation{},
		&MetalStackRemediationList{},
		&MetalStackRemediationTemplate{},
		&MetalStackRemediationTemplateList{},
		&MetalStackProject{},
		&MetalStackProjectList{},
		&MetalStackPartition{},
		&MetalStackPartitionList{},
		&MetalStackSize{},
		&MetalStackSizeList{},
		&MetalStackImage{},
		&MetalStackImageList{},
		&MetalStackNetwork{},
		&MetalStackNetworkList{},
		&MetalStackIP{},
		&MetalStackIPList{},
		&Allocation{},
		&MachinePower{},
		&MachineIdentify{},
		&MachineConsolePassword{},
		&MachineLog{},
		&MachineReinstall{},
		&MachineLock{},
		&MetalAPIOptions{},
	)
	metav1.AddToGroupVersion(scheme, SchemeGroupVersion)
	return nil
}
