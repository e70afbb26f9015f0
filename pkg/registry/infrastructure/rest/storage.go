// SPDX-License-Identifier: Apache-2.0

// Package rest puts the resources of the group together: which there are, and
// which subresources they have.
package rest

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/server"

	firewallv2 "metal-stack.io/infrastructure-apiserver/pkg/apis/firewall/v2"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/scheme"
	"metal-stack.io/infrastructure-apiserver/pkg/registry"
	allocationrest "metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/allocation"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/cluster"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/clustertemplate"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/firewall"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/image"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/ip"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/machine"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/machinetemplate"
	metalapirest "metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/metalapi"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/network"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/operations"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/partition"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/project"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/references"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/remediation"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/remediationtemplate"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/size"
)

// Allocator allocates and releases metal: pkg/allocation.Protocol.
type Allocator interface {
	// WithDryRun makes what is done with a context a dry run.
	WithDryRun(ctx context.Context) context.Context

	AllocateCluster(ctx context.Context, namespace, name string, body *infrastructure.Allocation) (*infrastructure.MetalStackCluster, error)
	ReleaseCluster(ctx context.Context, namespace, name string, uid types.UID) (*infrastructure.MetalStackCluster, error)
	AllocateMachine(ctx context.Context, namespace, name string, body *infrastructure.Allocation) (*infrastructure.MetalStackMachine, error)
	ReleaseMachine(ctx context.Context, namespace, name string, uid types.UID) (*infrastructure.MetalStackMachine, error)
	AllocateFirewall(ctx context.Context, namespace, name string, body *infrastructure.Allocation) (*infrastructure.MetalStackFirewall, error)
	ReleaseFirewall(ctx context.Context, namespace, name string, uid types.UID) (*infrastructure.MetalStackFirewall, error)
	AllocateNetwork(ctx context.Context, namespace, name string, body *infrastructure.Allocation) (*infrastructure.MetalStackNetwork, error)
	ReleaseNetwork(ctx context.Context, namespace, name string, uid types.UID) (*infrastructure.MetalStackNetwork, error)
	AllocateIP(ctx context.Context, namespace, name string, body *infrastructure.Allocation) (*infrastructure.MetalStackIP, error)
	ReleaseIP(ctx context.Context, namespace, name string, uid types.UID) (*infrastructure.MetalStackIP, error)

	references.Allocations
}

// Resources are the resources of the group.
type Resources struct {
	all map[string]resource
	// readOnly are those that have no records.
	readOnly map[string]*registry.ReadOnlyREST
	owners   registry.OwnerLookup
	bindings registry.Namespaces
	checks   *references.Validator
}

// resource is one resource with its status, which may be nil.
type resource struct {
	main   *registry.REST
	status *registry.StatusREST
}

// New builds the resources over the storage that getter decides on; visibility
// decides what users are shown, and clusterOwners knows owners of other groups;
// nil if there is no cluster, and so no garbage collector.
func New(getter generic.RESTOptionsGetter, binding registry.Namespaces, visibility registry.Visibility, offers references.Catalogue, clusterOwners registry.OwnerLookup) (*Resources, error) {
	checks := &references.Validator{Catalogue: offers, Projects: binding}
	r := &Resources{all: map[string]resource{}, readOnly: map[string]*registry.ReadOnlyREST{}, bindings: binding, checks: checks}
	if clusterOwners != nil {
		r.owners = ownerLookup{r, clusterOwners}
	}
	if err := add(r, cluster.Kind(checks), binding, visibility, getter); err != nil {
		return nil, err
	}
	if err := add(r, machine.Kind(checks), binding, visibility, getter); err != nil {
		return nil, err
	}
	if err := add(r, firewall.Kind(checks), binding, visibility, getter); err != nil {
		return nil, err
	}
	if err := add(r, machinetemplate.Kind(checks), binding, visibility, getter); err != nil {
		return nil, err
	}
	if err := add(r, clustertemplate.Kind(checks), binding, visibility, getter); err != nil {
		return nil, err
	}
	if err := add(r, remediation.Kind(), binding, visibility, getter); err != nil {
		return nil, err
	}
	if err := add(r, remediationtemplate.Kind(), binding, visibility, getter); err != nil {
		return nil, err
	}
	if err := add(r, network.Kind(checks), binding, visibility, getter); err != nil {
		return nil, err
	}
	if err := add(r, ip.Kind(checks), binding, visibility, getter); err != nil {
		return nil, err
	}
	if err := r.addCatalogue(visibility, getter); err != nil {
		return nil, err
	}
	checks.Referrers = machineReferrers{r.all[machine.Resource].main, r.all[firewall.Resource].main}
	return r, nil
}

