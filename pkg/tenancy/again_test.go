package tenancy

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

func TestTheWatchesOfAUserShareWhatIsAsked(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.set(true, "alice", "a")
		for i := range 50 {
			r := across("alice")
			// A renewed credential is the same user.
			r.User = &user.DefaultInfo{Name: "alice", Extra: map[string][]string{user.CredentialIDKey: {fmt.Sprint(i)}}}
			seenOf(w.watch(t, r), "a", "b")
		}
		assert.Len(t, w.questions(), 4, "get and list everywhere, and two namespaces")
		time.Sleep(10 * againInterval)
		assert.LessOrEqual(t, len(w.questions()), 10*4)
	})
}

func TestUsersOfOtherGroupsAreOtherUsers(t *testing.T) {
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

func TestListsOfAUserAtTheSameTimeShareWhatIsAsked(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.set(true, "alice", "a")
		var lists sync.WaitGroup
		for range 100 {
			lists.Go(func() { assert.Equal(t, []string{"a"}, w.list(t, across("alice"), "a", "b", "c")) })
		}
		lists.Wait()
		assert.Len(t, w.questions(), 5)
	})
}

// What a user sees is asked for again in time however many namespaces there
// are; what a user does not see, as often as the rate allows.
func TestManyNamespacesAreAskedForLessOften(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		const count = 1000
		namespaces := make([]string, count)
		for i := range namespaces {
			namespaces[i] = fmt.Sprintf("n%03d", i)
		}
		w.set(true, "alice", namespaces[500])
		visibility := w.watch(t, across("alice"))
		seenOf(visibility, namespaces...)
		w.questions()

		const period = 200 * time.Second
		goesOnFor(t, visibility, period)
		asked := w.questions()
		assert.LessOrEqual(t, len(asked), int(period/time.Second)*(askRate+1))
		own := 0
		for _, question := range asked {
			if question == "alice get "+namespaces[500] {
				own++
			}
		}
		assert.InDelta(t, period/againInterval, own, 2)
		for _, namespace := range namespaces {
			require.True(t, slices.Contains(asked, "alice get "+namespace), "%s is never asked for", namespace)
		}

		w.set(true, "alice", namespaces[7])
		endsWithin(t, visibility, count/askRate*time.Second+2*againInterval)
		visibility = w.watch(t, across("alice"))
		w.set(false, "alice", namespaces[500])
		endsWithin(t, visibility, 2*againInterval)
	})
}

func TestThereIsALimitToWhatIsAskedAtATime(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		for i := range 300 {
			who := fmt.Sprintf("user-%d", i)
			w.set(true, who, "a")
			seenOf(w.watch(t, across(who)), "a", "b")
		}
		w.questions()
		time.Sleep(20 * againInterval)
		asked := w.questions()
		// The everywhere question of who may not is two.
		assert.LessOrEqual(t, len(asked), 20*againQuestions*2)
		for i := range 300 {
			require.True(t, slices.Contains(asked, fmt.Sprintf("user-%d get a", i)), "user-%d is never asked for", i)
		}
	})
}

func TestNobodyIsAskedForWhoDoesNotWatch(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.list(t, across("alice"), "a")
		w.watch(t, across("bob")).Close()
		w.questions()
		time.Sleep(time.Hour)
		assert.Empty(t, w.questions())
		w.Access.mu.Lock()
		defer w.Access.mu.Unlock()
		assert.Empty(t, w.scopes, "who has not asked for long is forgotten")
	})
}

func TestOnlySoManyUsersAreRemembered(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		first := w.watch(t, across("first"))
		for i := range maxScopes + 10 {
			w.list(t, across(fmt.Sprintf("user-%d", i)), "a")
		}
		w.Access.mu.Lock()
		assert.LessOrEqual(t, len(w.scopes), maxScopes)
		w.Access.mu.Unlock()
		w.set(true, "first", "*")
		endsWithin(t, first, 2*againInterval)
	})
}

func TestAListIsNotAnsweredWithoutTheAuthorizer(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.set(true, "alice", "a")
		visibility, err := w.List(t.Context(), across("alice"))
		require.NoError(t, err)
		defer visibility.Close()
		assert.True(t, visibility.Includes("a"))
		w.fail(errors.New("dial tcp 10.96.0.1:443: connection refused"))
		assert.False(t, visibility.Includes("b"))
		require.True(t, apierrors.IsServiceUnavailable(visibility.Err()), "%v", visibility.Err())
		assert.NotContains(t, visibility.Err().Error(), "10.96.0.1")
		w.questions()
		assert.False(t, visibility.Includes("c"))
		assert.Empty(t, w.questions(), "it is not asked again for an answer that cannot be given")

		time.Sleep(time.Minute)
		for _, r := range []Request{across("alice"), in("alice", "a")} {
			_, err = w.List(t.Context(), r)
			assert.True(t, apierrors.IsServiceUnavailable(err), "%v", err)
			_, err = w.Watch(t.Context(), r)
			assert.True(t, apierrors.IsServiceUnavailable(err), "%v", err)
		}
	})
}

func TestAWatchGoesOnForAMinuteWithoutTheAuthorizer(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.set(true, "alice", "a")
		visibility := w.watch(t, across("alice"))
		assert.Equal(t, []string{"a"}, seenOf(visibility, "a", "b"))
		w.fail(errors.New("away"))
		goesOnFor(t, visibility, patience-againInterval)
		w.fail(nil)
		goesOnFor(t, visibility, 2*patience)
		w.fail(errors.New("away"))
		select {
		case <-visibility.Done():
			assert.True(t, apierrors.IsServiceUnavailable(visibility.Err()), "%v", visibility.Err())
		case <-time.After(patience + 3*againInterval):
			t.Fatal("it goes on")
		}
	})
}

func TestAnEventOfWhichNobodyKnowsWhoMaySeeItEndsTheWatch(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		visibility := w.watch(t, across("alice"))
		w.fail(errors.New("away"))
		assert.False(t, visibility.Includes("new"))
		assert.True(t, apierrors.IsServiceUnavailable(visibility.Err()), "%v", visibility.Err())
	})
}

func TestWhoeverStopsWaitingDoesNotHoldUpOthers(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := w.open(across("alice"))
		require.True(t, s.begin(t.Context()), "somebody asks, and gets no answer")
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			_, err := w.List(ctx, across("alice"))
			ended <- err
		}()
		synctest.Wait()
		cancel()
		require.Error(t, <-ended)
		s.end()
		w.release(s)
		w.list(t, across("alice"), "a")
	})
}
