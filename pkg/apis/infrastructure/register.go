// SPDX-License-Identifier: Apache-2.0

package infrastructure

import (
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupName is the API group: that of Cluster API's infrastructure providers.
const GroupName = "infrastructure.cluster.x-k8s.io"

// SchemeGroupVersion is the group and internal version of the types of this package.
var SchemeGroupVersion = schema.GroupVersion{Group: GroupName, Version: runtime.APIVersionInternal}

var (
	// SchemeBuilder collects what makes a scheme know the internal types.
	SchemeBuilder = runtime.NewSchemeBuilder(addKnownTypes)
	// AddToScheme makes a scheme know the internal types.
	AddToScheme = SchemeBuilder.AddToScheme
)

// Kind qualifies a kind with its group.
func Kind(kind string) schema.GroupKind {
	return SchemeGroupVersion.WithKind(kind).GroupKind()
}

// Resource qualifies a resource with its group.
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
	return nil
}
