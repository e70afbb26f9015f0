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
	b := newEnvironment(t)
	b.label("plain", "")
	k := b.reconcile(b.newServer())
	assert.True(t, k.Synced())
	assert.Empty(t, projectOf(k, "plain"))
	assert.Empty(t, b.takeEvents())

	b.label("team-a", projectA)
	b.reconcile(k)
	assert.Equal(t, projectA, projectOf(k, "team-a"))
	namespace, _ := k.Namespace(projectA)
	assert.Equal(t, "team-a", namespace)
	assert.Equal(t, [][2][]string{{{"team-a"}, {projectA}}}, b.changes)
	assert.Equal(t, []string{"team-a Normal ProjectBound: bound to the project " + projectA + ", whose metal is shown here from now on"}, b.takeEvents())

	b.reconcile(k)
	assert.Len(t, b.changes, 1)
	assert.Empty(t, b.takeEvents())

	b.label("team-a", "")
	b.reconcile(k)
	assert.Empty(t, projectOf(k, "team-a"))
	assert.Len(t, b.changes, 2)
	assert.Equal(t, []string{"team-a Normal ProjectUnbound: not bound to the project " + projectA + " any more"}, b.takeEvents())
}

func TestBinding_OlderBindingWinsWhicheverNamespaceIsOlder(t *testing.T) {
	t.Parallel()
	b := newEnvironment(t)
	b.label("older", "")
	b.label("newer", projectA)
	k := b.reconcile(b.newServer())
	b.label("older", projectA)
	for range 2 {
		b.reconcile(k)
		assert.Equal(t, projectA, projectOf(k, "newer"))
		assert.Empty(t, projectOf(k, "older"))
		said := b.takeEvents()
		require.Len(t, said, 1)
		assert.Contains(t, said[0], "older Warning ProjectTaken: ")
		assert.Contains(t, said[0], `is bound to the namespace "newer" already`, "it is an administrator who reads Events")
		assert.NotContains(t, k.state.Load().results["older"].advice(), "newer", "and a tenant whom a refusal is for")
		k = b.newServer() // and over a restart
	}
	b.remove("newer")
	b.reconcile(k)
	assert.Equal(t, projectA, projectOf(k, "older"), "by itself, when the project is free")
}

func TestBinding_OlderNamespaceWinsWithoutABinding(t *testing.T) {
	t.Parallel()
	b := newEnvironment(t)
	b.label("z", projectA)
	b.label("a", projectA)
	k := b.reconcile(b.newServer())
	assert.Equal(t, projectA, projectOf(k, "z"))
	assert.Empty(t, projectOf(k, "a"))
}

func TestBinding_TwoNamespacesCanSwapProjects(t *testing.T) {
	t.Parallel()
	b := newEnvironment(t)
	b.label("team-a", projectA)
	b.label("team-b", projectB)
	k := b.reconcile(b.newServer())
	b.label("team-a", projectB)
	b.label("team-b", projectA)
	b.reconcile(k)
	assert.Equal(t, projectB, projectOf(k, "team-a"))
	assert.Equal(t, projectA, projectOf(k, "team-b"))
}

func TestBinding_InvalidProjectIDIsRefused(t *testing.T) {
	t.Parallel()
	for _, wrong := range []string{"team-a", "10000000-0000-4000-8000-00000000000A", "{" + projectA + "}", strings.ReplaceAll(projectA, "-", "")} {
		b := newEnvironment(t)
		b.label("team-a", wrong)
		k := b.reconcile(b.newServer())
		assert.Empty(t, projectOf(k, "team-a"), wrong)
		said := b.takeEvents()
		require.Len(t, said, 1)
		assert.Contains(t, said[0], "team-a Warning ProjectIDInvalid: ")
		assert.Contains(t, said[0], wrong)
		assert.Contains(t, said[0], "a UUID in lower case")
	}
	b := newEnvironment(t)
	b.label("team-a", "")
	b.namespaces["team-a"] = namespace{name: "team-a", uid: "uid-of-team-a", labeled: true}
	b.reconcile(b.newServer())
	assert.Len(t, b.takeEvents(), 1, "an empty label is one, too")
}

