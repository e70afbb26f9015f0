// SPDX-License-Identifier: Apache-2.0

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

func TestBinding_FollowsTheLabel(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	e.label("plain", "")
	b := e.reconcile(e.newServer())
	assert.True(t, b.Synced())
	assert.Empty(t, projectOf(b, "plain"))
	assert.Empty(t, e.takeEvents())

	e.label("team-a", projectA)
	e.reconcile(b)
	assert.Equal(t, projectA, projectOf(b, "team-a"))
	namespace, _ := b.Namespace(projectA)
	assert.Equal(t, "team-a", namespace)
	assert.Equal(t, [][2][]string{{{"team-a"}, {projectA}}}, e.changes)
	assert.Equal(t, []string{"team-a Normal ProjectBound: bound to the project " + projectA + ", whose metal is shown here from now on"}, e.takeEvents())

	e.reconcile(b)
	assert.Len(t, e.changes, 1)
	assert.Empty(t, e.takeEvents())

	e.label("team-a", "")
	e.reconcile(b)
	assert.Empty(t, projectOf(b, "team-a"))
	assert.Len(t, e.changes, 2)
	assert.Equal(t, []string{"team-a Normal ProjectUnbound: not bound to the project " + projectA + " any more"}, e.takeEvents())
}

func TestBinding_OlderBindingWinsWhicheverNamespaceIsOlder(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	e.label("older", "")
	e.label("newer", projectA)
	b := e.reconcile(e.newServer())
	e.label("older", projectA)
	for range 2 {
		e.reconcile(b)
		assert.Equal(t, projectA, projectOf(b, "newer"))
		assert.Empty(t, projectOf(b, "older"))
		said := e.takeEvents()
		require.Len(t, said, 1)
		assert.Contains(t, said[0], "older Warning ProjectTaken: ")
		assert.Contains(t, said[0], `is bound to the namespace "newer" already`, "it is an administrator who reads Events")
		assert.NotContains(t, b.state.Load().results["older"].advice(), "newer", "and a tenant whom a refusal is for")
		b = e.newServer() // and over a restart
	}
	e.remove("newer")
	e.reconcile(b)
	assert.Equal(t, projectA, projectOf(b, "older"), "by itself, when the project is free")
}

func TestBinding_OlderNamespaceWinsWithoutABinding(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	e.label("z", projectA)
	e.label("a", projectA)
	b := e.reconcile(e.newServer())
	assert.Equal(t, projectA, projectOf(b, "z"))
	assert.Empty(t, projectOf(b, "a"))
}

func TestBinding_TwoNamespacesCanSwapProjects(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	e.label("team-a", projectA)
	e.label("team-b", projectB)
	b := e.reconcile(e.newServer())
	e.label("team-a", projectB)
	e.label("team-b", projectA)
	e.reconcile(b)
	assert.Equal(t, projectB, projectOf(b, "team-a"))
	assert.Equal(t, projectA, projectOf(b, "team-b"))
}

func TestBinding_InvalidProjectIDIsRefused(t *testing.T) {
	t.Parallel()
	for _, wrong := range []string{"team-a", "10000000-0000-4000-8000-00000000000A", "{" + projectA + "}", strings.ReplaceAll(projectA, "-", "")} {
		e := newEnvironment(t)
		e.label("team-a", wrong)
		b := e.reconcile(e.newServer())
		assert.Empty(t, projectOf(b, "team-a"), wrong)
		said := e.takeEvents()
		require.Len(t, said, 1)
		assert.Contains(t, said[0], "team-a Warning ProjectIDInvalid: ")
		assert.Contains(t, said[0], wrong)
		assert.Contains(t, said[0], "a UUID in lower case")
	}
	e := newEnvironment(t)
	e.label("team-a", "")
	e.namespaces["team-a"] = namespace{name: "team-a", uid: "uid-of-team-a", labeled: true}
	e.reconcile(e.newServer())
	assert.Len(t, e.takeEvents(), 1, "an empty label is one, too")
}

