// SPDX-License-Identifier: Apache-2.0

package metalapi

import (
	"context"
	"errors"
	"strconv"
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

func TestCachedList_ReadWithoutAnAnswerGivesWhatWasRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		clock := clocktesting.NewFakeClock(time.Now())
		proceed := make(chan struct{})
		reads := 0
		list := newCachedList(clock, time.Minute, func(context.Context) ([]int, error) {
			reads++
			if reads > 1 {
				<-proceed
			}
			return []int{reads}, nil
		})
		_, err := list.get(t.Context())
		require.NoError(t, err)
		clock.Step(time.Minute)
		answers := make(chan []int)
		for range 3 {
			go func() {
				items, _ := list.get(t.Context())
				answers <- items
			}()
		}
		synctest.Wait()
		clock.Step(slowRead)
		for range 3 {
			assert.Equal(t, []int{1}, <-answers)
		}
		close(proceed)
		synctest.Wait()
		items, err := list.get(t.Context())
		require.NoError(t, err)
		assert.Equal(t, []int{2}, items, "what the read that was slow has read")
		assert.Equal(t, 2, reads)
	})
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

// However many projects are polled, and whatever addresses are asked for, reads of
// addresses take a bounded part of the metal-api's time.
func TestProjectCaches_AreReadForTheirAgeWithinABudget(t *testing.T) {
	t.Parallel()
	clock := clocktesting.NewFakeClock(time.Unix(0, 0))
	const took, projects, minutes = 10 * time.Millisecond, 1000, 10
	reads := 0
	caches := newProjectCaches(clock, func(context.Context, string) ([]*metal.IP, error) {
		reads++
		clock.Step(took)
		return nil, nil
	})
	poll := func() {
		began := clock.Now()
		for i := range projects {
			_, err := caches.of(strconv.Itoa(i)).get(t.Context())
			require.NoError(t, err)
		}
		clock.Step(time.Minute - clock.Since(began))
	}
	poll()
	assert.Equal(t, projects, reads, "what was never read is read")
	reads = 0
	for range minutes {
		poll()
	}
	busy := time.Duration(reads) * took
	assert.Less(t, busy, time.Duration(float64(minutes*time.Minute)*budgetShare)+2*budgetBurst+projects*took*minutes/5)
	assert.GreaterOrEqual(t, reads, projects, "each is read in five minutes")
	before := reads
	list := caches.of("0")
	list.change()
	_, err := list.get(t.Context())
	require.NoError(t, err)
	assert.Equal(t, before+1, reads, "what was changed is read")
}

func TestBudget_RecoversAndIsOverdrawnByNoMoreThanOneRead(t *testing.T) {
	t.Parallel()
	clock := clocktesting.NewFakeClock(time.Unix(0, 0))
	b := newBudget(clock)
	assert.Zero(t, b.extension())
	b.spend(time.Hour)
	assert.Equal(t, spentTTL, b.extension())
	clock.Step(time.Second)
	assert.Zero(t, b.extension(), "the share of a second is there again")
	b.spend(time.Second)
	clock.Step(40 * time.Second)
	assert.Equal(t, spentTTL, b.extension())
	clock.Step(20 * time.Second)
	assert.Zero(t, b.extension())
	assert.Zero(t, (*budget)(nil).extension())
}
