package tenancy

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
)

func TestALabelBindsANamespace(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.label("plain", "")
	k := b.kept(b.server())
	assert.True(t, k.Synced())
	assert.Empty(t, bound(k, "plain"))
	assert.Empty(t, b.said())

	b.label("team-a", projectA)
	b.kept(k)
	assert.Equal(t, projectA, bound(k, "team-a"))
	namespace, _ := k.Namespace(projectA)
	assert.Equal(t, "team-a", namespace)
	assert.Equal(t, [][2][]string{{{"team-a"}, {projectA}}}, b.changes)
	assert.Equal(t, []string{"team-a Normal ProjectBound: bound to the project " + projectA + ", whose metal is shown here from now on"}, b.said())

	b.kept(k)
	assert.Len(t, b.changes, 1)
	assert.Empty(t, b.said())

	b.label("team-a", "")
	b.kept(k)
	assert.Empty(t, bound(k, "team-a"))
	assert.Len(t, b.changes, 2)
	assert.Equal(t, []string{"team-a Normal ProjectUnbound: not bound to the project " + projectA + " any more"}, b.said())
}

func TestTheOlderBindingWinsWhicheverNamespaceIsOlder(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.label("older", "")
	b.label("newer", projectA)
	k := b.kept(b.server())
	b.label("older", projectA)
	for range 2 {
		b.kept(k)
		assert.Equal(t, projectA, bound(k, "newer"))
		assert.Empty(t, bound(k, "older"))
		said := b.said()
		require.Len(t, said, 1)
		assert.Contains(t, said[0], "older Warning ProjectTaken: ")
		assert.Contains(t, said[0], `is bound to the namespace "newer" already`, "it is an administrator who reads Events")
		assert.NotContains(t, k.state.Load().judged["older"].advice(), "newer", "and a tenant whom a refusal is for")
		k = b.server() // and over a restart
	}
	b.gone("newer")
	b.kept(k)
	assert.Equal(t, projectA, bound(k, "older"), "by itself, when the project is free")
}

func TestOfTwoThatAskWhileNoServerRunsTheOlderNamespaceIsBound(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.label("z", projectA)
	b.label("a", projectA)
	k := b.kept(b.server())
	assert.Equal(t, projectA, bound(k, "z"))
	assert.Empty(t, bound(k, "a"))
}

func TestTwoNamespacesCanChangePlaces(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.label("team-a", projectA)
	b.label("team-b", projectB)
	k := b.kept(b.server())
	b.label("team-a", projectB)
	b.label("team-b", projectA)
	b.kept(k)
	assert.Equal(t, projectB, bound(k, "team-a"))
	assert.Equal(t, projectA, bound(k, "team-b"))
}

func TestALabelThatIsNoProjectIDIsRefused(t *testing.T) {
	t.Parallel()
	for _, wrong := range []string{"team-a", "10000000-0000-4000-8000-00000000000A", "{" + projectA + "}", strings.ReplaceAll(projectA, "-", "")} {
		b := newBed(t)
		b.label("team-a", wrong)
		k := b.kept(b.server())
		assert.Empty(t, bound(k, "team-a"), wrong)
		said := b.said()
		require.Len(t, said, 1)
		assert.Contains(t, said[0], "team-a Warning ProjectIDInvalid: ")
		assert.Contains(t, said[0], wrong)
		assert.Contains(t, said[0], "a UUID in lower case")
	}
	b := newBed(t)
	b.label("team-a", "")
	b.namespaces["team-a"] = namespace{name: "team-a", uid: "uid-of-team-a", asks: true}
	b.kept(b.server())
	assert.Len(t, b.said(), 1, "an empty label is one, too")
}

func TestABindingStaysInForceWhileTheNamespaceHoldsRecords(t *testing.T) {
	t.Parallel()
	for name, label := range map[string]string{"the label is changed": projectB, "the label is removed": "", "the label is spoilt": "x"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			b.label("team-a", projectA)
			k := b.kept(b.server())
			b.said()
			b.holds("team-a", true)
			b.label("team-a", label)
			b.label("team-b", projectA)
			for range 2 {
				again, err := k.keep(t.Context())
				require.NoError(t, err)
				assert.Equal(t, heldInterval, again)
				assert.Equal(t, projectA, bound(k, "team-a"))
				assert.Empty(t, bound(k, "team-b"), "the project is not free")
				said := b.said()
				require.Len(t, said, 2)
				assert.Contains(t, said[0], "team-a Warning ProjectStillBound: the project "+projectA+" stays in force")
				assert.Contains(t, said[0], "kubectl label --overwrite namespace team-a")
				assert.Contains(t, said[1], "team-b Warning ProjectTaken")
				k = b.server() // also over a restart, which knows the label only as it is now
			}
			b.holds("team-a", false)
			b.kept(k)
			if label != projectB {
				label = ""
			}
			assert.Equal(t, label, bound(k, "team-a"), "by itself, with the last record")
			assert.Equal(t, projectA, bound(k, "team-b"))
		})
	}
}

func TestALabelThatIsPutBackMendsWhatWasChanged(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.label("team-a", projectA)
	k := b.kept(b.server())
	b.holds("team-a", true)
	b.label("team-a", projectB)
	b.kept(k)
	b.label("team-a", projectA)
	again, err := k.keep(t.Context())
	require.NoError(t, err)
	assert.Equal(t, resync, again)
	assert.Equal(t, projectA, bound(k, "team-a"))
	assert.Len(t, b.changes, 1, "nothing has changed in effect")
}