func TestBinding_StaysWhileTheNamespaceHasRecords(t *testing.T) {
	t.Parallel()
	for name, label := range map[string]string{"the label is changed": projectB, "the label is removed": "", "the label is spoilt": "x"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newEnvironment(t)
			b.label("team-a", projectA)
			k := b.reconcile(b.newServer())
			b.takeEvents()
			b.setHasRecords("team-a", true)
			b.label("team-a", label)
			b.label("team-b", projectA)
			for range 2 {
				again, err := k.reconcile(t.Context())
				require.NoError(t, err)
				assert.Equal(t, pendingInterval, again)
				assert.Equal(t, projectA, projectOf(k, "team-a"))
				assert.Empty(t, projectOf(k, "team-b"), "the project is not free")
				said := b.takeEvents()
				require.Len(t, said, 2)
				assert.Contains(t, said[0], "team-a Warning ProjectStillBound: the project "+projectA+" stays bound")
				assert.Contains(t, said[0], "kubectl label --overwrite namespace team-a")
				assert.Contains(t, said[1], "team-b Warning ProjectTaken")
				k = b.newServer() // also over a restart, which knows the label only as it is now
			}
			b.setHasRecords("team-a", false)
			b.reconcile(k)
			if label != projectB {
				label = ""
			}
			assert.Equal(t, label, projectOf(k, "team-a"), "by itself, with the last record")
			assert.Equal(t, projectA, projectOf(k, "team-b"))
		})
	}
}

func TestBinding_RestoredLabelChangesNothing(t *testing.T) {
	t.Parallel()
	b := newEnvironment(t)
	b.label("team-a", projectA)
	k := b.reconcile(b.newServer())
	b.setHasRecords("team-a", true)
	b.label("team-a", projectB)
	b.reconcile(k)
	b.label("team-a", projectA)
	again, err := k.reconcile(t.Context())
	require.NoError(t, err)
	assert.Equal(t, resyncInterval, again)
	assert.Equal(t, projectA, projectOf(k, "team-a"))
	assert.Len(t, b.changes, 1, "nothing has changed in effect")
}

func TestBinding_TerminatingNamespaceKeepsItsProjectAndShowsNoMetal(t *testing.T) {
	t.Parallel()
	b := newEnvironment(t)
	b.label("team-a", projectA)
	k := b.reconcile(b.newServer())
	b.setHasRecords("team-a", true)
	b.startDeletion("team-a")
	b.reconcile(k)
	assert.Equal(t, projectA, projectOf(k, "team-a"), "what it holds is released from the project")
	_, shown := k.Namespace(projectA)
	assert.False(t, shown)
	assert.Equal(t, [2][]string{nil, {projectA}}, b.changes[1])

	b.label("team-b", projectA)
	b.reconcile(k)
	assert.Empty(t, projectOf(k, "team-b"))
	b.remove("team-a")
	b.reconcile(k)
	assert.Empty(t, projectOf(k, "team-a"), "a record that outlives its Namespace is no Namespace's")
	assert.Empty(t, projectOf(k, "team-b"))
	b.setHasRecords("team-a", false)
	b.reconcile(k)
	assert.Empty(t, projectOf(k, "team-a"))
	assert.Equal(t, projectA, projectOf(k, "team-b"))
}

func TestBinding_TerminatingNamespaceIsNotBound(t *testing.T) {
	t.Parallel()
	b := newEnvironment(t)
	b.label("team-a", projectA)
	b.startDeletion("team-a")
	k := b.reconcile(b.newServer())
	assert.Empty(t, projectOf(k, "team-a"))
	assert.Empty(t, b.takeEvents())
}