func TestBinding_StaysWhileTheNamespaceHasRecords(t *testing.T) {
	t.Parallel()
	for name, label := range map[string]string{"the label is changed": projectB, "the label is removed": "", "the label is spoilt": "x"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnvironment(t)
			e.label("team-a", projectA)
			b := e.reconcile(e.newServer())
			e.takeEvents()
			e.setHasRecords("team-a", true)
			e.label("team-a", label)
			e.label("team-b", projectA)
			for range 2 {
				again, err := b.reconcile(t.Context())
				require.NoError(t, err)
				assert.Equal(t, pendingInterval, again)
				assert.Equal(t, projectA, projectOf(b, "team-a"))
				assert.Empty(t, projectOf(b, "team-b"), "the project is not free")
				said := e.takeEvents()
				require.Len(t, said, 2)
				assert.Contains(t, said[0], "team-a Warning ProjectStillBound: the project "+projectA+" stays bound")
				assert.Contains(t, said[0], "kubectl label --overwrite namespace team-a")
				assert.Contains(t, said[1], "team-b Warning ProjectTaken")
				b = e.newServer() // also over a restart, which knows the label only as it is now
			}
			e.setHasRecords("team-a", false)
			e.reconcile(b)
			if label != projectB {
				label = ""
			}
			assert.Equal(t, label, projectOf(b, "team-a"), "by itself, with the last record")
			assert.Equal(t, projectA, projectOf(b, "team-b"))
		})
	}
}

func TestBinding_RestoredLabelChangesNothing(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	e.label("team-a", projectA)
	b := e.reconcile(e.newServer())
	e.setHasRecords("team-a", true)
	e.label("team-a", projectB)
	e.reconcile(b)
	e.label("team-a", projectA)
	again, err := b.reconcile(t.Context())
	require.NoError(t, err)
	assert.Equal(t, resyncInterval, again)
	assert.Equal(t, projectA, projectOf(b, "team-a"))
	assert.Len(t, e.changes, 1, "nothing has changed in effect")
}

func TestBinding_TerminatingNamespaceKeepsItsProjectAndShowsNoMetal(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	e.label("team-a", projectA)
	b := e.reconcile(e.newServer())
	e.setHasRecords("team-a", true)
	e.startDeletion("team-a")
	e.reconcile(b)
	assert.Equal(t, projectA, projectOf(b, "team-a"), "what it holds is released from the project")
	_, shown := b.Namespace(projectA)
	assert.False(t, shown)
	assert.Equal(t, [2][]string{nil, {projectA}}, e.changes[1])

	e.label("team-b", projectA)
	e.reconcile(b)
	assert.Empty(t, projectOf(b, "team-b"))
	e.remove("team-a")
	e.reconcile(b)
	assert.Empty(t, projectOf(b, "team-a"), "a record that outlives its Namespace is no Namespace's")
	assert.Empty(t, projectOf(b, "team-b"))
	e.setHasRecords("team-a", false)
	e.reconcile(b)
	assert.Empty(t, projectOf(b, "team-a"))
	assert.Equal(t, projectA, projectOf(b, "team-b"))
}

func TestBinding_TerminatingNamespaceIsNotBound(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	e.label("team-a", projectA)
	e.startDeletion("team-a")
	b := e.reconcile(e.newServer())
	assert.Empty(t, projectOf(b, "team-a"))
	assert.Empty(t, e.takeEvents())
}

func TestEvents_WarningIsRepeatedBeforeItExpires(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	e.label("team-a", "x")
	b := e.reconcile(e.newServer())
	assert.Len(t, e.takeEvents(), 1)
	e.clock.Step(eventRepeatInterval / 2)
	e.reconcile(b)
	assert.Empty(t, e.takeEvents())
	e.clock.Step(eventRepeatInterval / 2)
	e.reconcile(b)
	assert.Len(t, e.takeEvents(), 1)
}

