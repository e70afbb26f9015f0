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

// leaveRecords binds team-a to projectA, gives it records, and lets it vanish.
func leaveRecords(t *testing.T) (*bed, *keeper) {
	t.Helper()
	b := newBed(t)
	b.label("team-a", projectA)
	k := b.kept(b.server())
	b.holds("team-a", true)
	b.gone("team-a")
	b.said()
	return b, k
}

func TestBinding_RecordsOfANamespaceThatIsGoneAreHidden(t *testing.T) {
	t.Parallel()
	b, k := leaveRecords(t)
	b.label("team-b", projectA)
	for range 2 {
		again, err := k.keep(t.Context())
		require.NoError(t, err)
		assert.Equal(t, heldInterval, again)
		assert.Empty(t, bound(k, "team-a"), "nothing is released for nobody")
		assert.Contains(t, k.Hidden(), "team-a")
		assert.Empty(t, bound(k, "team-b"), "the metal of the records would be shown there as nobody's")
		said := b.said()
		require.Len(t, said, 2)
		assert.Contains(t, said[0], "team-a Warning RecordsAbandoned: ")
		assert.Contains(t, said[0], "project "+projectA)
		assert.Contains(t, said[1], "team-b Warning ProjectTaken: ")
		assert.Contains(t, said[1], `has objects of the namespace "team-a", which is gone`)
		k = b.server() // also over a restart
	}
	b.holds("team-a", false)
	b.kept(k)
	assert.Empty(t, k.Hidden())
	assert.Equal(t, projectA, bound(k, "team-b"))
}

func TestBinding_SuccessorWithTheSameProjectTakesRecordsOver(t *testing.T) {
	t.Parallel()
	for name, seen := range map[string]bool{"seen to be gone": true, "replaced between two looks": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, k := leaveRecords(t)
			if seen {
				b.kept(k)
			}
			b.said()
			b.label("team-a", projectA)
			b.kept(k)
			for range 2 {
				assert.Equal(t, projectA, bound(k, "team-a"))
				assert.Empty(t, k.Hidden())
				assert.True(t, k.TakenOver("team-a").Equal(b.clock.Now()), "%s", k.TakenOver("team-a"))
				k = b.kept(b.server()) // also over a restart
			}
			said := b.said()
			require.NotEmpty(t, said)
			assert.Contains(t, said[len(said)-1], "team-a Normal RecordsTakenOver: ")
			assert.Contains(t, said[len(said)-1], infrastructure.ForceReleaseAnnotation)
			// It is a binding like any other from then on.
			b.label("team-a", projectB)
			b.kept(k)
			assert.Equal(t, projectA, bound(k, "team-a"))
		})
	}
}

func TestBinding_SuccessorWithAnotherProjectInheritsNothing(t *testing.T) {
	t.Parallel()
	for name, label := range map[string]string{"another project": projectB, "no project": "", "no project id": "x"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, k := leaveRecords(t)
			b.label("team-a", label)
			b.label("team-b", projectA)
			for range 2 {
				b.kept(k)
				assert.Empty(t, bound(k, "team-a"))
				assert.Contains(t, k.Hidden(), "team-a")
				_, shown := k.Namespace(projectA)
				assert.False(t, shown)
				_, shown = k.Namespace(projectB)
				assert.False(t, shown)
				said := b.said()
				require.Len(t, said, 2)
				assert.Contains(t, said[0], "team-a Warning RecordsAbandoned: ")
				assert.Contains(t, said[1], "team-b Warning ProjectTaken: ")
				advice := k.state.Load().judged["team-a"].advice()
				assert.NotContains(t, advice, projectA, "whose it was is none of the next tenant's business")
				assert.Contains(t, advice, "an administrator has to decide")
				k = b.server()
			}
			b.holds("team-a", false)
			b.kept(k)
			assert.Empty(t, k.Hidden())
			if label != projectB {
				label = ""
			}
			assert.Equal(t, label, bound(k, "team-a"))
			assert.Equal(t, projectA, bound(k, "team-b"))
		})
	}
}

