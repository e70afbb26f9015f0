// SPDX-License-Identifier: Apache-2.0

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
func TestConfirm_StaleWatchHidesNothing(t *testing.T) {
	t.Parallel()
	for name, former := range map[string]string{"shows no Namespace yet": "", "shows the former Namespace": projectB} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newEnvironment(t)
			if former != "" {
				b.label("team-a", former)
				b.stallWatch()
				b.remove("team-a")
			} else {
				b.stallWatch()
			}
			b.label("team-a", projectA)
			ahead := b.stale
			b.resumeWatch()
			b.reconcile(b.newServer())
			b.setHasRecords("team-a", true)
			b.takeEvents()

			b.stale = ahead
			k := b.newServer()
			for range 3 {
				_, err := k.reconcile(t.Context())
				require.ErrorContains(t, err, "the watch of Namespaces is stale")
				assert.Empty(t, k.Hidden())
				assert.False(t, k.Synced(), "it does not lead on what is doubtful")
			}
			assert.Empty(t, b.takeEvents())
			b.resumeWatch()
			b.reconcile(k)
			assert.Empty(t, k.Hidden())
			assert.Equal(t, projectA, projectOf(k, "team-a"))
			assert.Zero(t, k.TakenOver("team-a"))
		})
	}
}

func TestConfirm_StaleWatchTakesNothingOver(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(b *environment){
		"replaced again":  func(b *environment) { b.remove("team-a"); b.label("team-a", projectB) },
		"gone again":      func(b *environment) { b.remove("team-a") },
		"label changed":   func(b *environment) { b.label("team-a", projectB) },
		"being deleted":   func(b *environment) { b.startDeletion("team-a") },
		"label taken off": func(b *environment) { b.label("team-a", "") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, k := abandonRecords(t)
			b.label("team-a", projectA)
			b.stallWatch()
			change(b)
			_, err := k.reconcile(t.Context())
			require.ErrorContains(t, err, "the watch of Namespaces is stale")
			assert.Zero(t, k.TakenOver("team-a"))
			assert.Empty(t, b.takeEvents())
			b.resumeWatch()
			b.reconcile(k)
			assert.Zero(t, k.TakenOver("team-a"))
			assert.Contains(t, k.Hidden(), "team-a")
		})
	}
}

func TestConfirm_FailedGetChangesNothing(t *testing.T) {
	t.Parallel()
	for name, cause := range map[string]error{
		"no answer":  context.DeadlineExceeded,
		"forbidden":  apierrors.NewForbidden(resource.GroupResource(), "team-a", errors.New("no")),
		"overloaded": apierrors.NewTooManyRequestsError("later"),
	} {
		for again, label := range map[string]string{"gone": "", "made anew with the same project": projectA, "made anew with another": projectB} {
			t.Run(name+", "+again, func(t *testing.T) {
				t.Parallel()
				b, k := abandonRecords(t)
				if label != "" {
					b.label("team-a", label)
				}
				b.failGets(cause)
				for range 2 {
					_, err := k.reconcile(t.Context())
					require.ErrorIs(t, err, cause)
					require.ErrorContains(t, err, `"team-a"`)
					assert.Empty(t, k.Hidden())
					assert.Equal(t, projectA, projectOf(k, "team-a"))
					assert.Zero(t, k.TakenOver("team-a"))
				}
				assert.Empty(t, b.takeEvents())
				assert.Equal(t, 2, b.takeGets(), "one get a round")
				b.failGets(nil)
				b.reconcile(k)
				assert.Equal(t, label == projectA, len(k.Hidden()) == 0)
				assert.Equal(t, label == projectA, !k.TakenOver("team-a").IsZero())
			})
		}
	}
}

func TestConfirm_ReadsANamespaceOnce(t *testing.T) {
	t.Parallel()
	b, k := abandonRecords(t)
	b.reconcile(k)
	assert.Equal(t, 1, b.takeGets())
	b.failGets(context.DeadlineExceeded)
	b.reconcile(k)
	b.label("team-a", projectB)
	b.reconcile(k)
	assert.Contains(t, k.Hidden(), "team-a", "the former Namespace is gone for good, whoever comes")
	assert.Zero(t, b.takeGets())
}

func TestConfirm_LimitsReadsPerRound(t *testing.T) {
	t.Parallel()
	b := newEnvironment(t)
	const count = maxConfirmationsPerRound + maxConfirmationsPerRound/2
	name := func(i int) string { return fmt.Sprintf("team-%03d", i) }
	for i := range count {
		b.label(name(i), fmt.Sprintf("10000000-0000-4000-8000-%012d", i))
		b.setHasRecords(name(i), true)
	}
	k := b.reconcile(b.newServer())
	for i := range count {
		b.remove(name(i))
	}
	again, err := k.reconcile(t.Context())
	require.NoError(t, err)
	assert.Equal(t, pendingInterval, again)
	assert.Equal(t, maxConfirmationsPerRound, b.takeGets())
	assert.Empty(t, k.Hidden())
	b.reconcile(k)
	assert.Equal(t, count-maxConfirmationsPerRound, b.takeGets())
	assert.Len(t, k.Hidden(), count)
}

// The records of a deleted Namespace must not be shown in the one that has its name
// now, however stale the watch of a server that becomes active is.
func TestConfirm_StaleWatchShowsNoRecordsOfADeletedNamespace(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(b *environment){
		"created again with another project": func(b *environment) { b.remove("team-a"); b.label("team-a", projectB) },
		"created again without a label":      func(b *environment) { b.remove("team-a"); b.label("team-a", "") },
		"deleted":                            func(b *environment) { b.remove("team-a") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newEnvironment(t)
			b.label("team-a", projectA)
			b.reconcile(b.newServer())
			b.setHasRecords("team-a", true)
			b.stallWatch()
			prepare(b)

			k := b.newServer()
			_, err := k.reconcile(t.Context())
			require.ErrorContains(t, err, "the watch of Namespaces is stale")
			assert.False(t, k.reconciledActive.Load(), "it does not become active")
			b.resumeWatch()
			b.reconcile(k)
			assert.Contains(t, k.Hidden(), "team-a")
		})
	}
}

func TestConfirm_FailedListKeepsAServerFromBecomingActive(t *testing.T) {
	t.Parallel()
	b := newEnvironment(t)
	b.label("team-a", projectA)
	b.listError = context.DeadlineExceeded
	k := b.newServer()
	_, err := k.reconcile(t.Context())
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.False(t, k.reconciledActive.Load())
	b.listError = nil
	b.reconcile(k)
	b.listError = context.DeadlineExceeded
	b.reconcile(k)
	assert.Equal(t, projectA, projectOf(k, "team-a"), "only the first reconciliation lists live")
}
