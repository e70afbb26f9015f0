// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apiserver/pkg/apis/example"
	apistorage "k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/warning"
)

func TestReads_BeyondTheWaitersForARevisionAreAnsweredAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t, Options{})
		opts := everything()
		opts.ResourceVersion = fmt.Sprint(time.Now().Add(time.Hour).UnixMicro())
		ctx, cancel := context.WithCancel(t.Context())
		var waiters sync.WaitGroup
		for range maxWaiting {
			waiters.Go(func() { _ = w.pods.GetList(ctx, "/pods", opts, &example.PodList{}) })
		}
		synctest.Wait()
		began := time.Now()
		err := w.pods.GetList(t.Context(), "/pods", opts, &example.PodList{})
		if !apistorage.IsTooLargeResourceVersion(err) {
			t.Errorf("answered %v", err)
		}
		expectEvents(t, startWatch(t, w.pods, opts), "ERROR Timeout")
		if took := time.Since(began); took != 0 {
			t.Errorf("a list and a watch took %s", took)
		}
		cancel()
		waiters.Wait()
		if err := w.pods.GetList(t.Context(), "/pods", opts, &example.PodList{}); !apistorage.IsTooLargeResourceVersion(err) {
			t.Errorf("answered %v", err)
		}
		if took := time.Since(began); took != revisionTimeout {
			t.Errorf("with no other request waiting the list took %s", took)
		}
	})
}

// slowRefresher confirms nothing before its caller gives up.
type slowRefresher struct{}

func (slowRefresher) Refresh(ctx context.Context, _ Scope) (time.Time, error) {
	<-ctx.Done()
	return time.Time{}, ctx.Err()
}

func (slowRefresher) Known(Scope) bool { return true }

func TestReads_BeyondTheWaitersForMetalAreAnsweredAtOnceWithAWarning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t, Options{})
		create(t, w.pods, managed("node-1", "m1", "a1"))
		w.SetRefresher(slowRefresher{})
		ctx, cancel := context.WithCancel(t.Context())
		var waiters sync.WaitGroup
		for range maxRefreshing {
			waiters.Go(func() { _ = w.pods.GetList(ctx, "/pods", everything(), &example.PodList{}) })
		}
		synctest.Wait()
		said := &warnings{}
		l := &example.PodList{}
		if err := w.pods.GetList(warning.WithWarningRecorder(t.Context(), said), "/pods", everything(), l); err != nil || len(l.Items) != 1 {
			t.Errorf("the list has %d objects: %v", len(l.Items), err)
		}
		if len(said.said) != 1 || !strings.Contains(said.said[0], errTooManyRefreshes.Error()) {
			t.Errorf("warned: %q", said.said)
		}
		cancel()
		waiters.Wait()
	})
}
