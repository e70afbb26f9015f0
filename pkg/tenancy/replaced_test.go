// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

var ofMachines = schema.GroupResource{Group: infrastructure.GroupName, Resource: "metalstackmachines"}

// abandonRecords binds team-a to projectA, gives it records, and lets it vanish.
func abandonRecords(t *testing.T) (*environment, *binder) {
	t.Helper()
	e := newEnvironment(t)
	e.label("team-a", projectA)
	b := e.reconcile(e.newServer())
	e.setHasRecords("team-a", true)
	e.remove("team-a")
	e.takeEvents()
	return e, b
}

func TestBinding_RecordsOfADeletedNamespaceAreHidden(t *testing.T) {
	t.Parallel()
	e, b := abandonRecords(t)
	e.label("team-b", projectA)
	for range 2 {
		again, err := b.reconcile(t.Context())
		require.NoError(t, err)
		assert.Equal(t, pendingInterval, again)
		assert.Empty(t, projectOf(b, "team-a"), "nothing is released without a Namespace")
		assert.Contains(t, b.Hidden(), "team-a")
		assert.Empty(t, projectOf(b, "team-b"), "the metal of the records would be shown there as unclaimed")
		said := e.takeEvents()
		require.Len(t, said, 2)
		assert.Contains(t, said[0], "team-a Warning RecordsAbandoned: ")
		assert.Contains(t, said[0], "project "+projectA)
		assert.Contains(t, said[1], "team-b Warning ProjectTaken: ")
		assert.Contains(t, said[1], `has objects of the namespace "team-a", which was deleted`)
		b = e.newServer() // also over a restart
	}
	e.setHasRecords("team-a", false)
	e.reconcile(b)
	assert.Empty(t, b.Hidden())
	assert.Equal(t, projectA, projectOf(b, "team-b"))
}

func TestBinding_SuccessorWithTheSameProjectTakesRecordsOver(t *testing.T) {
	t.Parallel()
	for name, seen := range map[string]bool{"seen to be gone": true, "replaced between two gets": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, b := abandonRecords(t)
			if seen {
				e.reconcile(b)
			}
			e.takeEvents()
			e.label("team-a", projectA)
			e.reconcile(b)
			for range 2 {
				assert.Equal(t, projectA, projectOf(b, "team-a"))
				assert.Empty(t, b.Hidden())
				assert.True(t, b.TakenOver("team-a").Equal(e.clock.Now()), "%s", b.TakenOver("team-a"))
				b = e.reconcile(e.newServer()) // also over a restart
			}
			said := e.takeEvents()
			require.NotEmpty(t, said)
			assert.Contains(t, said[len(said)-1], "team-a Normal RecordsTakenOver: ")
			assert.Contains(t, said[len(said)-1], infrastructure.ForceReleaseAnnotation)
			// It is a binding like any other from then on.
			e.label("team-a", projectB)
			e.reconcile(b)
			assert.Equal(t, projectA, projectOf(b, "team-a"))
		})
	}
}

func TestBinding_SuccessorWithAnotherProjectInheritsNothing(t *testing.T) {
	t.Parallel()
	for name, label := range map[string]string{"another project": projectB, "no project": "", "no project id": "x"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, b := abandonRecords(t)
			e.label("team-a", label)
			e.label("team-b", projectA)
			for range 2 {
				e.reconcile(b)
				assert.Empty(t, projectOf(b, "team-a"))
				assert.Contains(t, b.Hidden(), "team-a")
				_, shown := b.Namespace(projectA)
				assert.False(t, shown)
				_, shown = b.Namespace(projectB)
				assert.False(t, shown)
				said := e.takeEvents()
				require.Len(t, said, 2)
				assert.Contains(t, said[0], "team-a Warning RecordsAbandoned: ")
				assert.Contains(t, said[1], "team-b Warning ProjectTaken: ")
				advice := b.state.Load().results["team-a"].advice()
				assert.NotContains(t, advice, projectA, "whose it was is none of the next tenant's business")
				assert.Contains(t, advice, "an administrator must resolve this first")
				b = e.newServer()
			}
			e.setHasRecords("team-a", false)
			e.reconcile(b)
			assert.Empty(t, b.Hidden())
			if label != projectB {
				label = ""
			}
			assert.Equal(t, label, projectOf(b, "team-a"))
			assert.Equal(t, projectA, projectOf(b, "team-b"))
		})
	}
}

func TestBinding_TerminatingNamespaceTakesNothingOver(t *testing.T) {
	t.Parallel()
	e, b := abandonRecords(t)
	e.label("team-a", projectA)
	e.startDeletion("team-a")
	e.reconcile(b)
	assert.Empty(t, projectOf(b, "team-a"), "its end would mark what it takes over")
	assert.Contains(t, b.Hidden(), "team-a")
}

