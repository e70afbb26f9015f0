// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	projectA = "10000000-0000-4000-8000-00000000000a"
	projectB = "10000000-0000-4000-8000-00000000000b"
)

func TestStatic(t *testing.T) {
	t.Parallel()
	s, err := NewStatic([]string{"team-a=" + projectA, projectB + "=00000000-0000-0000-0000-000000000000"})
	require.NoError(t, err)

	for _, c := range []struct{ name, namespace, project string }{
		{"a listed namespace", "team-a", projectA},
		{"a namespace named after a project", "10000000-0000-4000-8000-00000000000c", "10000000-0000-4000-8000-00000000000c"},
		{"a listed namespace named after another project", projectB, "00000000-0000-0000-0000-000000000000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			project, bound := s.Project(c.namespace)
			assert.True(t, bound)
			assert.Equal(t, c.project, project)
			namespace, bound := s.Namespace(c.project)
			assert.True(t, bound)
			assert.Equal(t, c.namespace, namespace)
		})
	}
	for _, namespace := range []string{
		"kube-system", "",
		projectA, // bound to team-a already
		"10000000-0000-4000-8000-00000000000A",
		"00000000-0000-0000-0000-000000000000",
	} {
		_, bound := s.Project(namespace)
		assert.False(t, bound, "namespace %q", namespace)
	}
	for _, project := range []string{"", "metal", projectB} {
		_, bound := s.Namespace(project)
		assert.False(t, bound, "project %q", project)
	}
}

func TestStatic_RefusesWhatIsNotOneToOne(t *testing.T) {
	t.Parallel()
	for _, list := range [][]string{
		{"team-a"},
		{"team-a="},
		{"Team_A=" + projectA},
		{"=" + projectA},
		{"team-a=" + projectA, "team-a=" + projectB},
		{"team-a=" + projectA, "team-b=" + projectA},
	} {
		_, err := NewStatic(list)
		assert.Error(t, err, "%v", list)
	}
}
