// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// The fields that refusals name.
var (
	specPath                   = field.NewPath("spec")
	allocationPath             = field.NewPath("status", "allocation")
	namespacePath              = field.NewPath("metadata", "namespace")
	forceReleasePath           = field.NewPath("metadata", "annotations").Key(infrastructure.ForceReleaseAnnotation)
	projectIDPath              = specPath.Child("projectID")
	partitionPath              = specPath.Child("partition")
	privateNetworkPath         = specPath.Child("privateNetworkID")
	privateNetworkSpecPath     = specPath.Child("privateNetwork")
	publicNetworkPath          = specPath.Child("publicNetworkID")
	clusterIDPath              = specPath.Child("clusterID")
	endpointHostPath           = specPath.Child("controlPlaneEndpoint", "host")
	addressesPath              = specPath.Child("addresses")
	networkIDPath              = specPath.Child("networkID")
	addressPath                = specPath.Child("address")
	addressFamilyPath          = specPath.Child("addressFamily")
	providerIDPath             = specPath.Child("providerID")
	imagePath                  = specPath.Child("image")
	machineTypePath            = specPath.Child("machineType")
	sshKeysPath                = specPath.Child("sshKeys")
	tagsPath                   = specPath.Child("tags")
	networksPath               = specPath.Child("networks")
	dnsServersPath             = specPath.Child("dnsServers")
	ntpServersPath             = specPath.Child("ntpServers")
	filesystemLayoutPath       = specPath.Child("filesystemLayout")
	rulesPath                  = specPath.Child("rules")
	clusterRefPath             = field.NewPath("clusterRef", "name")
	userDataPath               = field.NewPath("userData")
	omitted                any = field.OmitValueType{}
)

// specField returns the field that a field of the request to the metal-api is made
// of, and its value if that is short and no key; nil if there is none.
func (a *machineAllocator) specField(f metal.RequestField) (*field.Path, any) {
	switch f {
	case metal.FieldID:
		return providerIDPath, *a.claim.providerID
	case metal.FieldProject:
		return namespacePath, a.ref.namespace
	case metal.FieldPartition:
		if a.claim.partition == "" && a.plan.clusterName != "" {
			return clusterRefPath, a.plan.clusterName
		}
		return partitionPath, a.plan.partition
	case metal.FieldSize:
		return machineTypePath, a.claim.machineType
	case metal.FieldImage:
		return imagePath, a.claim.image
	case metal.FieldNetworks:
		if len(a.claim.networks) == 0 && a.plan.clusterName != "" {
			return clusterRefPath, a.plan.clusterName
		}
		return networksPath, omitted
	case metal.FieldSSHKeys:
		return sshKeysPath, omitted
	case metal.FieldDNSServers:
		return dnsServersPath, omitted
	case metal.FieldNTPServers:
		return ntpServersPath, omitted
	case metal.FieldFilesystemLayout:
		return filesystemLayoutPath, a.claim.filesystemLayout
	case metal.FieldRules:
		return rulesPath, omitted
	}
	return nil, nil
}

func (a networkAllocator) specField(f metal.RequestField) (*field.Path, any) {
	switch f {
	case metal.FieldProject:
		return a.projectField()
	case metal.FieldPartition:
		return partitionPath, a.spec.Partition
	}
	return privateNetworkField(f, a.spec.PrivateNetwork, privateNetworkSpecPath)
}

// privateNetworkField is specField for the addresses of a network, at path.
func privateNetworkField(f metal.RequestField, addresses *infrastructure.PrivateNetwork, path *field.Path) (*field.Path, any) {
	switch {
	case addresses == nil:
	case f == metal.FieldLengths:
		return path.Child("prefixLengths"), omitted
	case f == metal.FieldAddressFamily:
		return path.Child("addressFamilies"), omitted
	}
	return nil, nil
}

func (a addressAllocator) specField(f metal.RequestField) (*field.Path, any) {
	switch f {
	case metal.FieldProject:
		return a.projectField()
	case metal.FieldNetworks:
		return publicNetworkPath, a.spec.PublicNetworkID
	}
	return nil, nil
}

// projectField is the namespace if the spec leaves the project to it.
func (o *clusterOperation) projectField() (*field.Path, any) {
	if o.spec.ProjectID == "" {
		return namespacePath, o.ref.namespace
	}
	return projectIDPath, o.spec.ProjectID
}
