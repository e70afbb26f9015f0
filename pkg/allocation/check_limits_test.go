// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCheckLimits_OneNamespaceDoesNotKeepOthersFromTheirChecks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newCheckLimits()
		acquire := func(namespace string) func() {
			release, ok := l.acquire(t.Context(), namespace)
			require.True(t, ok)
			return release
		}
		first, second := acquire("a"), acquire("a")
		began := time.Now()
		_, ok := l.acquire(t.Context(), "a")
		assert.False(t, ok)
		assert.Equal(t, checkWait, time.Since(began), "it waits for a while")

		others := []func(){acquire("b"), acquire("b"), acquire("c"), acquire("c"), acquire("d"), acquire("d")}
		_, ok = l.acquire(t.Context(), "e")
		assert.False(t, ok, "there are as many as may be")
		time.AfterFunc(time.Second, first)
		others = append(others, acquire("e"), second)
		for _, release := range others {
			release()
		}
		assert.Empty(t, l.namespaces)
	})
}

func TestCheckLimits_QueueOfOneNamespaceIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newCheckLimits()
		for range maxNamespaceChecks {
			release, ok := l.acquire(t.Context(), "a")
			require.True(t, ok)
			defer release()
		}
		for range maxNamespaceQueue - maxNamespaceChecks {
			go l.acquire(t.Context(), "a")
		}
		synctest.Wait()
		began := time.Now()
		_, ok := l.acquire(t.Context(), "a")
		assert.False(t, ok)
		assert.Zero(t, time.Since(began))
		synctest.Wait()
	})
}
