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
	b := newEnvironment(t)
	b.label("team-a", projectA)
	k := b.reconcile(b.newServer())
	b.setHasRecords("team-a", true)
	b.remove("team-a")
	b.takeEvents()
	return b, k
}

func TestBinding_RecordsOfADeletedNamespaceAreHidden(t *testing.T) {
	t.Parallel()
	b, k := abandonRecords(t)
	b.label("team-b", projectA)
	for range 2 {
		again, err := k.reconcile(t.Context())
		require.NoError(t, err)
		assert.Equal(t, pendingInterval, again)
		assert.Empty(t, projectOf(k, "team-a"), "nothing is released without a Namespace")
		assert.Contains(t, k.Hidden(), "team-a")
		assert.Empty(t, projectOf(k, "team-b"), "the metal of the records would be shown there as unclaimed")
		said := b.takeEvents()
		require.Len(t, said, 2)
		assert.Contains(t, said[0], "team-a Warning RecordsAbandoned: ")
		assert.Contains(t, said[0], "project "+projectA)
		assert.Contains(t, said[1], "team-b Warning ProjectTaken: ")
		assert.Contains(t, said[1], `has objects of the namespace "team-a", which was deleted`)
		k = b.newServer() // also over a restart
	}
	b.setHasRecords("team-a", false)
	b.reconcile(k)
	assert.Empty(t, k.Hidden())
	assert.Equal(t, projectA, projectOf(k, "team-b"))
}

func TestBinding_SuccessorWithTheSameProjectTakesRecordsOver(t *testing.T) {
	t.Parallel()
	for name, seen := range map[string]bool{"seen to be gone": true, "replaced between two gets": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, k := abandonRecords(t)
			if seen {
				b.reconcile(k)
			}
			b.takeEvents()
			b.label("team-a", projectA)
			b.reconcile(k)
			for range 2 {
				assert.Equal(t, projectA, projectOf(k, "team-a"))
				assert.Empty(t, k.Hidden())
				assert.True(t, k.TakenOver("team-a").Equal(b.clock.Now()), "%s", k.TakenOver("team-a"))
				k = b.reconcile(b.newServer()) // also over a restart
			}
			said := b.takeEvents()
			require.NotEmpty(t, said)
			assert.Contains(t, said[len(said)-1], "team-a Normal RecordsTakenOver: ")
			assert.Contains(t, said[len(said)-1], infrastructure.ForceReleaseAnnotation)
			// It is a binding like any other from then on.
			b.label("team-a", projectB)
			b.reconcile(k)
			assert.Equal(t, projectA, projectOf(k, "team-a"))
		})
	}
}

func TestBinding_SuccessorWithAnotherProjectInheritsNothing(t *testing.T) {
	t.Parallel()
	for name, label := range map[string]string{"another project": projectB, "no project": "", "no project id": "x"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, k := abandonRecords(t)
			b.label("team-a", label)
			b.label("team-b", projectA)
			for range 2 {
				b.reconcile(k)
				assert.Empty(t, projectOf(k, "team-a"))
				assert.Contains(t, k.Hidden(), "team-a")
				_, shown := k.Namespace(projectA)
				assert.False(t, shown)
				_, shown = k.Namespace(projectB)
				assert.False(t, shown)
				said := b.takeEvents()
				require.Len(t, said, 2)
				assert.Contains(t, said[0], "team-a Warning RecordsAbandoned: ")
				assert.Contains(t, said[1], "team-b Warning ProjectTaken: ")
				advice := k.state.Load().results["team-a"].advice()
				assert.NotContains(t, advice, projectA, "whose it was is none of the next tenant's business")
				assert.Contains(t, advice, "an administrator must resolve this first")
				k = b.newServer()
			}
			b.setHasRecords("team-a", false)
			b.reconcile(k)
			assert.Empty(t, k.Hidden())
			if label != projectB {
				label = ""
			}
			assert.Equal(t, label, projectOf(k, "team-a"))
			assert.Equal(t, projectA, projectOf(k, "team-b"))
		})
	}
}

func TestBinding_TerminatingNamespaceTakesNothingOver(t *testing.T) {
	t.Parallel()
	b, k := abandonRecords(t)
	b.label("team-a", projectA)
	b.startDeletion("team-a")
	b.reconcile(k)
	assert.Empty(t, projectOf(k, "team-a"), "its end would mark what it takes over")
	assert.Contains(t, k.Hidden(), "team-a")
}