func add[T registry.Object, Spec, Status any](r *Resources, kind *registry.Kind[T, Spec, Status], binding registry.Namespaces, visibility registry.Visibility, getter generic.RESTOptionsGetter) error {
	main, status, err := registry.NewREST(kind, binding, visibility, r.owners, getter)
	r.all[kind.Plural] = resource{main, status}
	return err
}

// addCatalogue adds what the metal-api offers.
func (r *Resources) addCatalogue(visibility registry.Visibility, getter generic.RESTOptionsGetter) error {
	if err := addReadOnly(r, project.Kind(), visibility, getter); err != nil {
		return err
	}
	if err := addReadOnly(r, partition.Kind(), visibility, getter); err != nil {
		return err
	}
	if err := addReadOnly(r, size.Kind(), visibility, getter); err != nil {
		return err
	}
	return addReadOnly(r, image.Kind(), visibility, getter)
}

func addReadOnly[T registry.Object](r *Resources, kind *registry.ReadOnlyKind[T], visibility registry.Visibility, getter generic.RESTOptionsGetter) error {
	main, err := registry.NewReadOnlyREST(kind, visibility, getter)
	r.readOnly[kind.Plural] = main
	return err
}

// Machines are the records of MetalStackMachines.
func (r *Resources) Machines() allocationrest.Records[*infrastructure.MetalStackMachine] {
	return allocationrest.NewRecords[*infrastructure.MetalStackMachine](r.all[machine.Resource].main)
}

// Firewalls are the records of MetalStackFirewalls.
func (r *Resources) Firewalls() allocationrest.Records[*infrastructure.MetalStackFirewall] {
	return allocationrest.NewRecords[*infrastructure.MetalStackFirewall](r.all[firewall.Resource].main)
}

// Clusters are the records of MetalStackClusters.
func (r *Resources) Clusters() allocationrest.Records[*infrastructure.MetalStackCluster] {
	return allocationrest.NewRecords[*infrastructure.MetalStackCluster](r.all[cluster.Resource].main)
}

// Networks are the records of MetalStackNetworks.
func (r *Resources) Networks() allocationrest.Records[*infrastructure.MetalStackNetwork] {
	return allocationrest.NewRecords[*infrastructure.MetalStackNetwork](r.all[network.Resource].main)
}

// IPs are the records of MetalStackIPs.
func (r *Resources) IPs() allocationrest.Records[*infrastructure.MetalStackIP] {
	return allocationrest.NewRecords[*infrastructure.MetalStackIP](r.all[ip.Resource].main)
}

// Serializer is that of the group's requests and answers.
func Serializer() runtime.NegotiatedSerializer {
	return serializerOf(defaultGroup())
}

func serializerOf(group server.APIGroupInfo) runtime.NegotiatedSerializer {
	return scheme.RedactingSerializer(scheme.WithoutProtobuf(group.NegotiatedSerializer))
}

func defaultGroup() server.APIGroupInfo {
	return server.NewDefaultAPIGroupInfo(infrastructure.GroupName, scheme.Scheme, scheme.ParameterCodec, scheme.Codecs)
}

// Backends are what the subresources hand requests over to.
type Backends struct {
	Allocator Allocator
	MetalAPI  metalapirest.Server
	// Operator operates machines; those that were discovered for users whom Authorizer
	// allows to.
	Operator   operations.Operator
	Authorizer operations.Authorizer
}

// APIGroup is what the generic server installs. All versions share the
// storage.
func (r *Resources) APIGroup(b Backends) *server.APIGroupInfo {
	r.checks.Allocations = b.Allocator
	r.checks.Addresses, _ = b.Allocator.(references.Addresses)
	group := defaultGroup()
	group.NegotiatedSerializer = serializerOf(group)
	for _, gv := range group.PrioritizedVersions {
		storage := map[string]rest.Storage{}
		for name, resource := range r.all {
			storage[name] = resource.main
			if resource.status != nil {
				storage[name+"/status"] = resource.status
			}
		}
		for name, resource := range r.readOnly {
			storage[name] = resource
		}
		for name, sub := range r.subresources(b, gv) {
			storage[name] = sub
		}
		group.VersionedResourcesStorageMap[gv.Version] = storage
	}
	return &group
}

