// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/registry/generic"
	apistorage "k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/storagebackend/factory"
	"k8s.io/client-go/tools/cache"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/scheme"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/projection"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/cluster"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/clustertemplate"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/firewall"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/image"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/ip"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/machine"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/machinetemplate"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/network"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/partition"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/project"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/remediation"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/remediationtemplate"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/size"
	"metal-stack.io/infrastructure-apiserver/pkg/storage"
)

// deleteWorkers is how many objects of a collection are deleted at a time.
const deleteWorkers = 16

// restOptionsGetter opens the store of each resource over one backend.
type restOptionsGetter struct {
	backend    *storage.Backend
	projectors map[schema.GroupResource]storage.Projector
}

// clusterScoped are the resources whose objects are in no namespace.
var clusterScoped = sets.New(infrastructure.Resource(partition.Resource), infrastructure.Resource(size.Resource), infrastructure.Resource(image.Resource))

var (
	_ generic.RESTOptionsGetter = restOptionsGetter{}
	_ storage.Static            = &projection.MachineTemplateProjector{}
	_ storage.Kinded            = &projection.ProjectProjector{}
	_ storage.Kinded            = &projection.PartitionProjector{}
	_ storage.Kinded            = &projection.SizeProjector{}
	_ storage.Kinded            = &projection.ImageProjector{}
	_ storage.Kinded            = &projection.NetworkProjector{}
	_ storage.Expander          = &projection.NetworkProjector{}
	_ storage.HolderAware       = &projection.NetworkProjector{}
	_ storage.Kinded            = &projection.IPProjector{}
	_ storage.HolderAware       = &projection.IPProjector{}
)

// NewRESTOptionsGetter opens stores over a backend; source is what the metal halves are
// made from.
func NewRESTOptionsGetter(backend *storage.Backend, source projection.Source) generic.RESTOptionsGetter {
	return restOptionsGetter{backend, map[schema.GroupResource]storage.Projector{
		infrastructure.Resource(cluster.Resource):         projection.NewClusterProjector(source),
		infrastructure.Resource(machine.Resource):         projection.NewMachineProjector(source),
		infrastructure.Resource(firewall.Resource):        projection.NewFirewallProjector(source),
		infrastructure.Resource(machinetemplate.Resource): projection.NewMachineTemplateProjector(source),
		infrastructure.Resource(network.Resource):         projection.NewNetworkProjector(source),
		infrastructure.Resource(ip.Resource):              projection.NewIPProjector(source),
		infrastructure.Resource(project.Resource):         projection.NewProjectProjector(source),
		infrastructure.Resource(partition.Resource):       projection.NewPartitionProjector(source),
		infrastructure.Resource(size.Resource):            projection.NewSizeProjector(source),
		infrastructure.Resource(image.Resource):           projection.NewImageProjector(source),
		// These stand for nothing but themselves.
		infrastructure.Resource(clustertemplate.Resource):     nil,
		infrastructure.Resource(remediation.Resource):         nil,
		infrastructure.Resource(remediationtemplate.Resource): nil,
	}}
}

// CatalogueChanged shows what has changed in the catalogue, in its own kinds and in machine
// templates, whose capacity is that of their size.
func CatalogueChanged(backend *storage.Backend, refs []metal.Ref) {
	if slices.ContainsFunc(refs, func(ref metal.Ref) bool { return ref.Kind == metal.KindSize }) {
		backend.ReprojectResource(infrastructure.Resource(machinetemplate.Resource))
	}
	backend.MetalChanged(refs)
}

// ReprojectMachines shows, of machines and firewalls, what was newly learned of images.
func ReprojectMachines(backend *storage.Backend) {
	backend.ReprojectResource(infrastructure.Resource(machine.Resource))
	backend.ReprojectResource(infrastructure.Resource(firewall.Resource))
}

// GetRESTOptions implements generic.RESTOptionsGetter.
func (g restOptionsGetter) GetRESTOptions(resource schema.GroupResource, _ runtime.Object) (generic.RESTOptions, error) {
	projector, known := g.projectors[resource]
	if !known {
		return generic.RESTOptions{}, fmt.Errorf("no projector for %s", resource)
	}
	config := storagebackend.NewDefaultConfig("", scheme.StorageCodec)
	config.EncodeVersioner = scheme.StorageVersion
	return generic.RESTOptions{
		StorageConfig:           config.ForResource(resource),
		ResourcePrefix:          resource.Resource,
		DeleteCollectionWorkers: deleteWorkers,
		EnableGarbageCollection: true,
		Decorator: func(_ *storagebackend.ConfigForResource, prefix string, _ func(runtime.Object) (string, error), newFunc, newListFunc func() runtime.Object, _ apistorage.AttrFunc, _ apistorage.IndexerFuncs, _ *cache.Indexers) (apistorage.Interface, factory.DestroyFunc, error) {
			store, err := g.backend.Open(storage.ResourceConfig{
				Resource: resource, Prefix: prefix, Codec: scheme.StorageCodec,
				NewFunc: newFunc, NewListFunc: newListFunc, Projector: projector, ClusterScoped: clusterScoped.Has(resource),
			})
			return store, func() {}, err
		},
	}, nil
}