func TestBinding_RecordWithoutUIDsIsCompleted(t *testing.T) {
	t.Parallel()
	old := []byte(`{"namespaces":{"team-a":"` + projectA + `"}}`)
	b := newEnvironment(t)
	_, err := b.ledger.Create(t.Context(), recordKey, old)
	require.NoError(t, err)
	b.label("team-a", projectA)
	b.setHasRecords("team-a", true)
	k := b.reconcile(b.newServer())
	assert.Equal(t, projectA, projectOf(k, "team-a"))
	assert.Zero(t, k.TakenOver("team-a"))
	b.remove("team-a")
	b.label("team-a", projectB)
	k = b.reconcile(b.newServer())
	assert.Contains(t, k.Hidden(), "team-a", "a server that never saw the first one knows its uid")

	// Where the Namespace is gone by then, its uid is never known.
	b = newEnvironment(t)
	_, err = b.ledger.Create(t.Context(), recordKey, old)
	require.NoError(t, err)
	b.setHasRecords("team-a", true)
	k = b.reconcile(b.newServer())
	assert.Contains(t, k.Hidden(), "team-a")
	b.label("team-a", projectB)
	k = b.reconcile(k)
	assert.Contains(t, k.Hidden(), "team-a", "and whoever comes next is another")
	assert.Empty(t, projectOf(k, "team-a"))
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
			b := newEnvironment(t)
			_, err := b.ledger.Create(t.Context(), recordKey, []byte(`{"namespaces":{"team-a":"`+projectA+`"}}`))
			require.NoError(t, err)
			b.label("team-a", c.project)
			b.setHasRecords("team-a", true)
			b.oldest["team-a"] = b.namespaces["team-a"].created
			if !c.older {
				b.oldest["team-a"] = b.oldest["team-a"].Add(-time.Second)
			}
			for range 2 {
				k := b.reconcile(b.newServer())
				assert.Equal(t, c.bound, projectOf(k, "team-a"))
				assert.Equal(t, c.bound == "", len(k.Hidden()) == 1)
				assert.Equal(t, c.takeover, !k.TakenOver("team-a").IsZero())
			}
		})
	}
}

func TestBinding_TakeoverIsInForceOnceItIsSaved(t *testing.T) {
	t.Parallel()
	b, k := abandonRecords(t)
	b.label("team-a", projectA)
	k.store.ledger = readOnlyLedger{b.ledger}
	_, err := k.reconcile(t.Context())
	require.ErrorIs(t, err, errFull)
	assert.Empty(t, projectOf(k, "team-a"), "what was marked before could be released meanwhile")
	k.store.ledger = b.ledger
	b.reconcile(k)
	assert.Equal(t, projectA, projectOf(k, "team-a"))
	assert.NotZero(t, k.TakenOver("team-a"))
}

func TestBeginCreate_RefusesInANamespaceWithAbandonedRecords(t *testing.T) {
	t.Parallel()
	b := newEnvironment(t)
	b.label("team-a", projectA)
	b.reconcile(b.newServer())
	b.takeEvents()
	b.setHasRecords("team-a", true)
	c := startServer(t, b, namespaceObjectWithUID("team-a", "1", projectB, "uid-of-team-a-again"))
	_, err := c.BeginCreate(t.Context(), ofMachines, "team-a", "m")
	require.ErrorContains(t, err, "objects of an earlier namespace of this name were left behind")
	assert.NotContains(t, err.Error(), projectA)
	assert.Contains(t, c.Hidden(), "team-a")
}

func TestBinder_NotifiesOfHiddenNamespaces(t *testing.T) {
	t.Parallel()
	b, k := abandonRecords(t)
	calls := 0
	k.OnHiddenChange = func() { calls++ }
	b.reconcile(k)
	assert.Equal(t, 1, calls)
	b.reconcile(k)
	assert.Equal(t, 1, calls)
	b.label("team-a", projectA)
	b.reconcile(k)
	assert.Equal(t, 2, calls)
	b.label("team-c", projectC)
	b.reconcile(k)
	assert.Equal(t, 2, calls, "a binding like any other ends no watch")
}
