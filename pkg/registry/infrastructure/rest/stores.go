package rest

import (
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/generic"
	apistorage "k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/storagebackend/factory"
	"k8s.io/client-go/tools/cache"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/scheme"
	"metal-stack.io/infrastructure-apiserver/pkg/projection"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/cluster"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/clustertemplate"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/firewall"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/machine"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/machinetemplate"
	"metal-stack.io/infrastructure-apiserver/pkg/storage"
)

// deleteWorkers is how many objects of a collection are deleted at a time.
const deleteWorkers = 16

// stores opens the store of each resource over one backend.
type stores struct {
	backend *storage.Backend
	joiners map[schema.GroupResource]storage.Joiner
}

var _ generic.RESTOptionsGetter = stores{}

// NewStores opens stores over a backend; source is what the metal halves are
// made from.
func NewStores(backend *storage.Backend, source projection.Source) generic.RESTOptionsGetter {
	return stores{backend, map[schema.GroupResource]storage.Joiner{
		infrastructure.Resource(cluster.Resource):         projection.Clusters(source),
		infrastructure.Resource(machine.Resource):         projection.Machines(source),
		infrastructure.Resource(firewall.Resource):        projection.Firewalls(source),
		infrastructure.Resource(machinetemplate.Resource): projection.MachineTemplates(source),
		// These stand for nothing but themselves.
		infrastructure.Resource(clustertemplate.Resource): nil,
	}}
}

// SizesChanged shows what was newly learned of sizes.
func SizesChanged(backend *storage.Backend) {
	backend.RejoinResource(infrastructure.Resource(machinetemplate.Resource))
}

// GetRESTOptions implements generic.RESTOptionsGetter.
func (s stores) GetRESTOptions(resource schema.GroupResource, _ runtime.Object) (generic.RESTOptions, error) {
	joiner, known := s.joiners[resource]
	if !known {
		return generic.RESTOptions{}, fmt.Errorf("nothing joins the halves of %s", resource)
	}
	config := storagebackend.NewDefaultConfig("", scheme.StorageCodec)
	config.EncodeVersioner = scheme.StorageVersion
	return generic.RESTOptions{
		StorageConfig:           config.ForResource(resource),
		ResourcePrefix:          resource.Resource,
		DeleteCollectionWorkers: deleteWorkers,
		EnableGarbageCollection: true,
		Decorator: func(_ *storagebackend.ConfigForResource, prefix string, _ func(runtime.Object) (string, error), newFunc, newListFunc func() runtime.Object, _ apistorage.AttrFunc, _ apistorage.IndexerFuncs, _ *cache.Indexers) (apistorage.Interface, factory.DestroyFunc, error) {
			store, err := s.backend.Open(storage.ResourceConfig{
				Resource: resource, Prefix: prefix, Codec: scheme.StorageCodec,
				NewFunc: newFunc, NewListFunc: newListFunc, Joiner: joiner,
			})
			return store, func() {}, err
		},
	}, nil
}
