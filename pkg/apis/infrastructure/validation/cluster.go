// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"cmp"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

const builtHelp = "the allocation of the cluster's infrastructure has begun"

// ValidateCluster validates a new MetalStackCluster.
func ValidateCluster(cluster *infrastructure.MetalStackCluster) field.ErrorList {
	errs := validateMetadata(&cluster.ObjectMeta)
	errs = append(errs, validateWholeClusterSpec(&cluster.Spec, cluster.Namespace, specPath)...)
	return append(errs, validateControllerNetworks(&cluster.Spec, specPath)...)
}

// ValidateClusterUpdate validates a changed MetalStackCluster.
func ValidateClusterUpdate(cluster, old *infrastructure.MetalStackCluster) field.ErrorList {
	errs := validateMetadataUpdate(&cluster.ObjectMeta, &old.ObjectMeta)
	spec, before := &cluster.Spec, &old.Spec
	if !changed(spec, before) {
		return errs
	}
	errs = append(errs, unlessListsUnchanged(validateWholeClusterSpec(spec, cluster.Namespace, specPath), spec.FirewallSpec, before.FirewallSpec, specPath.Child("firewallSpec"))...)
	errs = append(errs, validateControllerNetworks(spec, specPath)...)
	errs = append(errs, immutable(spec.Partition, before.Partition, specPath.Child("partition"), "create another cluster for another partition")...)
	errs = append(errs, setOnce(spec.ProjectID, before.ProjectID, specPath.Child("projectID"), "it is the project that the namespace is bound to")...)
	errs = append(errs, setOnce(spec.PrivateNetworkID, before.PrivateNetworkID, specPath.Child("privateNetworkID"), "create another cluster for another network")...)
	if before.PrivateNetworkID == "" {
		errs = append(errs, validateOneNetwork(spec, specPath)...)
	}
	if clusterBegun(old.Status.Allocation) || before.PrivateNetworkID != "" {
		errs = append(errs, immutable(spec.PrivateNetwork, before.PrivateNetwork, specPath.Child("privateNetwork"), builtHelp)...)
	}
	errs = append(errs, setOnce(spec.ClusterID, before.ClusterID, specPath.Child("clusterID"), "metal of the cluster carries it")...)
	if clusterBegun(old.Status.Allocation) {
		if id := infrastructure.ClusterID(old); before.ClusterID == "" && spec.ClusterID != id {
			errs = append(errs, immutable(spec.ClusterID, before.ClusterID, specPath.Child("clusterID"), builtHelp)...)
		}
		if spec.AllocatesEndpoint() != before.AllocatesEndpoint() {
			errs = append(errs, immutable(spec.ControlPlaneEndpointProvider, before.ControlPlaneEndpointProvider, specPath.Child("controlPlaneEndpointProvider"), builtHelp)...)
		}
		if before.AllocatesEndpoint() {
			endpoint := specPath.Child("controlPlaneEndpoint")
			errs = append(errs, setOnce(spec.ControlPlaneEndpoint.Host, before.ControlPlaneEndpoint.Host, endpoint.Child("host"), builtHelp)...)
			errs = append(errs, immutable(spec.ControlPlaneEndpoint.Port, before.ControlPlaneEndpoint.Port, endpoint.Child("port"), builtHelp)...)
		}
		errs = append(errs, setOnce(spec.PublicNetworkID, before.PublicNetworkID, specPath.Child("publicNetworkID"), builtHelp)...)
	}
	return errs
}

// ValidateClusterStatusUpdate validates a changed status of a MetalStackCluster.
func ValidateClusterStatusUpdate(cluster, old *infrastructure.MetalStackCluster) field.ErrorList {
	errs := validateMetadataUpdate(&cluster.ObjectMeta, &old.ObjectMeta)
	errs = append(errs, validateConditions(cluster.Status.Conditions)...)
	errs = append(errs, validateInitialization(cluster.Status.Initialization, old.Status.Initialization)...)
	return append(errs, validateFailureDomains(cluster.Status.FailureDomains)...)
}