func TestANamespaceThatGoesKeepsItsProjectAndShowsNoMetal(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.label("team-a", projectA)
	k := b.kept(b.server())
	b.holds("team-a", true)
	b.going("team-a")
	b.kept(k)
	assert.Equal(t, projectA, bound(k, "team-a"), "what it holds is released from the project")
	_, shown := k.Namespace(projectA)
	assert.False(t, shown)
	assert.Equal(t, [2][]string{nil, {projectA}}, b.changes[1])

	b.label("team-b", projectA)
	b.kept(k)
	assert.Empty(t, bound(k, "team-b"))
	b.gone("team-a")
	b.kept(k)
	assert.Empty(t, bound(k, "team-a"), "a record that outlives its Namespace is nobody's")
	assert.Empty(t, bound(k, "team-b"))
	b.holds("team-a", false)
	b.kept(k)
	assert.Empty(t, bound(k, "team-a"))
	assert.Equal(t, projectA, bound(k, "team-b"))
}

func TestNothingBeginsInANamespaceThatGoes(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.label("team-a", projectA)
	b.going("team-a")
	k := b.kept(b.server())
	assert.Empty(t, bound(k, "team-a"))
	assert.Empty(t, b.said())
}

func TestAWarningIsRepeatedBeforeItsEventIsForgotten(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.label("team-a", "x")
	k := b.kept(b.server())
	assert.Len(t, b.said(), 1)
	b.clock.Step(sayAgain / 2)
	b.kept(k)
	assert.Empty(t, b.said())
	b.clock.Step(sayAgain / 2)
	b.kept(k)
	assert.Len(t, b.said(), 1)
}

func TestTwoServersGiveNoProjectTwice(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	one, other := b.kept(b.server()), b.kept(b.server())
	b.label("team-a", projectA)
	b.kept(one)
	// The other has heard of another Namespace only, and of nothing in the ledger.
	unseen := b.namespaces["team-a"]
	b.gone("team-a")
	b.label("team-b", projectA)
	_, err := other.keep(t.Context())
	require.Error(t, err)
	assert.Empty(t, bound(other, "team-b"))

	b.namespaces["team-a"] = unseen
	b.kept(other)
	assert.Equal(t, projectA, bound(other, "team-a"))
	assert.Empty(t, bound(other, "team-b"))
}

func TestAServerThatStandsByFollowsUntilItLeads(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.label("team-a", projectA)
	active := b.kept(b.server())
	standby := runCluster(t, b, true, inAPI("team-a", "1", projectB), inAPI("team-b", "2", projectC))
	assert.Equal(t, projectA, bound(standby, "team-a"), "what is in force, and not what the label says")
	assert.Empty(t, bound(standby, "team-b"))

	b.label("team-b", projectA)
	b.label("team-a", "")
	b.kept(active)
	b.said()
	require.NoError(t, standby.Lead(t.Context()))
	assert.Equal(t, projectB, bound(standby, "team-a"))
	assert.Equal(t, projectC, bound(standby, "team-b"))
	_, err := active.keep(t.Context())
	require.NoError(t, err, "it has nothing to write")
	b.label("team-a", projectC)
	_, err = active.keep(t.Context())
	require.ErrorIs(t, err, ledger.ErrConflict, "and could not")
}

// unwritable is a ledger that takes no writes.
type unwritable struct{ ledger.Ledger }

var errFull = errors.New("the disk is full")

func (unwritable) Create(context.Context, string, []byte) (string, error) { return "", errFull }
func (unwritable) Update(context.Context, string, string, []byte) (string, error) {
	return "", errFull
}

func TestWhatIsNotWrittenDownIsNotInForce(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.label("team-a", projectA)
	k := b.server()
	k.book.ledger = unwritable{b.ledger}
	_, err := k.keep(t.Context())
	require.ErrorIs(t, err, errFull)
	assert.Empty(t, bound(k, "team-a"))
	assert.False(t, k.Synced())
	assert.Empty(t, b.changes)

	k.book.ledger = b.ledger
	b.kept(k)
	assert.Equal(t, projectA, bound(k, "team-a"))

	// What ends, ends at once: nothing must be created under it.
	k.book.ledger = unwritable{b.ledger}
	b.label("team-a", projectB)
	_, err = k.keep(t.Context())
	require.ErrorIs(t, err, errFull)
	assert.Empty(t, bound(k, "team-a"))
	k.book.ledger = b.ledger
	b.kept(k)
	assert.Equal(t, projectB, bound(k, "team-a"))
	assert.Equal(t, [2][]string{{"team-a"}, {projectA, projectB}}, b.changes[1], "and then everybody is told")
}

func TestARecordThatCannotBeReadBindsNothing(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]string{
		"no JSON":       "x",
		"no namespaces": `{}`,
		"no project id": `{"namespaces":{"team-a":"x"}}`,
		"one for two":   `{"namespaces":{"team-a":"` + projectA + `","team-b":"` + projectA + `"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			b.label("team-a", projectA)
			_, err := b.ledger.Create(t.Context(), recordKey, []byte(value))
			require.NoError(t, err)
			k := b.server()
			_, err = k.keep(t.Context())
			require.ErrorContains(t, err, recordKey)
			require.ErrorContains(t, err, "repair it, or delete it")
			assert.False(t, k.Synced())
			assert.Empty(t, bound(k, "team-a"))
		})
	}
}
