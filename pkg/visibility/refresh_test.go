// SPDX-License-Identifier: Apache-2.0

package visibility

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/authentication/user"
)

func TestRefresh_WatchesOfAUserShareDecisions(t *testing.T) {
	inEnvironment(t, func(t *testing.T, e *environment) {
		e.set(true, "alice", "a")
		for i := range 50 {
			r := across("alice")
			// A renewed credential is the same user.
			r.User = &user.DefaultInfo{Name: "alice", Extra: map[string][]string{user.CredentialIDKey: {fmt.Sprint(i)}}}
			visibleOf(e.watch(t, r), "a", "b")
		}
		assert.Len(t, e.requests(), 4, "get and list everywhere, and two namespaces")
		time.Sleep(10 * refreshInterval)
		assert.LessOrEqual(t, len(e.requests()), 10*4)
	})
}

func TestRequest_KeyDistinguishesUsersGroupsAndNamespaces(t *testing.T) {
	t.Parallel()
	keys := map[string]bool{}
	for _, u := range []user.DefaultInfo{
		{Name: "alice"},
		{Name: "alice", UID: "1"},
		{Name: "alice", Groups: []string{"a"}},
		{Name: "alice", Groups: []string{"a", "b"}},
		{Name: "alice", Extra: map[string][]string{"scopes": {"a"}}},
		{Name: "bob"},
	} {
		keys[Request{User: &u, Resource: machines}.key()] = true
		keys[Request{User: &u, Resource: machines, Namespace: "a"}.key()] = true
		keys[Request{User: &u, Resource: machines, Namespace: "a", Name: "b"}.key()] = true
	}
	assert.Len(t, keys, 18)
}

func TestList_ConcurrentListsOfAUserShareDecisions(t *testing.T) {
	inEnvironment(t, func(t *testing.T, e *environment) {
		e.set(true, "alice", "a")
		var lists sync.WaitGroup
		for range 100 {
			lists.Go(func() { assert.Equal(t, []string{"a"}, e.list(t, across("alice"), "a", "b", "c")) })
		}
		lists.Wait()
		assert.Len(t, e.requests(), 5)
	})
}

// Visible namespaces are refreshed in time, however many namespaces there are;
// denied ones as often as the rate allows.
func TestRefresh_ManyDeniedNamespacesAreRefreshedLessOften(t *testing.T) {
	inEnvironment(t, func(t *testing.T, e *environment) {
		const count = 1000
		namespaces := make([]string, count)
		for i := range namespaces {
			namespaces[i] = fmt.Sprintf("n%03d", i)
		}
		e.set(true, "alice", namespaces[500])
		set := e.watch(t, across("alice"))
		visibleOf(set, namespaces...)
		e.requests()

		const period = 200 * time.Second
		requireContinues(t, set, period)
		requests := e.requests()
		assert.LessOrEqual(t, len(requests), int(period/time.Second)*(deniedPerSecond+1))
		own := 0
		for _, r := range requests {
			if r == "alice get "+namespaces[500] {
				own++
			}
		}
		assert.InDelta(t, period/refreshInterval, own, 2)
		for _, namespace := range namespaces {
			require.True(t, slices.Contains(requests, "alice get "+namespace), "%s is never refreshed", namespace)
		}

		e.set(true, "alice", namespaces[7])
		requireEndsWithin(t, set, count/deniedPerSecond*time.Second+2*refreshInterval)
		set = e.watch(t, across("alice"))
		e.set(false, "alice", namespaces[500])
		requireEndsWithin(t, set, 2*refreshInterval)
	})
}

func TestRefresh_LimitsRequestsPerInterval(t *testing.T) {
	inEnvironment(t, func(t *testing.T, e *environment) {
		for i := range 300 {
			who := fmt.Sprintf("user-%d", i)
			e.set(true, who, "a")
			visibleOf(e.watch(t, across(who)), "a", "b")
		}
		e.requests()
		time.Sleep(20 * refreshInterval)
		requests := e.requests()
		// The decision on all namespaces takes two requests for users who are denied.
		assert.LessOrEqual(t, len(requests), 20*maxRefreshes*2)
		for i := range 300 {
			require.True(t, slices.Contains(requests, fmt.Sprintf("user-%d get a", i)), "user-%d is never refreshed", i)
		}
	})
}

