package tenancy

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"
)

// lost is a bed that has records of these Namespaces in team-a, and nothing else:
// what was written down of bindings is lost.
func lost(t *testing.T, origins ...Origin) *bed {
	t.Helper()
	b := newBed(t)
	b.holds("team-a", true)
	b.origins = map[string][]Origin{"team-a": origins}
	return b
}

var first = Origin{"uid-of-team-a", projectA}

func TestOrigin_IsOfTheBindingThatIsInForce(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.label("team-a", projectA)
	b.label("plain", "")
	k := b.kept(b.server())
	origin, since := k.Origin("team-a")
	assert.Equal(t, first, origin)
	assert.Equal(t, b.namespaces["team-a"].created, since)
	for _, none := range []string{"plain", "unknown"} {
		origin, _ = k.Origin(none)
		assert.Zero(t, origin, none)
	}
	b.holds("team-a", true)
	b.gone("team-a")
	b.label("team-a", projectB)
	b.kept(k)
	origin, _ = k.Origin("team-a")
	assert.Zero(t, origin, "nothing is made under it")
}

func TestOrigin_RecordsOfAFormerNamespaceAreHiddenWithoutBindings(t *testing.T) {
	t.Parallel()
	for name, label := range map[string]string{"another project": projectB, "no project": "", "gone": "-"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := lost(t, first)
			b.ended["team-a"] = 1
			if label != "-" {
				b.label("team-a", label)
			}
			b.label("team-b", projectA)
			for range 2 {
				k := b.kept(b.server())
				assert.Contains(t, k.Hidden(), "team-a")
				assert.Empty(t, bound(k, "team-a"))
				assert.Empty(t, bound(k, "team-b"), "the project is not free")
				said := b.said()
				require.Len(t, said, 2)
				assert.Contains(t, said[0], "RecordsAbandoned: namespace team-a (uid uid-of-team-a, project "+projectA+")")
				assert.Contains(t, said[1], `has objects of the namespace "team-a", which is gone`)
			}
			b.label("team-a", projectA)
			k := b.kept(b.server())
			assert.Empty(t, k.Hidden(), "until they are taken over")
			assert.NotZero(t, k.TakenOver("team-a"))
			assert.Equal(t, projectA, bound(k, "team-a"))
		})
	}
}

func TestOrigin_RecordsOfTheNamespaceItselfKeepItsBinding(t *testing.T) {
	t.Parallel()
	for name, label := range map[string]string{"asks for the same project": projectA, "label changed": projectB, "label taken off": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := lost(t, first)
			b.label("team-a", label)
			k := b.kept(b.server())
			assert.Empty(t, k.Hidden())
			assert.Equal(t, projectA, bound(k, "team-a"))
			assert.Zero(t, k.TakenOver("team-a"))
		})
	}
}

func TestOrigin_RecordsThatSayNothingAreJudgedByTheLabel(t *testing.T) {
	t.Parallel()
	for name, origins := range map[string][]Origin{
		"nothing":       nil,
		"no uid":        {{"", projectA}},
		"no project id": {{"uid-of-another", "x"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := lost(t, origins...)
			b.label("team-a", projectB)
			k := b.kept(b.server())
			assert.Empty(t, k.Hidden())
			assert.Equal(t, projectB, bound(k, "team-a"))
			b.kept(b.server())
		})
	}
}

func TestOrigin_RecordsOfTwoNamespacesOfAProjectAreTakenOverAgain(t *testing.T) {
	t.Parallel()
	second := Origin{"uid-of-team-a-again", projectA}
	for _, origins := range [][]Origin{{first, second}, {second, first}} {
		b := lost(t, origins...)
		b.ended["team-a"] = 1
		b.label("team-a", projectA)
		k := b.kept(b.server())
		assert.Equal(t, projectA, bound(k, "team-a"))
		assert.NotZero(t, k.TakenOver("team-a"), "what was marked before keeps its metal")
		at := k.TakenOver("team-a")
		b.clock.Step(resync)
		k = b.kept(b.server())
		assert.True(t, at.Equal(k.TakenOver("team-a")), "and once only")
	}
}

func TestOrigin_RestoredRecordsBesideBindings(t *testing.T) {
	t.Parallel()
	t.Run("of the same project", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		b.label("team-a", projectA)
		k := b.kept(b.server())
		b.holds("team-a", true)
		b.origins = map[string][]Origin{"team-a": {{"uid-of-another", projectA}}}
		b.kept(k)
		assert.Equal(t, projectA, bound(k, "team-a"))
		assert.NotZero(t, k.TakenOver("team-a"))
	})
	t.Run("of another project", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		b.label("team-a", projectB)
		k := b.kept(b.server())
		b.said()
		b.holds("team-a", true)
		b.origins = map[string][]Origin{"team-a": {{"uid-of-team-a-again", projectA}, {"uid-of-team-a", projectB}}}
		b.label("team-c", projectA)
		for range 2 {
			b.kept(k)
			assert.Contains(t, k.Hidden(), "team-a")
			assert.Empty(t, bound(k, "team-a"))
			assert.Empty(t, bound(k, "team-c"), "the project is not free")
			said := b.said()
			require.NotEmpty(t, said)
			assert.Contains(t, said[0], "has objects of another project")
			b.label("team-a", projectA) // No label takes both over.
			k = b.server()
		}
		b.label("team-a", projectB)
		b.origins = map[string][]Origin{"team-a": {{"uid-of-team-a", projectB}}}
		b.kept(k)
		assert.Empty(t, k.Hidden())
		assert.Equal(t, projectB, bound(k, "team-a"))
	})
	t.Run("of a project that is bound elsewhere", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		b.label("team-b", projectA)
		b.kept(b.server())
		b.holds("team-a", true)
		b.origins = map[string][]Origin{"team-a": {first}}
		b.label("team-a", projectA)
		for range 2 {
			k := b.kept(b.server())
			assert.Contains(t, k.Hidden(), "team-a")
			assert.Equal(t, projectA, bound(k, "team-b"))
		}
	})
}

func TestOrigin_CompletesABindingWithoutAUID(t *testing.T) {
	t.Parallel()
	b := lost(t, Origin{types.UID("uid-of-another"), projectA})
	_, err := b.ledger.Create(t.Context(), recordKey, []byte(`{"namespaces":{"team-a":"`+projectA+`"}}`))
	require.NoError(t, err)
	b.label("team-a", projectB)
	k := b.kept(b.server())
	assert.Contains(t, k.Hidden(), "team-a")
}
