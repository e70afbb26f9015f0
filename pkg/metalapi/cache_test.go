// SPDX-License-Identifier: Apache-2.0

package metalapi

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	clocktesting "k8s.io/utils/clock/testing"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

func TestCachedList_IsReadOncePerTTLUntilSomethingChanges(t *testing.T) {
	t.Parallel()
	clock := clocktesting.NewFakeClock(time.Unix(0, 0))
	reads := 0
	list := newCachedList(clock, time.Minute, func(context.Context) ([]int, error) {
		reads++
		return []int{reads}, nil
	})
	get := func() int {
		items, err := list.get(t.Context())
		require.NoError(t, err)
		return items[0]
	}
	assert.Equal(t, 1, get())
	clock.Step(59 * time.Second)
	assert.Equal(t, 1, get())
	clock.Step(time.Second)
	assert.Equal(t, 2, get())
	list.change()
	assert.Equal(t, 3, get(), "what was written is read")
	assert.Equal(t, 3, get())
}

func TestCachedList_OutageKeepsWhatWasRead(t *testing.T) {
	t.Parallel()
	clock := clocktesting.NewFakeClock(time.Unix(0, 0))
	var failure error
	list := newCachedList(clock, time.Minute, func(context.Context) ([]int, error) { return []int{1}, failure })
	unavailable := &metal.Error{Kind: metal.Unavailable}
	failure = unavailable
	_, err := list.get(t.Context())
	require.ErrorIs(t, err, unavailable, "nothing was read yet")
	failure = nil
	_, err = list.get(t.Context())
	require.NoError(t, err)
	for _, kind := range []metal.Kind{metal.Unavailable, metal.Refused} {
		clock.Step(time.Hour)
		failure = &metal.Error{Kind: kind}
		items, err := list.get(t.Context())
		if kind == metal.Refused {
			require.ErrorIs(t, err, failure)
			continue
		}
		require.NoError(t, err)
		assert.Equal(t, []int{1}, items)
	}
}

func TestCachedList_ReadThatBeganBeforeAChangeIsNotKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		clock := clocktesting.NewFakeClock(time.Now())
		proceed := make(chan struct{})
		reads := 0
		list := newCachedList(clock, time.Minute, func(context.Context) ([]int, error) {
			reads++
			if reads == 1 {
				<-proceed
				return []int{1}, nil
			}
			return []int{2}, nil
		})
		first := make(chan []int)
		go func() {
			items, _ := list.get(t.Context())
			first <- items
		}()
		synctest.Wait()
		list.change()
		items, err := list.get(t.Context())
		require.NoError(t, err)
		assert.Equal(t, []int{2}, items)
		close(proceed)
		assert.Equal(t, []int{1}, <-first)
		items, err = list.get(t.Context())
		require.NoError(t, err)
		assert.Equal(t, []int{2}, items)
	})
}

func TestCachedList_WaitsNoLongerThanItsReader(t *testing.T) {
	t.Parallel()
	list := newCachedList(clocktesting.NewFakeClock(time.Unix(0, 0)), time.Minute, func(ctx context.Context) ([]int, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := list.get(ctx)
	require.True(t, errors.Is(err, context.Canceled))
	assert.Equal(t, metal.Unavailable, metal.KindOf(err))
}

func TestProjectCaches_ForgetIdleProjects(t *testing.T) {
	t.Parallel()
	clock := clocktesting.NewFakeClock(time.Unix(0, 0))
	caches := newProjectCaches(clock, func(context.Context, string) ([]*metal.IP, error) { return nil, nil })
	caches.of("a")
	clock.Step(projectIdle + time.Second)
	caches.of("b")
	assert.Len(t, caches.entries, 1)
	assert.NotSame(t, caches.of("a"), caches.of("b"))
}
