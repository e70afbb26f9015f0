// SPDX-License-Identifier: Apache-2.0

package keylock

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLocks_AreHeldByOneAtATime(t *testing.T) {
	t.Parallel()
	var locks Locks
	var wg sync.WaitGroup
	counts := map[string]*int{"a": new(int), "b": new(int)}
	for key, count := range counts {
		for range 50 {
			wg.Go(func() {
				unlock, err := locks.Lock(t.Context(), key)
				if assert.NoError(t, err) {
					*count++ // The race detector would report two holders.
					unlock()
				}
			})
		}
	}
	wg.Wait()
	assert.Equal(t, 50, *counts["a"])
	assert.Equal(t, 50, *counts["b"])
	assert.Empty(t, locks.locks)
}

func TestLocks_AreOfOneKeyAndForgottenWhenFree(t *testing.T) {
	t.Parallel()
	var locks Locks
	unlock, err := locks.Lock(t.Context(), "a")
	require.NoError(t, err)
	other, err := locks.Lock(t.Context(), "b")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = locks.Lock(ctx, "a")
	require.ErrorIs(t, err, context.Canceled)
	unlock()
	unlock, err = locks.Lock(t.Context(), "a")
	require.NoError(t, err)
	unlock()
	other()
	assert.Empty(t, locks.locks)
}
