// SPDX-License-Identifier: Apache-2.0

package ledger_test

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/kubernetes"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/ledgertest"
)

// opened is a ledger that remembers its environment.
type opened struct {
	ledger.Ledger
	env *environment
}

func TestLedger_Contract(t *testing.T) {
	t.Parallel()
	ledgertest.Run(t, ledgertest.Harness{
		New: func(t *testing.T) ledger.Ledger {
			env := newEnvironment(t)
			return &opened{env.ledger(nil), env}
		},
		Reopen: func(_ *testing.T, l ledger.Ledger) ledger.Ledger {
			env := l.(*opened).env
			return &opened{env.ledger(nil), env}
		},
		MaxValue: kubernetes.MaxValueBytes,
	})
}

func TestWrite_TooLargeValueIsRefusedBeforeItIsSent(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	large := strings.Repeat("x", kubernetes.MaxValueBytes)
	version := env.create(env.ledger(nil), key, large)
	_, err := env.ledger(nil).Update(t.Context(), key, version, []byte(large+"x"))
	require.ErrorIs(t, err, ledger.ErrTooLarge)
	require.ErrorIs(t, err, ledger.ErrNotWritten)
	env.expect(key, large, version)
}

func TestWrite_ConcurrentWritersOverwriteNothing(t *testing.T) {
	t.Parallel()
	const writers, increments = 4, 10
	env := newEnvironment(t)
	env.create(env.ledger(nil), key, "0")
	var wg sync.WaitGroup
	for range writers {
		l := env.ledger(nil)
		wg.Go(func() {
			for done := 0; done < increments; {
				r := env.recordOf(key)
				n, err := strconv.Atoi(string(r.Value))
				assert.NoError(t, err)
				_, err = l.Update(t.Context(), key, r.Version, []byte(strconv.Itoa(n+1)))
				switch {
				case err == nil:
					done++
				case !errors.Is(err, ledger.ErrConflict):
					t.Errorf("answered %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	require.Equal(t, strconv.Itoa(writers*increments), string(env.recordOf(key).Value))
}

func TestWrite_OldVersionDoesNotSwapRecreatedRecord(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	one, two := env.ledger(nil), env.ledger(nil)
	old := env.create(one, key, `{"a":1}`)
	require.NoError(t, two.Delete(t.Context(), key, old))

	_, err := one.Update(t.Context(), key, old, []byte("late"))
	require.ErrorIs(t, err, ledger.ErrNotFound, "the API server calls this a conflict")
	again := env.create(two, key, `{"a":1}`)
	_, err = one.Update(t.Context(), key, old, []byte("late"))
	require.ErrorIs(t, err, ledger.ErrConflict)
	require.ErrorIs(t, one.Delete(t.Context(), key, old), ledger.ErrConflict)

	// The uid counts also where the resource version is right, and a version
	// that says nothing is no licence.
	_, resourceVersion, _ := strings.Cut(again, "/")
	for _, forged := range []string{"10000000-0000-4000-8000-000000000001/" + resourceVersion, "/" + resourceVersion, "", "/", "7", again + "x", strings.TrimSuffix(again, resourceVersion), strings.TrimSuffix(again, resourceVersion) + "0"} {
		_, err = one.Update(t.Context(), key, forged, []byte("late"))
		require.ErrorIs(t, err, ledger.ErrConflict, forged)
		require.ErrorIs(t, one.Delete(t.Context(), key, forged), ledger.ErrConflict, forged)
	}
	env.expect(key, `{"a":1}`, again)
}

func TestList_PagesShowOneRevision(t *testing.T) {
	t.Parallel()
	const records = 1100 // three pages
	env := newEnvironment(t)
	wire := &wire{}
	l := env.ledger(wire)
	versions := env.fill(l, records)

	last := fmt.Sprintf("machines/a/%05d", records-1)
	var meddle sync.Once
	wire.set(func(req *http.Request, pass pass) (resp *http.Response, err error) {
		defer func() {
			assert.Equal(t, "application/vnd.kubernetes.protobuf", resp.Header.Get("Content-Type"), "records are many, and JSON is slow")
		}()
		if req.Method == http.MethodGet && req.URL.Query().Get("continue") != "" {
			meddle.Do(func() {
				other := env.ledger(nil)
				assert.NoError(t, other.Delete(t.Context(), last, versions[last]))
				env.create(other, "zebras/a/1", "new")
			})
		}
		return pass()
	})
	list := env.list(l)
	require.Len(t, list, records)
	require.Equal(t, last, list[records-1].Key)
	require.Equal(t, 3, wire.count(http.MethodGet))
	list = env.list(l)
	require.Len(t, list, records)
	require.Equal(t, "zebras/a/1", list[records-1].Key)
}

func TestList_BeginsAnewWhenItsStateWasCompacted(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	wire := &wire{}
	l := env.ledger(wire)
	env.fill(l, 600)
	expired := metav1.Status{Status: metav1.StatusFailure, Reason: metav1.StatusReasonExpired, Code: http.StatusGone}
	var forget sync.Once
	wire.set(func(req *http.Request, pass pass) (resp *http.Response, err error) {
		resp, err = pass()
		if req.URL.Query().Get("continue") != "" {
			forget.Do(func() { resp = status(expired) })
		}
		return resp, err
	})
	require.Len(t, env.list(l), 600)
	require.Equal(t, 4, wire.count(http.MethodGet))
}

// fill creates records, and returns their versions.
func (env *environment) fill(l ledger.Ledger, records int) map[string]string {
	env.t.Helper()
	var mu sync.Mutex
	versions := map[string]string{}
	var wg sync.WaitGroup
	next := make(chan int)
	for range 16 {
		wg.Go(func() {
			for i := range next {
				key := fmt.Sprintf("machines/a/%05d", i)
				version, err := l.Create(env.t.Context(), key, []byte(typical))
				assert.NoError(env.t, err)
				mu.Lock()
				versions[key] = version
				mu.Unlock()
			}
		})
	}
	for i := range records {
		next <- i
	}
	close(next)
	wg.Wait()
	return versions
}