func TestBinding_TwoServersAssignNoProjectTwice(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	one, other := e.reconcile(e.newServer()), e.reconcile(e.newServer())
	e.label("team-a", projectA)
	e.reconcile(one)
	// The other has heard of another Namespace only, and of nothing in the ledger.
	unseen := e.namespaces["team-a"]
	e.remove("team-a")
	e.label("team-b", projectA)
	_, err := other.reconcile(t.Context())
	require.Error(t, err)
	assert.Empty(t, projectOf(other, "team-b"))

	e.namespaces["team-a"] = unseen
	e.reconcile(other)
	assert.Equal(t, projectA, projectOf(other, "team-a"))
	assert.Empty(t, projectOf(other, "team-b"))
}

func TestActivate_StandbyFollowsUntilItIsActive(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	e.label("team-a", projectA)
	active := e.reconcile(e.newServer())
	standby := startReplica(t, e, true, namespaceObject("team-a", "1", projectB), namespaceObject("team-b", "2", projectC))
	assert.Equal(t, projectA, projectOf(standby, "team-a"), "what is in force, and not what the label says")
	assert.Empty(t, projectOf(standby, "team-b"))

	e.label("team-b", projectA)
	e.label("team-a", "")
	e.reconcile(active)
	e.takeEvents()
	require.NoError(t, standby.Activate(t.Context()))
	assert.Equal(t, projectB, projectOf(standby, "team-a"))
	assert.Equal(t, projectC, projectOf(standby, "team-b"))
	_, err := active.reconcile(t.Context())
	require.NoError(t, err, "it has nothing to write")
	e.label("team-a", projectC)
	_, err = active.reconcile(t.Context())
	require.ErrorIs(t, err, ledger.ErrConflict, "and could not")
}

// readOnlyLedger is a ledger that takes no writes.
type readOnlyLedger struct{ ledger.Ledger }

var errFull = errors.New("the disk is full")

func (readOnlyLedger) Create(context.Context, string, []byte) (string, error) { return "", errFull }
func (readOnlyLedger) Update(context.Context, string, string, []byte) (string, error) {
	return "", errFull
}

func TestBindingStore_UnsavedBindingIsNotInForce(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	e.label("team-a", projectA)
	b := e.newServer()
	b.store.ledger = readOnlyLedger{e.ledger}
	_, err := b.reconcile(t.Context())
	require.ErrorIs(t, err, errFull)
	assert.Empty(t, projectOf(b, "team-a"))
	assert.False(t, b.Synced())
	assert.Empty(t, e.changes)

	b.store.ledger = e.ledger
	e.reconcile(b)
	assert.Equal(t, projectA, projectOf(b, "team-a"))

	// What ends, ends at once: nothing must be created under it.
	b.store.ledger = readOnlyLedger{e.ledger}
	e.label("team-a", projectB)
	_, err = b.reconcile(t.Context())
	require.ErrorIs(t, err, errFull)
	assert.Empty(t, projectOf(b, "team-a"))
	b.store.ledger = e.ledger
	e.reconcile(b)
	assert.Equal(t, projectB, projectOf(b, "team-a"))
	assert.Equal(t, [2][]string{{"team-a"}, {projectA, projectB}}, e.changes[1], "and then OnChange is called for all")
}

func TestBindingStore_UnreadableRecordBindsNothing(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]string{
		"no JSON":       "x",
		"no namespaces": `{}`,
		"no project id": `{"namespaces":{"team-a":"x"}}`,
		"one for two":   `{"namespaces":{"team-a":"` + projectA + `","team-b":"` + projectA + `"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnvironment(t)
			e.label("team-a", projectA)
			_, err := e.ledger.Create(t.Context(), recordKey, []byte(value))
			require.NoError(t, err)
			b := e.newServer()
			_, err = b.reconcile(t.Context())
			require.ErrorContains(t, err, recordKey)
			require.ErrorContains(t, err, "repair it, or delete it")
			assert.False(t, b.Synced())
			assert.Empty(t, projectOf(b, "team-a"))
		})
	}
}