func TestBinding_NamespaceThatIsBeingDeletedTakesNothingOver(t *testing.T) {
	t.Parallel()
	b, k := leaveRecords(t)
	b.label("team-a", projectA)
	b.going("team-a")
	b.kept(k)
	assert.Empty(t, bound(k, "team-a"), "its end would mark what it takes over")
	assert.Contains(t, k.Hidden(), "team-a")
}

func TestBinding_RecordWithoutUIDsIsCompleted(t *testing.T) {
	t.Parallel()
	old := []byte(`{"namespaces":{"team-a":"` + projectA + `"}}`)
	b := newBed(t)
	_, err := b.ledger.Create(t.Context(), recordKey, old)
	require.NoError(t, err)
	b.label("team-a", projectA)
	b.holds("team-a", true)
	k := b.kept(b.server())
	assert.Equal(t, projectA, bound(k, "team-a"))
	assert.Zero(t, k.TakenOver("team-a"))
	b.gone("team-a")
	b.label("team-a", projectB)
	k = b.kept(b.server())
	assert.Contains(t, k.Hidden(), "team-a", "a server that never saw the first one knows its uid")

	// Where the Namespace is gone by then, its uid is never known.
	b = newBed(t)
	_, err = b.ledger.Create(t.Context(), recordKey, old)
	require.NoError(t, err)
	b.holds("team-a", true)
	k = b.kept(b.server())
	assert.Contains(t, k.Hidden(), "team-a")
	b.label("team-a", projectB)
	k = b.kept(k)
	assert.Contains(t, k.Hidden(), "team-a", "and whoever comes next is another")
	assert.Empty(t, bound(k, "team-a"))
}

func TestBinding_RecordWithoutUIDsIsOfNoNamespaceYoungerThanItsObjects(t *testing.T) {
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
			b := newBed(t)
			_, err := b.ledger.Create(t.Context(), recordKey, []byte(`{"namespaces":{"team-a":"`+projectA+`"}}`))
			require.NoError(t, err)
			b.label("team-a", c.project)
			b.holds("team-a", true)
			b.oldest["team-a"] = b.namespaces["team-a"].created
			if !c.older {
				b.oldest["team-a"] = b.oldest["team-a"].Add(-time.Second)
			}
			for range 2 {
				k := b.kept(b.server())
				assert.Equal(t, c.bound, bound(k, "team-a"))
				assert.Equal(t, c.bound == "", len(k.Hidden()) == 1)
				assert.Equal(t, c.takeover, !k.TakenOver("team-a").IsZero())
			}
		})
	}
}

func TestBinding_TakeoverIsInForceOnceItIsWritten(t *testing.T) {
	t.Parallel()
	b, k := leaveRecords(t)
	b.label("team-a", projectA)
	k.book.ledger = unwritable{b.ledger}
	_, err := k.keep(t.Context())
	require.ErrorIs(t, err, errFull)
	assert.Empty(t, bound(k, "team-a"), "what was marked before could be released meanwhile")
	k.book.ledger = b.ledger
	b.kept(k)
	assert.Equal(t, projectA, bound(k, "team-a"))
	assert.NotZero(t, k.TakenOver("team-a"))
}

func TestAdmit_RefusesInANamespaceWhoseNameHasRecordsOfAnother(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.label("team-a", projectA)
	b.kept(b.server())
	b.said()
	b.holds("team-a", true)
	c := inCluster(t, b, inAPIAs("team-a", "1", projectB, "uid-of-team-a-again"))
	_, err := c.Admit(t.Context(), ofMachines, "team-a", "m")
	require.ErrorContains(t, err, "objects of an earlier namespace of this name were left behind")
	assert.NotContains(t, err.Error(), projectA)
	assert.Contains(t, c.Hidden(), "team-a")
}

func TestKeep_TellsWhenOtherNamespacesAreHidden(t *testing.T) {
	t.Parallel()
	b, k := leaveRecords(t)
	told := 0
	k.HiddenChanged = func() { told++ }
	b.kept(k)
	assert.Equal(t, 1, told)
	b.kept(k)
	assert.Equal(t, 1, told)
	b.label("team-a", projectA)
	b.kept(k)
	assert.Equal(t, 2, told)
	b.label("team-c", projectC)
	b.kept(k)
	assert.Equal(t, 2, told, "a binding like any other ends nobody's watch")
}