// FirewallAPIGroup is the group that firewall-controllers read.
func (r *Resources) FirewallAPIGroup() *server.APIGroupInfo {
	group := server.NewDefaultAPIGroupInfo(firewallv2.GroupName, scheme.Scheme, scheme.ParameterCodec, scheme.Codecs)
	group.NegotiatedSerializer = scheme.WithoutProtobuf(group.NegotiatedSerializer)
	firewalls := registry.NewDerivedREST(firewall.DerivedKind(), r.all[firewall.Resource].main)
	group.VersionedResourcesStorageMap[firewallv2.SchemeGroupVersion.Version] = map[string]rest.Storage{
		firewall.DerivedResource:             firewalls,
		firewall.DerivedResource + "/status": firewalls.Status(),
	}
	return &group
}

// subresources are the imperative ones: what happens to metal, and is asked
// for by name, has its place here.
func (r *Resources) subresources(b Backends, gv schema.GroupVersion) map[string]rest.Storage {
	a := b.Allocator
	all := map[string]rest.Storage{
		cluster.Resource + "/metalapi": metalapirest.NewREST(r.all[cluster.Resource].main, r.all[machine.Resource].main, r.bindings, b.MetalAPI),
		cluster.Resource + "/allocation": allocationrest.NewREST(r.all[cluster.Resource].main, allocationrest.Operations[*infrastructure.MetalStackCluster]{
			WithDryRun: a.WithDryRun, Allocate: a.AllocateCluster, Release: a.ReleaseCluster,
		}, versioned(gv, "MetalStackCluster")),
		machine.Resource + "/allocation": allocationrest.NewREST(r.all[machine.Resource].main, allocationrest.Operations[*infrastructure.MetalStackMachine]{
			WithDryRun: a.WithDryRun, Allocate: a.AllocateMachine, Release: a.ReleaseMachine,
		}, versioned(gv, "MetalStackMachine")),
		firewall.Resource + "/allocation": allocationrest.NewREST(r.all[firewall.Resource].main, allocationrest.Operations[*infrastructure.MetalStackFirewall]{
			WithDryRun: a.WithDryRun, Allocate: a.AllocateFirewall, Release: a.ReleaseFirewall,
		}, versioned(gv, "MetalStackFirewall")),
		network.Resource + "/allocation": allocationrest.NewREST(r.all[network.Resource].main, allocationrest.Operations[*infrastructure.MetalStackNetwork]{
			WithDryRun: a.WithDryRun, Allocate: a.AllocateNetwork, Release: a.ReleaseNetwork,
		}, versioned(gv, "MetalStackNetwork")),
		ip.Resource + "/allocation": allocationrest.NewREST(r.all[ip.Resource].main, allocationrest.Operations[*infrastructure.MetalStackIP]{
			WithDryRun: a.WithDryRun, Allocate: a.AllocateIP, Release: a.ReleaseIP,
		}, versioned(gv, "MetalStackIP")),
	}
	for name, resource := range r.operated(b) {
		for subresource, storage := range operations.Storage(resource) {
			all[name+"/"+subresource] = storage
		}
	}
	return all
}

// operated are the resources whose machines users operate.
func (r *Resources) operated(b Backends) map[string]*operations.Resource {
	machines := allocationrest.NewVisibleRecords[*infrastructure.MetalStackMachine](r.all[machine.Resource].main)
	firewalls := allocationrest.NewVisibleRecords[*infrastructure.MetalStackFirewall](r.all[firewall.Resource].main)
	return map[string]*operations.Resource{
		machine.Resource: {
			Resource: infrastructure.Resource(machine.Resource), Kind: "MetalStackMachine", Operator: b.Operator, Authorizer: b.Authorizer,
			Get: func(ctx context.Context, namespace, name string) (metav1.Object, *infrastructure.Metal, error) {
				m, err := machines.Get(ctx, namespace, name)
				if err != nil {
					return nil, nil, err
				}
				return m, m.Status.Metal, nil
			},
		},
		firewall.Resource: {
			Resource: infrastructure.Resource(firewall.Resource), Kind: "MetalStackFirewall", Operator: b.Operator, Authorizer: b.Authorizer,
			Get: func(ctx context.Context, namespace, name string) (metav1.Object, *infrastructure.Metal, error) {
				f, err := firewalls.Get(ctx, namespace, name)
				if err != nil {
					return nil, nil, err
				}
				return f, f.Status.Metal, nil
			},
		},
	}
}

// versioned returns an empty object of a kind.
func versioned(gv schema.GroupVersion, kind string) runtime.Object {
	obj, err := scheme.Scheme.New(gv.WithKind(kind))
	utilruntime.Must(err)
	return obj
}
