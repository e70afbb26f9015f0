// Package tenancy knows which Kubernetes namespace belongs to which
// metal-stack project (a binding). One namespace a project, one project a
// namespace. And it knows which namespaces users are shown in lists and watches
// (Access).
package tenancy

// Bindings answers from memory.
type Bindings interface {
	// Project returns the project that a namespace is bound to.
	Project(namespace string) (project string, bound bool)
	// Namespace returns the namespace that a project is bound to.
	Namespace(project string) (namespace string, bound bool)
}