func TestEvents_WarningIsRepeatedBeforeItExpires(t *testing.T) {
	t.Parallel()
	b := newEnvironment(t)
	b.label("team-a", "x")
	k := b.reconcile(b.newServer())
	assert.Len(t, b.takeEvents(), 1)
	b.clock.Step(eventRepeatInterval / 2)
	b.reconcile(k)
	assert.Empty(t, b.takeEvents())
	b.clock.Step(eventRepeatInterval / 2)
	b.reconcile(k)
	assert.Len(t, b.takeEvents(), 1)
}

func TestBinding_TwoServersAssignNoProjectTwice(t *testing.T) {
	t.Parallel()
	b := newEnvironment(t)
	one, other := b.reconcile(b.newServer()), b.reconcile(b.newServer())
	b.label("team-a", projectA)
	b.reconcile(one)
	// The other has heard of another Namespace only, and of nothing in the ledger.
	unseen := b.namespaces["team-a"]
	b.remove("team-a")
	b.label("team-b", projectA)
	_, err := other.reconcile(t.Context())
	require.Error(t, err)
	assert.Empty(t, projectOf(other, "team-b"))

	b.namespaces["team-a"] = unseen
	b.reconcile(other)
	assert.Equal(t, projectA, projectOf(other, "team-a"))
	assert.Empty(t, projectOf(other, "team-b"))
}

func TestActivate_StandbyFollowsUntilItIsActive(t *testing.T) {
	t.Parallel()
	b := newEnvironment(t)
	b.label("team-a", projectA)
	active := b.reconcile(b.newServer())
	standby := startReplica(t, b, true, namespaceObject("team-a", "1", projectB), namespaceObject("team-b", "2", projectC))
	assert.Equal(t, projectA, projectOf(standby, "team-a"), "what is in force, and not what the label says")
	assert.Empty(t, projectOf(standby, "team-b"))

	b.label("team-b", projectA)
	b.label("team-a", "")
	b.reconcile(active)
	b.takeEvents()
	require.NoError(t, standby.Activate(t.Context()))
	assert.Equal(t, projectB, projectOf(standby, "team-a"))
	assert.Equal(t, projectC, projectOf(standby, "team-b"))
	_, err := active.reconcile(t.Context())
	require.NoError(t, err, "it has nothing to write")
	b.label("team-a", projectC)
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
	b := newEnvironment(t)
	b.label("team-a", projectA)
	k := b.newServer()
	k.store.ledger = readOnlyLedger{b.ledger}
	_, err := k.reconcile(t.Context())
	require.ErrorIs(t, err, errFull)
	assert.Empty(t, projectOf(k, "team-a"))
	assert.False(t, k.Synced())
	assert.Empty(t, b.changes)

	k.store.ledger = b.ledger
	b.reconcile(k)
	assert.Equal(t, projectA, projectOf(k, "team-a"))

	// What ends, ends at once: nothing must be created under it.
	k.store.ledger = readOnlyLedger{b.ledger}
	b.label("team-a", projectB)
	_, err = k.reconcile(t.Context())
	require.ErrorIs(t, err, errFull)
	assert.Empty(t, projectOf(k, "team-a"))
	k.store.ledger = b.ledger
	b.reconcile(k)
	assert.Equal(t, projectB, projectOf(k, "team-a"))
	assert.Equal(t, [2][]string{{"team-a"}, {projectA, projectB}}, b.changes[1], "and then OnChange is called for all")
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
			b := newEnvironment(t)
			b.label("team-a", projectA)
			_, err := b.ledger.Create(t.Context(), recordKey, []byte(value))
			require.NoError(t, err)
			k := b.newServer()
			_, err = k.reconcile(t.Context())
			require.ErrorContains(t, err, recordKey)
			require.ErrorContains(t, err, "repair it, or delete it")
			assert.False(t, k.Synced())
			assert.Empty(t, projectOf(k, "team-a"))
		})
	}
}
