// SPDX-License-Identifier: Apache-2.0

package standalone

import (
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/server"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// API is what kubectl requests of any cluster, and a standalone server has to serve
// itself: self reviews (whoami, can-i) and namespaces.
type API struct {
	// Namespaces are the namespaces that exist.
	Namespaces Namespaces
}

// kinds are the served kinds, by group-version.
var kinds = map[schema.GroupVersion][]runtime.Object{
	authenticationv1.SchemeGroupVersion: {&authenticationv1.SelfSubjectReview{}},
	authorizationv1.SchemeGroupVersion:  {&authorizationv1.SelfSubjectAccessReview{}, &authorizationv1.SelfSubjectRulesReview{}},
	corev1.SchemeGroupVersion:           {&corev1.Namespace{}, &corev1.NamespaceList{}},
}

// NewScheme returns a scheme of the served kinds. Each has one version, which is also
// the internal one.
func NewScheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	for gv, objects := range kinds {
		scheme.AddKnownTypes(gv, objects...)
		scheme.AddKnownTypes(schema.GroupVersion{Group: gv.Group, Version: runtime.APIVersionInternal}, objects...)
		metav1.AddToGroupVersion(scheme, gv)
	}
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	return scheme
}

// Definitions adds the OpenAPI definitions of the served kinds to others. They have no
// fields: these kinds are well known, and cannot be applied.
func Definitions(others common.GetOpenAPIDefinitions) common.GetOpenAPIDefinitions {
	return func(ref common.ReferenceCallback) map[string]common.OpenAPIDefinition {
		all := others(ref)
		for _, objects := range kinds {
			for _, obj := range objects {
				named, ok := obj.(interface{ OpenAPIModelName() string })
				if !ok {
					continue
				}
				if _, known := all[named.OpenAPIModelName()]; !known {
					all[named.OpenAPIModelName()] = common.OpenAPIDefinition{Schema: spec.Schema{SchemaProps: spec.SchemaProps{Type: []string{"object"}}}}
				}
			}
		}
		return all
	}
}

// Install installs the API in a server; a authorizes users.
func (api *API) Install(s *server.GenericAPIServer, a authorizer.Authorizer) error {
	scheme := NewScheme()
	group := func(gv schema.GroupVersion, storage map[string]rest.Storage) *server.APIGroupInfo {
		return &server.APIGroupInfo{
			PrioritizedVersions:          []schema.GroupVersion{gv},
			VersionedResourcesStorageMap: map[string]map[string]rest.Storage{gv.Version: storage},
			OptionsExternalVersion:       &schema.GroupVersion{Version: "v1"},
			Scheme:                       scheme,
			ParameterCodec:               runtime.NewParameterCodec(scheme),
			NegotiatedSerializer:         serializer.NewCodecFactory(scheme),
		}
	}
	err := s.InstallAPIGroups(
		group(authenticationv1.SchemeGroupVersion, map[string]rest.Storage{"selfsubjectreviews": selfReview{}}),
		group(authorizationv1.SchemeGroupVersion, map[string]rest.Storage{
			"selfsubjectaccessreviews": accessReview{authorizer: a}, "selfsubjectrulesreviews": rulesReview{authorizer: a},
		}),
	)
	if err != nil {
		return err
	}
	return s.InstallLegacyAPIGroup(server.DefaultLegacyAPIPrefix, group(corev1.SchemeGroupVersion, map[string]rest.Storage{
		"namespaces": namespaces{known: api.Namespaces},
	}))
}

// Namespaces knows which namespaces exist.
type Namespaces interface {
	// Project returns the project that a namespace is bound to, if it is.
	Project(namespace string) (project string, bound bool)
	// Names are those that are listed; others may be bound, too.
	Names() []string
}
