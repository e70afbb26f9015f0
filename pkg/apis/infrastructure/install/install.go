// SPDX-License-Identifier: Apache-2.0

// Package install makes a scheme know the API: the internal types, both served
// versions, and that v1alpha4 comes first.
package install

import (
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha3"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// Install registers the API group with the scheme. It panics if the types do
// not fit together, which no input can bring about.
func Install(scheme *runtime.Scheme) {
	utilruntime.Must(infrastructure.AddToScheme(scheme))
	utilruntime.Must(v1alpha3.AddToScheme(scheme))
	utilruntime.Must(v1alpha4.AddToScheme(scheme))
	utilruntime.Must(scheme.SetVersionPriority(v1alpha4.SchemeGroupVersion, v1alpha3.SchemeGroupVersion))
}
