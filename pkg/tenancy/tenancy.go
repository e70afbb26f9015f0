// SPDX-License-Identifier: Apache-2.0

// Package tenancy knows which Kubernetes namespace belongs to which
// metal-stack project (a binding). One namespace a project, one project a
// namespace. A binding never changes under an object: not while the namespace
// holds a record, nor while one is being created.
package tenancy

import (
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Bindings answers from memory.
type Bindings interface {
	// Project returns the project that a namespace is bound to.
	Project(namespace string) (project string, bound bool)
	// Namespace returns the namespace that shows the metal of a project, which
	// is the one that is bound to it; none while that is being deleted.
	Namespace(project string) (namespace string, bound bool)
}

// NotBound is the answer to a create in a namespace that is not bound; advice
// says why, or what to do.
func NotBound(resource schema.GroupResource, namespace, name, advice string) error {
	return apierrors.NewForbidden(resource, name, fmt.Errorf("the namespace %q is not bound to a metal-stack project: %s", namespace, advice))
}
