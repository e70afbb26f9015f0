package tenancy

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// A server that has just become the active one may have a watch that is behind.
func TestConfirm_WatchThatIsBehindHidesNothing(t *testing.T) {
	t.Parallel()
	for name, former := range map[string]string{"shows no Namespace yet": "", "shows the former Namespace": projectB} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			if former != "" {
				b.label("team-a", former)
				b.stall()
				b.gone("team-a")
			} else {
				b.stall()
			}
			b.label("team-a", projectA)
			ahead := b.behind
			b.goOn()
			b.kept(b.server())
			b.holds("team-a", true)
			b.said()

			b.behind = ahead
			k := b.server()
			for range 3 {
				_, err := k.keep(t.Context())
				require.ErrorContains(t, err, "the watch of Namespaces is behind")
				assert.Empty(t, k.Hidden())
				assert.False(t, k.Synced(), "it does not lead on what is doubtful")
			}
			assert.Empty(t, b.said())
			b.goOn()
			b.kept(k)
			assert.Empty(t, k.Hidden())
			assert.Equal(t, projectA, bound(k, "team-a"))
			assert.Zero(t, k.TakenOver("team-a"))
		})
	}
}

func TestConfirm_WatchThatIsBehindTakesNothingOver(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(b *bed){
		"replaced again":  func(b *bed) { b.gone("team-a"); b.label("team-a", projectB) },
		"gone again":      func(b *bed) { b.gone("team-a") },
		"label changed":   func(b *bed) { b.label("team-a", projectB) },
		"being deleted":   func(b *bed) { b.going("team-a") },
		"label taken off": func(b *bed) { b.label("team-a", "") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, k := leaveRecords(t)
			b.label("team-a", projectA)
			b.stall()
			change(b)
			_, err := k.keep(t.Context())
			require.ErrorContains(t, err, "the watch of Namespaces is behind")
			assert.Zero(t, k.TakenOver("team-a"))
			assert.Empty(t, b.said())
			b.goOn()
			b.kept(k)
			assert.Zero(t, k.TakenOver("team-a"))
			assert.Contains(t, k.Hidden(), "team-a")
		})
	}
}

func TestConfirm_LookThatFailsLeavesEverythingAsItWas(t *testing.T) {
	t.Parallel()
	for name, cause := range map[string]error{
		"no answer":  context.DeadlineExceeded,
		"forbidden":  apierrors.NewForbidden(resource.GroupResource(), "team-a", errors.New("no")),
		"overloaded": apierrors.NewTooManyRequestsError("later"),
	} {
		for again, label := range map[string]string{"gone": "", "made anew with the same project": projectA, "made anew with another": projectB} {
			t.Run(name+", "+again, func(t *testing.T) {
				t.Parallel()
				b, k := leaveRecords(t)
				if label != "" {
					b.label("team-a", label)
				}
				b.fail(cause)
				for range 2 {
					_, err := k.keep(t.Context())
					require.ErrorIs(t, err, cause)
					require.ErrorContains(t, err, `"team-a"`)
					assert.Empty(t, k.Hidden())
					assert.Equal(t, projectA, bound(k, "team-a"))
					assert.Zero(t, k.TakenOver("team-a"))
				}
				assert.Empty(t, b.said())
				assert.Equal(t, 2, b.looked(), "one look a round")
				b.fail(nil)
				b.kept(k)
				assert.Equal(t, label == projectA, len(k.Hidden()) == 0)
				assert.Equal(t, label == projectA, !k.TakenOver("team-a").IsZero())
			})
		}
	}
}

func TestConfirm_LooksOnceForAVerdict(t *testing.T) {
	t.Parallel()
	b, k := leaveRecords(t)
	b.kept(k)
	assert.Equal(t, 1, b.looked())
	b.fail(context.DeadlineExceeded)
	b.kept(k)
	b.label("team-a", projectB)
	b.kept(k)
	assert.Contains(t, k.Hidden(), "team-a", "the former Namespace is gone for good, whoever comes")
	assert.Zero(t, b.looked())
}

func TestConfirm_LooksAtSoManyInARound(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	const count = confirmAtATime + confirmAtATime/2
	name := func(i int) string { return fmt.Sprintf("team-%03d", i) }
	for i := range count {
		b.label(name(i), fmt.Sprintf("10000000-0000-4000-8000-%012d", i))
		b.holds(name(i), true)
	}
	k := b.kept(b.server())
	for i := range count {
		b.gone(name(i))
	}
	again, err := k.keep(t.Context())
	require.NoError(t, err)
	assert.Equal(t, heldInterval, again)
	assert.Equal(t, confirmAtATime, b.looked())
	assert.Empty(t, k.Hidden())
	b.kept(k)
	assert.Equal(t, count-confirmAtATime, b.looked())
	assert.Len(t, k.Hidden(), count)
}
