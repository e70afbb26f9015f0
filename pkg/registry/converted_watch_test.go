// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

func TestConvertedWatch_ConvertsAndEndsWithTheInnerWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := watch.NewFakeWithChanSize(2, false)
		w := newConvertedWatch(inner, func(e watch.Event) watch.Event {
			e.Type = watch.Modified
			return e
		})
		assert.Equal(t, 2, cap(w.ResultChan()))
		inner.Add(&metav1.Status{Message: "1"})
		event := <-w.ResultChan()
		assert.Equal(t, watch.Modified, event.Type)
		inner.Stop()
		_, open := <-w.ResultChan()
		assert.False(t, open)
	})
}

// The handler of a watch stops it without reading what is left.
func TestConvertedWatch_EndsWhenStoppedUnread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := watch.NewFakeWithChanSize(0, false)
		w := newConvertedWatch(inner, func(e watch.Event) watch.Event { return e })
		inner.Add(&metav1.Status{})
		synctest.Wait()
		w.Stop()
		w.Stop()
		synctest.Wait()
		assert.True(t, inner.IsStopped())
		// synctest.Test fails if a goroutine is left.
	})
}
