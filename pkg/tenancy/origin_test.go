// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"
)

// withLostBindings is a bed that has records of these Namespaces in team-a, and nothing else:
// what was written down of bindings is lost.
func withLostBindings(t *testing.T, origins ...Origin) *environment {
	t.Helper()
	b := newEnvironment(t)
	b.setHasRecords("team-a", true)
	b.origins = map[string][]Origin{"team-a": origins}
	return b
}

var firstOrigin = Origin{"uid-of-team-a", projectA}

func TestOrigin_IsOfTheBindingThatIsInForce(t *testing.T) {
	t.Parallel()
	b := newEnvironment(t)
	b.label("team-a", projectA)
	b.label("plain", "")
	k := b.reconcile(b.newServer())
	origin, since := k.Origin("team-a")
	assert.Equal(t, firstOrigin, origin)
	assert.Equal(t, b.namespaces["team-a"].created, since)
	for _, none := range []string{"plain", "unknown"} {
		origin, _ = k.Origin(none)
		assert.Zero(t, origin, none)
	}
	b.setHasRecords("team-a", true)
	b.remove("team-a")
	b.label("team-a", projectB)
	b.reconcile(k)
	origin, _ = k.Origin("team-a")
	assert.Zero(t, origin, "nothing is made under it")
}

func TestOrigin_RecordsOfAFormerNamespaceAreHiddenWithoutBindings(t *testing.T) {
	t.Parallel()
	for name, label := range map[string]string{"another project": projectB, "no project": "", "gone": "-"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := withLostBindings(t, firstOrigin)
			b.removed["team-a"] = 1
			if label != "-" {
				b.label("team-a", label)
			}
			b.label("team-b", projectA)
			for range 2 {
				k := b.reconcile(b.newServer())
				assert.Contains(t, k.Hidden(), "team-a")
				assert.Empty(t, projectOf(k, "team-a"))
				assert.Empty(t, projectOf(k, "team-b"), "the project is not free")
				said := b.takeEvents()
				require.Len(t, said, 2)
				assert.Contains(t, said[0], "RecordsAbandoned: namespace team-a (uid uid-of-team-a, project "+projectA+")")
				assert.Contains(t, said[1], `has objects of the namespace "team-a", which was deleted`)
			}
			b.label("team-a", projectA)
			k := b.reconcile(b.newServer())
			assert.Empty(t, k.Hidden(), "until they are taken over")
			assert.NotZero(t, k.TakenOver("team-a"))
			assert.Equal(t, projectA, projectOf(k, "team-a"))
		})
	}
}

func TestOrigin_RecordsOfTheNamespaceItselfKeepItsBinding(t *testing.T) {
	t.Parallel()
	for name, label := range map[string]string{"asks for the same project": projectA, "label changed": projectB, "label taken off": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := withLostBindings(t, firstOrigin)
			b.label("team-a", label)
			k := b.reconcile(b.newServer())
			assert.Empty(t, k.Hidden())
			assert.Equal(t, projectA, projectOf(k, "team-a"))
			assert.Zero(t, k.TakenOver("team-a"))
		})
	}
}

func TestOrigin_RecordsWithoutOriginAreBoundByTheLabel(t *testing.T) {
	t.Parallel()
	for name, origins := range map[string][]Origin{
		"nothing":       nil,
		"no uid":        {{"", projectA}},
		"no project id": {{"uid-of-another", "x"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := withLostBindings(t, origins...)
			b.label("team-a", projectB)
			k := b.reconcile(b.newServer())
			assert.Empty(t, k.Hidden())
			assert.Equal(t, projectB, projectOf(k, "team-a"))
			b.reconcile(b.newServer())
		})
	}
}

func TestOrigin_RecordsOfTwoNamespacesOfAProjectAreTakenOverAgain(t *testing.T) {
	t.Parallel()
	second := Origin{"uid-of-team-a-again", projectA}
	for _, origins := range [][]Origin{{firstOrigin, second}, {second, firstOrigin}} {
		b := withLostBindings(t, origins...)
		b.removed["team-a"] = 1
		b.label("team-a", projectA)
		k := b.reconcile(b.newServer())
		assert.Equal(t, projectA, projectOf(k, "team-a"))
		assert.NotZero(t, k.TakenOver("team-a"), "what was marked before keeps its metal")
		at := k.TakenOver("team-a")
		b.clock.Step(resyncInterval)
		k = b.reconcile(b.newServer())
		assert.True(t, at.Equal(k.TakenOver("team-a")), "and once only")
	}
}

func TestOrigin_RestoredRecordsBesideBindings(t *testing.T) {
	t.Parallel()
	t.Run("of the same project", func(t *testing.T) {
		t.Parallel()
		b := newEnvironment(t)
		b.label("team-a", projectA)
		k := b.reconcile(b.newServer())
		b.setHasRecords("team-a", true)
		b.origins = map[string][]Origin{"team-a": {{"uid-of-another", projectA}}}
		b.reconcile(k)
		assert.Equal(t, projectA, projectOf(k, "team-a"))
		assert.NotZero(t, k.TakenOver("team-a"))
	})
	t.Run("of another project", func(t *testing.T) {
		t.Parallel()
		b := newEnvironment(t)
		b.label("team-a", projectB)
		k := b.reconcile(b.newServer())
		b.takeEvents()
		b.setHasRecords("team-a", true)
		b.origins = map[string][]Origin{"team-a": {{"uid-of-team-a-again", projectA}, {"uid-of-team-a", projectB}}}
		b.label("team-c", projectA)
		for range 2 {
			b.reconcile(k)
			assert.Contains(t, k.Hidden(), "team-a")
			assert.Empty(t, projectOf(k, "team-a"))
			assert.Empty(t, projectOf(k, "team-c"), "the project is not free")
			said := b.takeEvents()
			require.NotEmpty(t, said)
			assert.Contains(t, said[0], "has objects of another project")
			b.label("team-a", projectA) // No label takes both over.
			k = b.newServer()
		}
		b.label("team-a", projectB)
		b.origins = map[string][]Origin{"team-a": {{"uid-of-team-a", projectB}}}
		b.reconcile(k)
		assert.Empty(t, k.Hidden())
		assert.Equal(t, projectB, projectOf(k, "team-a"))
	})
	t.Run("of a project that is bound elsewhere", func(t *testing.T) {
		t.Parallel()
		b := newEnvironment(t)
		b.label("team-b", projectA)
		b.reconcile(b.newServer())
		b.setHasRecords("team-a", true)
		b.origins = map[string][]Origin{"team-a": {firstOrigin}}
		b.label("team-a", projectA)
		for range 2 {
			k := b.reconcile(b.newServer())
			assert.Contains(t, k.Hidden(), "team-a")
			assert.Equal(t, projectA, projectOf(k, "team-b"))
		}
	})
}

func TestOrigin_CompletesABindingWithoutAUID(t *testing.T) {
	t.Parallel()
	b := withLostBindings(t, Origin{types.UID("uid-of-another"), projectA})
	_, err := b.ledger.Create(t.Context(), recordKey, []byte(`{"namespaces":{"team-a":"`+projectA+`"}}`))
	require.NoError(t, err)
	b.label("team-a", projectB)
	k := b.reconcile(b.newServer())
	assert.Contains(t, k.Hidden(), "team-a")
}
