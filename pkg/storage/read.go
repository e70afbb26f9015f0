// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	apistorage "k8s.io/apiserver/pkg/storage"
)

const (
	// revisionTimeout is how long a read waits for a revision that was not
	// issued yet.
	revisionTimeout = 3 * time.Second
	// revisionRetrySeconds is the Retry-After of the answer after that.
	revisionRetrySeconds = 1
	// maxWaiting is how many reads and watches may wait for a revision at a time.
	// Any client can ask for one that will not be issued, and each that waits
	// takes one of the server's requests in flight (400 that read).
	maxWaiting = 50
)

// Get implements storage.Interface. A resource version of "" is the most
// recent state, "0" the view as it is, and N the view as soon as it has
// reached N.
func (s *Store) Get(ctx context.Context, key string, opts apistorage.GetOptions, out runtime.Object) error {
	key, err := s.prepareRequest(key, false)
	if err != nil {
		return err
	}
	revision, err := s.parse(opts.ResourceVersion)
	if err != nil {
		return err
	}
	if opts.ResourceVersion == "" && isDryRunWrite(ctx) {
		return s.getForWrite(ctx, key, opts, out)
	}
	if !s.isHidden(ctx, key) {
		consistent := opts.ResourceVersion == ""
		if consistent {
			s.resolveUncertainForRead(ctx, key)
		}
		if !isDryRunCreate(ctx) && !s.deletesRecord(ctx, key) {
			if err := s.awaitObserved(ctx, readOf{key: key, consistent: consistent}); err != nil {
				return err
			}
		}
	}
	if err := s.backend.awaitRevision(ctx, revision); err != nil {
		return err
	}
	e := s.view.get(key)
	if err := s.checkShown(key, e); err != nil {
		return err
	}
	switch {
	case e != nil && !s.isHidden(ctx, key) && (e.rec != nil || !s.leavesOutDiscovered(ctx)):
		if l := listingOf(ctx); l != nil {
			l.objects = append(l.objects, e.listed(s.backend.encodings))
			return nil
		}
		return copyInto(out, e.obj)
	case opts.IgnoreNotFound:
		return runtime.SetZeroValue(out)
	}
	return apistorage.NewKeyNotFoundError(key, 0)
}

func (s *Store) parse(resourceVersion string) (uint64, error) {
	revision, err := s.versioner.ParseResourceVersion(resourceVersion)
	if err != nil {
		return 0, apierrors.NewBadRequest(fmt.Sprintf("invalid resource version: %v", err))
	}
	return revision, nil
}

type deletionKey struct{}

// WithDeletion makes the context one of a deletion, before which the generic registry reads
// the most recent state of the object. If that has a record, the read has nothing observed:
// what a deletion changes is the record, by compare-and-swap, whatever its metal is.
func WithDeletion(ctx context.Context) context.Context {
	return context.WithValue(ctx, deletionKey{}, true)
}

// deletesRecord returns whether a read with the context is of a record that is to be deleted.
func (s *Store) deletesRecord(ctx context.Context, key string) bool {
	if ctx.Value(deletionKey{}) == nil {
		return false
	}
	e := s.view.get(key)
	return e != nil && e.rec != nil
}
