// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/watch"
	apistorage "k8s.io/apiserver/pkg/storage"
)

// Watch implements storage.Interface. Where the watch begins is fixed before
// it returns. A start that is forgotten, or that this process never issued,
// is answered by a watch that says so and ends, as clients expect it.
//
//	sendInitialEvents  resourceVersion  begins with
//	unset              "" or "0"        what is there
//	unset or false     N                the events after N
//	false              "" or "0"        the events after now
//	true               any              what is there, as soon as the view has reached N, and a bookmark
func (s *Store) Watch(ctx context.Context, key string, opts apistorage.ListOptions) (watch.Interface, error) {
	key, err := s.prepareRequest(key, opts.Recursive)
	if err != nil {
		return nil, err
	}
	revision, err := s.versioner.ParseResourceVersion(opts.ResourceVersion)
	if err != nil {
		return nil, err
	}
	wanted := opts.SendInitialEvents != nil && *opts.SendInitialEvents
	read := readOf{key: key, recursive: opts.Recursive, recordsOnly: s.selectsRecordsOnly(&opts.Predicate), consistent: opts.ResourceVersion == ""}
	if revision == 0 || wanted {
		if err := s.awaitObserved(ctx, read); err != nil {
			return nil, err
		}
	}
	w := newWatcher(ctx, s, key, opts)
	if err := w.start(revision, opts); err != nil {
		w.initial, w.failed = nil, err
	}
	w.stopWatching = s.watching(ctx, read)
	s.watches.Add(1)
	go w.run()
	return w, nil
}

// start finds the position from which the watcher reads.
func (w *watcher) start(revision uint64, opts apistorage.ListOptions) error {
	s := w.store
	wanted := opts.SendInitialEvents != nil && *opts.SendInitialEvents
	refused := opts.SendInitialEvents != nil && !*opts.SendInitialEvents
	fromNow := revision == 0 || wanted
	if err := s.backend.awaitRevision(w.ctx, revision); err != nil {
		return err
	}
	if fromNow {
		w.initial, w.revision, w.position = s.view.current(&s.backend.revisions)
		if err := s.checkAllShown(w.key, w.initial); err != nil {
			return err
		}
		if refused {
			w.initial = nil
		}
		w.endBookmark = wanted && w.bookmarks
		return nil
	}
	s.view.mu.RLock()
	defer s.view.mu.RUnlock()
	position, ok := s.view.ring.after(revision)
	if !ok {
		return apierrors.NewResourceExpired(fmt.Sprintf("too old resource version: %d (%d)", revision, s.view.ring.floor))
	}
	w.revision, w.position = revision, position
	return nil
}

// errorEvent is the event that ends a watch.
func errorEvent(err error) watch.Event {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		status = apierrors.NewInternalError(err)
	}
	st := status.Status()
	return watch.Event{Type: watch.Error, Object: st.DeepCopy()}
}
