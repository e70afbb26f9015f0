package storage

import (
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/generic"
	apistorage "k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/storagebackend/factory"
	"k8s.io/client-go/tools/cache"
)

const (
	deleteCollectionWorkers = 4
	countPollPeriod         = time.Minute
)

// RESTOptions is how genericregistry.Store gets at a Backend; it implements
// generic.RESTOptionsGetter.
type RESTOptions struct {
	Backend *Backend
	// Codec decodes to internal objects and encodes to the storage version, in
	// JSON.
	Codec runtime.Codec
	// EncodeVersioner is the storage version; discovery publishes its hash.
	EncodeVersioner runtime.GroupVersioner
	// Joiners by resource; resources without one have no metal half.
	Joiners map[schema.GroupResource]Joiner
}

var _ generic.RESTOptionsGetter = RESTOptions{}

// RESTOptionsGetter returns how genericregistry.Store gets at the backend.
func (b *Backend) RESTOptionsGetter(codec runtime.Codec, encodeVersioner runtime.GroupVersioner, joiners map[schema.GroupResource]Joiner) RESTOptions {
	return RESTOptions{Backend: b, Codec: codec, EncodeVersioner: encodeVersioner, Joiners: joiners}
}

// GetRESTOptions implements generic.RESTOptionsGetter.
func (o RESTOptions) GetRESTOptions(resource schema.GroupResource, _ runtime.Object) (generic.RESTOptions, error) {
	return generic.RESTOptions{
		StorageConfig: &storagebackend.ConfigForResource{
			Config:        storagebackend.Config{Codec: o.Codec, EncodeVersioner: o.EncodeVersioner},
			GroupResource: resource,
		},
		Decorator:               o.decorate,
		EnableGarbageCollection: true,
		DeleteCollectionWorkers: deleteCollectionWorkers,
		ResourcePrefix:          resource.Resource,
		CountMetricPollPeriod:   countPollPeriod,
	}, nil
}

// decorate implements generic.StorageDecorator. Views live as long as the
// backend, so there is nothing to destroy.
func (o RESTOptions) decorate(
	config *storagebackend.ConfigForResource, prefix string, _ func(runtime.Object) (string, error),
	newFunc, newListFunc func() runtime.Object, _ apistorage.AttrFunc, _ apistorage.IndexerFuncs, _ *cache.Indexers,
) (apistorage.Interface, factory.DestroyFunc, error) {
	s, err := o.Backend.Open(ResourceConfig{
		Resource:    config.GroupResource,
		Prefix:      prefix,
		Codec:       config.Codec,
		NewFunc:     newFunc,
		NewListFunc: newListFunc,
		Joiner:      o.Joiners[config.GroupResource],
	})
	if err != nil {
		return nil, nil, err
	}
	return s, func() {}, nil
}