func TestRefresh_SkipsUsersWithoutWatches(t *testing.T) {
	inEnvironment(t, func(t *testing.T, e *environment) {
		e.list(t, across("alice"), "a")
		e.watch(t, across("bob")).Close()
		e.requests()
		time.Sleep(time.Hour)
		assert.Empty(t, e.requests())
		e.Resolver.mu.Lock()
		defer e.Resolver.mu.Unlock()
		assert.Empty(t, e.entries, "unused entries expire")
	})
}

func TestResolver_LimitsCachedEntries(t *testing.T) {
	inEnvironment(t, func(t *testing.T, e *environment) {
		first := e.watch(t, across("first"))
		for i := range maxEntries + 10 {
			e.list(t, across(fmt.Sprintf("user-%d", i)), "a")
		}
		e.Resolver.mu.Lock()
		assert.LessOrEqual(t, len(e.entries), maxEntries)
		e.Resolver.mu.Unlock()
		e.set(true, "first", "*")
		requireEndsWithin(t, first, 2*refreshInterval)
	})
}

func TestList_IsUnavailableWithoutTheAuthorizer(t *testing.T) {
	inEnvironment(t, func(t *testing.T, e *environment) {
		e.set(true, "alice", "a")
		set, err := e.List(t.Context(), across("alice"))
		require.NoError(t, err)
		defer set.Close()
		assert.True(t, set.Includes("a"))
		e.fail(errors.New("dial tcp 10.96.0.1:443: connection refused"))
		assert.False(t, set.Includes("b"))
		require.True(t, apierrors.IsServiceUnavailable(set.Err()), "%v", set.Err())
		assert.NotContains(t, set.Err().Error(), "10.96.0.1")
		e.requests()
		assert.False(t, set.Includes("c"))
		assert.Empty(t, e.requests(), "the set has ended")

		time.Sleep(time.Minute)
		for _, r := range []Request{across("alice"), in("alice", "a")} {
			_, err = e.List(t.Context(), r)
			assert.True(t, apierrors.IsServiceUnavailable(err), "%v", err)
			_, err = e.Watch(t.Context(), r)
			assert.True(t, apierrors.IsServiceUnavailable(err), "%v", err)
		}
	})
}

func TestWatch_ContinuesForAMinuteWithoutTheAuthorizer(t *testing.T) {
	inEnvironment(t, func(t *testing.T, e *environment) {
		e.set(true, "alice", "a")
		set := e.watch(t, across("alice"))
		assert.Equal(t, []string{"a"}, visibleOf(set, "a", "b"))
		e.fail(errors.New("away"))
		requireContinues(t, set, failureGracePeriod-refreshInterval)
		e.fail(nil)
		requireContinues(t, set, 2*failureGracePeriod)
		e.fail(errors.New("away"))
		select {
		case <-set.Done():
			assert.True(t, apierrors.IsServiceUnavailable(set.Err()), "%v", set.Err())
		case <-time.After(failureGracePeriod + 3*refreshInterval):
			t.Fatal("it continues")
		}
	})
}

func TestWatch_EndsOnAnEventThatCannotBeAuthorized(t *testing.T) {
	inEnvironment(t, func(t *testing.T, e *environment) {
		set := e.watch(t, across("alice"))
		e.fail(errors.New("away"))
		assert.False(t, set.Includes("new"))
		assert.True(t, apierrors.IsServiceUnavailable(set.Err()), "%v", set.Err())
	})
}

func TestList_CancelledListDoesNotBlockOthers(t *testing.T) {
	inEnvironment(t, func(t *testing.T, e *environment) {
		s := e.acquire(across("alice"))
		require.True(t, s.lock(t.Context()), "a request that gets no answer holds the lock")
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			_, err := e.List(ctx, across("alice"))
			ended <- err
		}()
		synctest.Wait()
		cancel()
		require.Error(t, <-ended)
		s.unlock()
		e.release(s)
		e.list(t, across("alice"), "a")
	})
}
