// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Static are the bindings of a server without a Kubernetes around it. A
// namespace that is named after a project's id is bound to it, unless either
// of the two is listed otherwise.
type Static struct {
	projects, namespaces map[string]string
}

var _ Bindings = &Static{}

// NewStatic reads a list of namespace=project. It is an error to list a
// namespace or a project twice: each is bound to one of the other.
func NewStatic(list []string) (*Static, error) {
	s := &Static{projects: map[string]string{}, namespaces: map[string]string{}}
	for _, entry := range list {
		namespace, project, found := strings.Cut(entry, "=")
		if !found || project == "" {
			return nil, fmt.Errorf("binding %q is not of the form namespace=project", entry)
		}
		if problems := validation.IsDNS1123Label(namespace); len(problems) > 0 {
			return nil, fmt.Errorf("binding %q: invalid namespace %q: %s", entry, namespace, problems[0])
		}
		if other, taken := s.projects[namespace]; taken {
			return nil, fmt.Errorf("namespace %q is bound to both %q and %q", namespace, other, project)
		}
		if other, taken := s.namespaces[project]; taken {
			return nil, fmt.Errorf("project %q is bound to both namespaces %q and %q: a project is bound to one namespace", project, other, namespace)
		}
		s.projects[namespace], s.namespaces[project] = project, namespace
	}
	return s, nil
}

// Project implements Bindings.
func (s *Static) Project(namespace string) (string, bool) {
	if project, listed := s.projects[namespace]; listed {
		return project, true
	}
	if _, listed := s.namespaces[namespace]; listed || !isProjectID(namespace) {
		return "", false
	}
	return namespace, true
}

// Namespace implements Bindings.
func (s *Static) Namespace(project string) (string, bool) {
	if namespace, listed := s.namespaces[project]; listed {
		return namespace, true
	}
	if _, listed := s.projects[project]; listed || !isProjectID(project) {
		return "", false
	}
	return project, true
}

// Names are the namespaces that were listed.
func (s *Static) Names() []string { return slices.Sorted(maps.Keys(s.projects)) }

// isProjectID: metal-stack's projects are UUIDs, in the one spelling that is
// compared as a string.
func isProjectID(s string) bool {
	id, err := uuid.Parse(s)
	return err == nil && id.String() == s
}