// validateWholeClusterSpec validates the spec of a cluster that is to be built,
// in which nothing may be missing.
func validateWholeClusterSpec(spec *infrastructure.MetalStackClusterSpec, namespace string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if spec.Partition == "" {
		errs = append(errs, field.Required(path.Child("partition"), "must be the metal-stack partition to build the cluster in: see 'kubectl get metalstackpartitions'"))
	}
	if spec.PublicNetworkID == "" {
		switch {
		case spec.ControlPlaneEndpoint.Host == "" && spec.AllocatesEndpoint():
			errs = append(errs, field.Required(path.Child("publicNetworkID"), "must be the network to allocate the control plane's address in, since controlPlaneEndpoint.host is left out: see 'kubectl get metalstacknetworks'"))
		case spec.FirewallSpec != nil && len(spec.FirewallSpec.Networks) == 0:
			errs = append(errs, field.Required(path.Child("publicNetworkID"), "must be the network that the firewall connects the cluster to: see 'kubectl get metalstacknetworks'"))
		}
	}
	return append(errs, validateClusterSpec(spec, namespace, path)...)
}

// validateClusterSpec validates what is there of the spec of a cluster.
func validateClusterSpec(spec *infrastructure.MetalStackClusterSpec, namespace string, path *field.Path) field.ErrorList {
	endpoint := path.Child("controlPlaneEndpoint")
	errs := validateHost(spec.ControlPlaneEndpoint.Host, endpoint.Child("host"))
	errs = append(errs, validatePort(spec.ControlPlaneEndpoint.Port, endpoint.Child("port"))...)
	errs = append(errs, validateEndpointProvider(spec.ControlPlaneEndpointProvider, path.Child("controlPlaneEndpointProvider"))...)
	errs = append(errs, validateProjectID(spec.ProjectID, path.Child("projectID"))...)
	errs = append(errs, validatePartition(spec.Partition, path.Child("partition"))...)
	errs = append(errs, validateID(spec.PublicNetworkID, path.Child("publicNetworkID"))...)
	errs = append(errs, validateID(spec.PrivateNetworkID, path.Child("privateNetworkID"))...)
	errs = append(errs, validatePrivateNetwork(spec.PrivateNetwork, path.Child("privateNetwork"))...)
	errs = append(errs, validateClusterID(spec.ClusterID, path.Child("clusterID"))...)
	if spec.PrivateNetworkID != "" && spec.PrivateNetworkID == spec.PublicNetworkID {
		errs = append(errs, field.Invalid(path.Child("privateNetworkID"), spec.PrivateNetworkID, "must be another network than publicNetworkID"))
	}
	if access := spec.MetalAPIAccess; access != nil {
		errs = append(errs, validateNetworks(access.AdditionalNetworkIDs, path.Child("metalAPIAccess", "additionalNetworkIDs"))...)
	}
	if firewall := spec.FirewallSpec; firewall != nil {
		path := path.Child("firewallSpec")
		errs = append(errs, validateFirewallSpec(firewall, namespace, cmp.Or(firewall.Partition, spec.Partition), path, spec.PublicNetworkID, spec.PrivateNetworkID)...)
		if firewall.Partition != "" && spec.Partition != "" && firewall.Partition != spec.Partition {
			errs = append(errs, field.Invalid(path.Child("partition"), firewall.Partition, fmt.Sprintf("must be the cluster's partition, %q, or omitted", spec.Partition)))
		}
	}
	return errs
}

// endpointProviders are the allowed providers. An omitted provider means Infrastructure.
var endpointProviders = []infrastructure.EndpointProvider{infrastructure.EndpointOfInfrastructure, infrastructure.EndpointOfControlPlane}

func validateEndpointProvider(provider infrastructure.EndpointProvider, path *field.Path) field.ErrorList {
	if long := tooLong(string(provider), maxEndpointProviderLength, path); long != nil {
		return long
	}
	if provider == "" || slices.Contains(endpointProviders, provider) {
		return nil
	}
	return field.ErrorList{field.NotSupported(path, provider, endpointProviders)}
}

// validateClusterID validates the id of a cluster in metal-stack, which becomes a label
// of Nodes and networks.
func validateClusterID(id string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range validation.IsValidLabelValue(id) {
		errs = append(errs, field.Invalid(path, id, "must be a valid label value, since it becomes a label of Nodes: "+msg))
	}
	return errs
}
