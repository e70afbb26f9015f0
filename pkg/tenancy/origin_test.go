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
	e := newEnvironment(t)
	e.setHasRecords("team-a", true)
	e.origins = map[string][]Origin{"team-a": origins}
	return e
}

var firstOrigin = Origin{"uid-of-team-a", projectA}

func TestOrigin_IsOfTheBindingThatIsInForce(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	e.label("team-a", projectA)
	e.label("plain", "")
	b := e.reconcile(e.newServer())
	origin, since := b.Origin("team-a")
	assert.Equal(t, firstOrigin, origin)
	assert.Equal(t, e.namespaces["team-a"].created, since)
	for _, none := range []string{"plain", "unknown"} {
		origin, _ = b.Origin(none)
		assert.Zero(t, origin, none)
	}
	e.setHasRecords("team-a", true)
	e.remove("team-a")
	e.label("team-a", projectB)
	e.reconcile(b)
	origin, _ = b.Origin("team-a")
	assert.Zero(t, origin, "nothing is made under it")
}

func TestOrigin_RecordsOfAFormerNamespaceAreHiddenWithoutBindings(t *testing.T) {
	t.Parallel()
	for name, label := range map[string]string{"another project": projectB, "no project": "", "gone": "-"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := withLostBindings(t, firstOrigin)
			e.removed["team-a"] = 1
			if label != "-" {
				e.label("team-a", label)
			}
			e.label("team-b", projectA)
			for range 2 {
				b := e.reconcile(e.newServer())
				assert.Contains(t, b.Hidden(), "team-a")
				assert.Empty(t, projectOf(b, "team-a"))
				assert.Empty(t, projectOf(b, "team-b"), "the project is not free")
				said := e.takeEvents()
				require.Len(t, said, 2)
				assert.Contains(t, said[0], "RecordsAbandoned: namespace team-a (uid uid-of-team-a, project "+projectA+")")
				assert.Contains(t, said[1], `has objects of the namespace "team-a", which was deleted`)
			}
			e.label("team-a", projectA)
			b := e.reconcile(e.newServer())
			assert.Empty(t, b.Hidden(), "until they are taken over")
			assert.NotZero(t, b.TakenOver("team-a"))
			assert.Equal(t, projectA, projectOf(b, "team-a"))
		})
	}
}

func TestOrigin_RecordsOfTheNamespaceItselfKeepItsBinding(t *testing.T) {
	t.Parallel()
	for name, label := range map[string]string{"asks for the same project": projectA, "label changed": projectB, "label taken off": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := withLostBindings(t, firstOrigin)
			e.label("team-a", label)
			b := e.reconcile(e.newServer())
			assert.Empty(t, b.Hidden())
			assert.Equal(t, projectA, projectOf(b, "team-a"))
			assert.Zero(t, b.TakenOver("team-a"))
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
			e := withLostBindings(t, origins...)
			e.label("team-a", projectB)
			b := e.reconcile(e.newServer())
			assert.Empty(t, b.Hidden())
			assert.Equal(t, projectB, projectOf(b, "team-a"))
			e.reconcile(e.newServer())
		})
	}
}

func TestOrigin_RecordsOfTwoNamespacesOfAProjectAreTakenOverAgain(t *testing.T) {
	t.Parallel()
	second := Origin{"uid-of-team-a-again", projectA}
	for _, origins := range [][]Origin{{firstOrigin, second}, {second, firstOrigin}} {
		e := withLostBindings(t, origins...)
		e.removed["team-a"] = 1
		e.label("team-a", projectA)
		b := e.reconcile(e.newServer())
		assert.Equal(t, projectA, projectOf(b, "team-a"))
		assert.NotZero(t, b.TakenOver("team-a"), "what was marked before keeps its metal")
		at := b.TakenOver("team-a")
		e.clock.Step(resyncInterval)
		b = e.reconcile(e.newServer())
		assert.True(t, at.Equal(b.TakenOver("team-a")), "and once only")
	}
}

func TestOrigin_RestoredRecordsBesideBindings(t *testing.T) {
	t.Parallel()
	t.Run("of the same project", func(t *testing.T) {
		t.Parallel()
		e := newEnvironment(t)
		e.label("team-a", projectA)
		b := e.reconcile(e.newServer())
		e.setHasRecords("team-a", true)
		e.origins = map[string][]Origin{"team-a": {{"uid-of-another", projectA}}}
		e.reconcile(b)
		assert.Equal(t, projectA, projectOf(b, "team-a"))
		assert.NotZero(t, b.TakenOver("team-a"))
	})
	t.Run("of another project", func(t *testing.T) {
		t.Parallel()
		e := newEnvironment(t)
		e.label("team-a", projectB)
		b := e.reconcile(e.newServer())
		e.takeEvents()
		e.setHasRecords("team-a", true)
		e.origins = map[string][]Origin{"team-a": {{"uid-of-team-a-again", projectA}, {"uid-of-team-a", projectB}}}
		e.label("team-c", projectA)
		for range 2 {
			e.reconcile(b)
			assert.Contains(t, b.Hidden(), "team-a")
			assert.Empty(t, projectOf(b, "team-a"))
			assert.Empty(t, projectOf(b, "team-c"), "the project is not free")
			said := e.takeEvents()
			require.NotEmpty(t, said)
			assert.Contains(t, said[0], "has objects of another project")
			e.label("team-a", projectA) // No label takes both over.
			b = e.newServer()
		}
		e.label("team-a", projectB)
		e.origins = map[string][]Origin{"team-a": {{"uid-of-team-a", projectB}}}
		e.reconcile(b)
		assert.Empty(t, b.Hidden())
		assert.Equal(t, projectB, projectOf(b, "team-a"))
	})
	t.Run("of a project that is bound elsewhere", func(t *testing.T) {
		t.Parallel()
		e := newEnvironment(t)
		e.label("team-b", projectA)
		e.reconcile(e.newServer())
		e.setHasRecords("team-a", true)
		e.origins = map[string][]Origin{"team-a": {firstOrigin}}
		e.label("team-a", projectA)
		for range 2 {
			b := e.reconcile(e.newServer())
			assert.Contains(t, b.Hidden(), "team-a")
			assert.Equal(t, projectA, projectOf(b, "team-b"))
		}
	})
}

func TestOrigin_CompletesABindingWithoutAUID(t *testing.T) {
	t.Parallel()
	e := withLostBindings(t, Origin{types.UID("uid-of-another"), projectA})
	_, err := e.ledger.Create(t.Context(), recordKey, []byte(`{"namespaces":{"team-a":"`+projectA+`"}}`))
	require.NoError(t, err)
	e.label("team-a", projectB)
	b := e.reconcile(e.newServer())
	assert.Contains(t, b.Hidden(), "team-a")
}
