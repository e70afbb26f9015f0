// SPDX-License-Identifier: Apache-2.0

// Package scheme holds the one scheme of the server, and the codecs over it.
// Clients do not need it: the generated clientset has a scheme of its own,
// without internal types.
package scheme

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"

	firewallv2 "metal-stack.io/infrastructure-apiserver/pkg/apis/firewall/v2"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/install"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

var (
	// Scheme knows all types that the server answers with.
	Scheme = newScheme()
	// Codecs encode and decode them.
	Codecs = serializer.NewCodecFactory(Scheme)
	// ParameterCodec decodes the options of a request.
	ParameterCodec = runtime.NewParameterCodec(Scheme)
	// StorageVersion is the version that records are stored in.
	StorageVersion = v1alpha4.SchemeGroupVersion
	// StorageCodec turns internal objects into records and back.
	StorageCodec = newStorageCodec(StorageVersion)
)

func newScheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	install.Install(scheme)
	utilruntime.Must(firewallv2.AddToScheme(scheme))

	// What the generic server itself answers with, in no group: options, Status,
	// discovery.
	unversioned := schema.GroupVersion{Version: "v1"}
	metav1.AddToGroupVersion(scheme, unversioned)
	scheme.AddUnversionedTypes(unversioned,
		&metav1.Status{},
		&metav1.APIVersions{},
		&metav1.APIGroupList{},
		&metav1.APIGroup{},
		&metav1.APIResourceList{},
	)
	return scheme
}

// WithoutProtobuf takes protobuf, of which our types know nothing, from what
// clients can choose. Who would rather have it gets JSON instead of an error,
// which would hold up the deletion of every namespace.
func WithoutProtobuf(s runtime.NegotiatedSerializer) runtime.NegotiatedSerializer {
	return withoutProtobuf{s}
}

type withoutProtobuf struct{ runtime.NegotiatedSerializer }

// SupportedMediaTypes implements runtime.NegotiatedSerializer.
func (w withoutProtobuf) SupportedMediaTypes() []runtime.SerializerInfo {
	return slices.DeleteFunc(slices.Clone(w.NegotiatedSerializer.SupportedMediaTypes()), func(info runtime.SerializerInfo) bool {
		return info.MediaType == runtime.ContentTypeProtobuf
	})
}