func TestBinding_RecordWithoutUIDsIsCompleted(t *testing.T) {
	t.Parallel()
	old := []byte(`{"namespaces":{"team-a":"` + projectA + `"}}`)
	e := newEnvironment(t)
	_, err := e.ledger.Create(t.Context(), recordKey, old)
	require.NoError(t, err)
	e.label("team-a", projectA)
	e.setHasRecords("team-a", true)
	b := e.reconcile(e.newServer())
	assert.Equal(t, projectA, projectOf(b, "team-a"))
	assert.Zero(t, b.TakenOver("team-a"))
	e.remove("team-a")
	e.label("team-a", projectB)
	b = e.reconcile(e.newServer())
	assert.Contains(t, b.Hidden(), "team-a", "a server that never saw the first one knows its uid")

	// Where the Namespace is gone by then, its uid is never known.
	e = newEnvironment(t)
	_, err = e.ledger.Create(t.Context(), recordKey, old)
	require.NoError(t, err)
	e.setHasRecords("team-a", true)
	b = e.reconcile(e.newServer())
	assert.Contains(t, b.Hidden(), "team-a")
	e.label("team-a", projectB)
	b = e.reconcile(b)
	assert.Contains(t, b.Hidden(), "team-a", "and whoever comes next is another")
	assert.Empty(t, projectOf(b, "team-a"))
}

func TestBinding_RecordWithoutUIDsBelongsToNoNamespaceYoungerThanItsObjects(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		project  string
		older    bool // The Namespace is not younger than the objects.
		bound    string
		takeover bool
	}{
		"younger, another project":   {project: projectB},
		"younger, no project":        {project: ""},
		"younger, the same project":  {project: projectA, bound: projectA, takeover: true},
		"older, whose label changed": {project: projectB, older: true, bound: projectA},
		"older, the same project":    {project: projectA, older: true, bound: projectA},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnvironment(t)
			_, err := e.ledger.Create(t.Context(), recordKey, []byte(`{"namespaces":{"team-a":"`+projectA+`"}}`))
			require.NoError(t, err)
			e.label("team-a", c.project)
			e.setHasRecords("team-a", true)
			e.oldest["team-a"] = e.namespaces["team-a"].created
			if !c.older {
				e.oldest["team-a"] = e.oldest["team-a"].Add(-time.Second)
			}
			for range 2 {
				b := e.reconcile(e.newServer())
				assert.Equal(t, c.bound, projectOf(b, "team-a"))
				assert.Equal(t, c.bound == "", len(b.Hidden()) == 1)
				assert.Equal(t, c.takeover, !b.TakenOver("team-a").IsZero())
			}
		})
	}
}

func TestBinding_TakeoverIsInForceOnceItIsSaved(t *testing.T) {
	t.Parallel()
	e, b := abandonRecords(t)
	e.label("team-a", projectA)
	b.store.ledger = readOnlyLedger{e.ledger}
	_, err := b.reconcile(t.Context())
	require.ErrorIs(t, err, errFull)
	assert.Empty(t, projectOf(b, "team-a"), "what was marked before could be released meanwhile")
	b.store.ledger = e.ledger
	e.reconcile(b)
	assert.Equal(t, projectA, projectOf(b, "team-a"))
	assert.NotZero(t, b.TakenOver("team-a"))
}

func TestBeginCreate_RefusesInANamespaceWithAbandonedRecords(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	e.label("team-a", projectA)
	e.reconcile(e.newServer())
	e.takeEvents()
	e.setHasRecords("team-a", true)
	c := startServer(t, e, namespaceObjectWithUID("team-a", "1", projectB, "uid-of-team-a-again"))
	_, err := c.BeginCreate(t.Context(), ofMachines, "team-a", "m")
	require.ErrorContains(t, err, "objects of an earlier namespace of this name were left behind")
	assert.NotContains(t, err.Error(), projectA)
	assert.Contains(t, c.Hidden(), "team-a")
}

func TestBinder_NotifiesOfHiddenNamespaces(t *testing.T) {
	t.Parallel()
	e, b := abandonRecords(t)
	calls := 0
	b.OnHiddenChange = func() { calls++ }
	e.reconcile(b)
	assert.Equal(t, 1, calls)
	e.reconcile(b)
	assert.Equal(t, 1, calls)
	e.label("team-a", projectA)
	e.reconcile(b)
	assert.Equal(t, 2, calls)
	e.label("team-c", projectC)
	e.reconcile(b)
	assert.Equal(t, 2, calls, "a binding like any other ends no watch")
}
