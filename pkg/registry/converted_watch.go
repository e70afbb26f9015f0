// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"sync"

	"k8s.io/apimachinery/pkg/watch"
)

// convertedWatch is a watch whose events are converted. Unlike watch.Filter it ends when it
// is stopped, whether or not its events are read, and has room for as many of them as the
// inner watch: the generic server flushes those together that wait.
type convertedWatch struct {
	inner   watch.Interface
	results chan watch.Event
	stop    sync.Once
	stopped chan struct{}
}

func newConvertedWatch(inner watch.Interface, convert func(watch.Event) watch.Event) watch.Interface {
	w := &convertedWatch{inner: inner, results: make(chan watch.Event, cap(inner.ResultChan())), stopped: make(chan struct{})}
	go w.run(convert)
	return w
}

func (w *convertedWatch) run(convert func(watch.Event) watch.Event) {
	defer close(w.results)
	defer w.inner.Stop()
	for event := range w.inner.ResultChan() {
		select {
		case w.results <- convert(event):
		case <-w.stopped:
			return
		}
	}
}

// ResultChan implements watch.Interface.
func (w *convertedWatch) ResultChan() <-chan watch.Event { return w.results }

// Stop implements watch.Interface.
func (w *convertedWatch) Stop() {
	w.stop.Do(func() { close(w.stopped) })
	w.inner.Stop()
}
