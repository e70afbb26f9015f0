// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
)

// reconnectDelay is how long Follow waits after a failure before it lists again.
const reconnectDelay = time.Second

// Observe is told of an object, and returns whether it has seen enough. The object is nil if
// it does not exist.
type Observe func(ctx context.Context, o *Object) (done bool, err error)

// Follow calls observe with an object as it is, and again whenever it changes, until observe
// is done or fails, or ctx ends, whose error it then returns. If every is not zero, it also
// calls observe with the unchanged object that often. It watches, and goes on after failures
// that pass.
func (c *Client) Follow(ctx context.Context, ref Reference, every time.Duration, observe Observe) error {
	f := follower{client: c, ref: ref, observe: observe}
	if every > 0 {
		ticker := c.clock.NewTicker(every)
		defer ticker.Stop()
		f.ticks = ticker.C()
	}
	for {
		err := f.listAndWatch(ctx)
		switch {
		case f.done:
			return f.failed
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && !(f.began && Temporary(err)):
			return c.explain(ctx, err, ref, "")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.clock.After(reconnectDelay):
		}
	}
}

// Temporary returns whether an error of a read is worth another attempt.
func Temporary(err error) bool {
	switch apierrors.ReasonForError(err) {
	case metav1.StatusReasonForbidden, metav1.StatusReasonUnauthorized, metav1.StatusReasonNotFound, metav1.StatusReasonBadRequest, metav1.StatusReasonInvalid:
		return false
	}
	return true
}

type follower struct {
	client  *Client
	ref     Reference
	observe Observe
	ticks   <-chan time.Time
	// began is true after the first list.
	began bool
	// done is true when observe is done, or has failed.
	done   bool
	failed error
}

func (f *follower) call(ctx context.Context, o *Object) (done bool) {
	f.done, f.failed = f.observe(ctx, o)
	f.done = f.done || f.failed != nil
	return f.done
}

// listAndWatch returns when the follower is done, or when the list or the watch ended.
func (f *follower) listAndWatch(ctx context.Context) error {
	opts := metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector(metav1.ObjectNameField, f.ref.Name).String()}
	page, list, err := f.client.list(ctx, f.ref.Kind, f.client.Namespace, opts)
	if err != nil {
		return err
	}
	f.began = true
	var current *Object
	if len(page) > 0 {
		current = page[0]
	}
	if f.call(ctx, current) {
		return nil
	}
	opts.ResourceVersion = list.ResourceVersion
	opts.AllowWatchBookmarks = true
	w, err := f.client.watch(ctx, f.ref.Kind, opts)
	if err != nil {
		return err
	}
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.ticks:
		case event, open := <-w.ResultChan():
			switch {
			case !open, event.Type == watch.Error:
				return nil // It may have expired: list again.
			case event.Type == watch.Bookmark:
				continue
			case event.Type == watch.Deleted:
				current = nil
			default:
				current = fromRuntime(event.Object)
			}
		}
		if f.call(ctx, current) {
			return nil
		}
	}
}
