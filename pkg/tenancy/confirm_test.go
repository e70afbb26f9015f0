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
			e := newEnvironment(t)
			if former != "" {
				e.label("team-a", former)
				e.stallWatch()
				e.remove("team-a")
			} else {
				e.stallWatch()
			}
			e.label("team-a", projectA)
			ahead := e.stale
			e.resumeWatch()
			e.reconcile(e.newServer())
			e.setHasRecords("team-a", true)
			e.takeEvents()

			e.stale = ahead
			b := e.newServer()
			for range 3 {
				_, err := b.reconcile(t.Context())
				require.ErrorContains(t, err, "the watch of Namespaces is stale")
				assert.Empty(t, b.Hidden())
				assert.False(t, b.Synced(), "it does not lead on what is doubtful")
			}
			assert.Empty(t, e.takeEvents())
			e.resumeWatch()
			e.reconcile(b)
			assert.Empty(t, b.Hidden())
			assert.Equal(t, projectA, projectOf(b, "team-a"))
			assert.Zero(t, b.TakenOver("team-a"))
		})
	}
}

func TestConfirm_StaleWatchTakesNothingOver(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(e *environment){
		"replaced again":  func(e *environment) { e.remove("team-a"); e.label("team-a", projectB) },
		"gone again":      func(e *environment) { e.remove("team-a") },
		"label changed":   func(e *environment) { e.label("team-a", projectB) },
		"being deleted":   func(e *environment) { e.startDeletion("team-a") },
		"label taken off": func(e *environment) { e.label("team-a", "") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, b := abandonRecords(t)
			e.label("team-a", projectA)
			e.stallWatch()
			change(e)
			_, err := b.reconcile(t.Context())
			require.ErrorContains(t, err, "the watch of Namespaces is stale")
			assert.Zero(t, b.TakenOver("team-a"))
			assert.Empty(t, e.takeEvents())
			e.resumeWatch()
			e.reconcile(b)
			assert.Zero(t, b.TakenOver("team-a"))
			assert.Contains(t, b.Hidden(), "team-a")
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
				e, b := abandonRecords(t)
				if label != "" {
					e.label("team-a", label)
				}
				e.failGets(cause)
				for range 2 {
					_, err := b.reconcile(t.Context())
					require.ErrorIs(t, err, cause)
					require.ErrorContains(t, err, `"team-a"`)
					assert.Empty(t, b.Hidden())
					assert.Equal(t, projectA, projectOf(b, "team-a"))
					assert.Zero(t, b.TakenOver("team-a"))
				}
				assert.Empty(t, e.takeEvents())
				assert.Equal(t, 2, e.takeGets(), "one get a round")
				e.failGets(nil)
				e.reconcile(b)
				assert.Equal(t, label == projectA, len(b.Hidden()) == 0)
				assert.Equal(t, label == projectA, !b.TakenOver("team-a").IsZero())
			})
		}
	}
}

func TestConfirm_ReadsANamespaceOnce(t *testing.T) {
	t.Parallel()
	e, b := abandonRecords(t)
	e.reconcile(b)
	assert.Equal(t, 1, e.takeGets())
	e.failGets(context.DeadlineExceeded)
	e.reconcile(b)
	e.label("team-a", projectB)
	e.reconcile(b)
	assert.Contains(t, b.Hidden(), "team-a", "the former Namespace is gone for good, whoever comes")
	assert.Zero(t, e.takeGets())
}

func TestConfirm_LimitsReadsPerRound(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	const count = maxConfirmationsPerRound + maxConfirmationsPerRound/2
	name := func(i int) string { return fmt.Sprintf("team-%03d", i) }
	for i := range count {
		e.label(name(i), fmt.Sprintf("10000000-0000-4000-8000-%012d", i))
		e.setHasRecords(name(i), true)
	}
	b := e.reconcile(e.newServer())
	for i := range count {
		e.remove(name(i))
	}
	again, err := b.reconcile(t.Context())
	require.NoError(t, err)
	assert.Equal(t, pendingInterval, again)
	assert.Equal(t, maxConfirmationsPerRound, e.takeGets())
	assert.Empty(t, b.Hidden())
	e.reconcile(b)
	assert.Equal(t, count-maxConfirmationsPerRound, e.takeGets())
	assert.Len(t, b.Hidden(), count)
}

// The records of a deleted Namespace must not be shown in the one that has its name
// now, however stale the watch of a server that becomes active is.
func TestConfirm_StaleWatchShowsNoRecordsOfADeletedNamespace(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(e *environment){
		"created again with another project": func(e *environment) { e.remove("team-a"); e.label("team-a", projectB) },
		"created again without a label":      func(e *environment) { e.remove("team-a"); e.label("team-a", "") },
		"deleted":                            func(e *environment) { e.remove("team-a") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnvironment(t)
			e.label("team-a", projectA)
			e.reconcile(e.newServer())
			e.setHasRecords("team-a", true)
			e.stallWatch()
			prepare(e)

			b := e.newServer()
			_, err := b.reconcile(t.Context())
			require.ErrorContains(t, err, "the watch of Namespaces is stale")
			assert.False(t, b.reconciledActive.Load(), "it does not become active")
			e.resumeWatch()
			e.reconcile(b)
			assert.Contains(t, b.Hidden(), "team-a")
		})
	}
}

func TestConfirm_FailedListKeepsAServerFromBecomingActive(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	e.label("team-a", projectA)
	e.listError = context.DeadlineExceeded
	b := e.newServer()
	_, err := b.reconcile(t.Context())
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.False(t, b.reconciledActive.Load())
	e.listError = nil
	e.reconcile(b)
	e.listError = context.DeadlineExceeded
	e.reconcile(b)
	assert.Equal(t, projectA, projectOf(b, "team-a"), "only the first reconciliation lists live")
}
