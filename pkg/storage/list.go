// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"fmt"
	"reflect"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
	apistorage "k8s.io/apiserver/pkg/storage"
)

// The answer to clients whose revision is forgotten, in the words of
// k8s.io/apiserver/pkg/storage/etcd3/errors.go.
const (
	expiredList     = "The resourceVersion for the provided list is too old."
	expiredContinue = "The provided continue parameter is too old " +
		"to display a consistent list result. You can start a new list without " +
		"the continue parameter."
	inconsistentContinue = "The provided continue parameter is too old " +
		"to display a consistent list result. You can start a new list without " +
		"the continue parameter, or use the continue token in this response to " +
		"retrieve the remainder of the results. Continuing with the provided " +
		"token results in an inconsistent list - objects that were created, " +
		"modified, or deleted between the time the first chunk was returned " +
		"and now may show up in the list."
)

// GetList implements storage.Interface. Pages are exact: a continue token
// reads the snapshot that it began with, or gets 410.
func (s *Store) GetList(ctx context.Context, key string, opts apistorage.ListOptions, out runtime.Object) error {
	key, err := s.prepareRequest(key, opts.Recursive)
	if err != nil {
		return err
	}
	items, err := newItems(out)
	if err != nil {
		return err
	}
	exact, continueKey, err := apistorage.ValidateListOptions(key, s.versioner, opts)
	if err != nil {
		return err
	}
	t, revision, err := s.snapshot(ctx, key, uint64(max(exact, 0)), continueKey, opts)
	if err != nil {
		return err
	}
	if err := s.checkAllShown(key, t); err != nil {
		return err
	}
	p := page{prefix: key, start: continueKey, limit: opts.Predicate.Limit, items: items, listing: listingOf(ctx), encodings: s.backend.encodings, filter: s.namespaceFilter(ctx).memoized(), recordsOnly: s.leavesOutDiscovered(ctx)}
	if key == s.prefix && p.start == "" && p.limit == 0 && opts.Predicate.Empty() && p.filter.visible == nil {
		p.grow(t.Len())
	}
	if opts.Recursive {
		err = p.fill(ctx, t, &opts.Predicate)
	} else if e, found := t.Get(&entry{key: key}); found {
		_, err = p.add(e, &opts.Predicate)
	}
	if err != nil {
		return err
	}
	items.finish()

	next, remaining, err := s.continuation(t, revision, &p, opts)
	if err != nil {
		return err
	}
	if err := s.versioner.UpdateList(out, revision, next, remaining); err != nil {
		return err
	}
	opts.Predicate.SetShardInfoOnList(out)
	return nil
}

// snapshot returns what is listed, and its revision.
func (s *Store) snapshot(ctx context.Context, key string, exact uint64, continueKey string, opts apistorage.ListOptions) (*tree, uint64, error) {
	if exact == 0 || opts.Predicate.Continue == "" {
		read := readOf{key: key, recursive: opts.Recursive, recordsOnly: s.selectsRecordsOnly(&opts.Predicate), consistent: opts.ResourceVersion == ""}
		if err := s.awaitObserved(ctx, read); err != nil {
			return nil, 0, err
		}
	}
	if exact == 0 {
		atLeast, err := s.parse(opts.ResourceVersion)
		if err != nil {
			return nil, 0, err
		}
		if err := s.backend.awaitRevision(ctx, atLeast); err != nil {
			return nil, 0, err
		}
		t, revision, _ := s.view.current(&s.backend.revisions)
		return t, revision, nil
	}
	if err := s.backend.awaitRevision(ctx, exact); err != nil {
		return nil, 0, err
	}
	t, ok := s.view.atRevision(exact)
	switch {
	case ok:
		return t, exact, nil
	case opts.Predicate.Continue == "":
		return nil, 0, apierrors.NewResourceExpired(expiredList)
	}
	return nil, 0, expiredToken(continueKey, key)
}

// expiredToken offers to go on at the newest state, as etcd's storage does.
func expiredToken(continueKey, prefix string) error {
	token, err := apistorage.EncodeContinue(continueKey, prefix, -1)
	if err != nil {
		return apierrors.NewResourceExpired(expiredContinue)
	}
	expired := apierrors.NewResourceExpired(inconsistentContinue)
	expired.ErrStatus.ListMeta.Continue = token
	return expired
}

// continuation makes the token for what is left after the page, and keeps the
// snapshot that it reads.
func (s *Store) continuation(t *tree, revision uint64, p *page, opts apistorage.ListOptions) (string, *int64, error) {
	if !p.more {
		return "", nil, nil
	}
	var count int64
	if opts.Predicate.Empty() {
		ascend(t, p.prefix, p.start, func(e *entry) bool {
			if p.shows(e) {
				count++
			}
			return true
		})
	}
	s.view.keepSnapshot(revision, t, s.backend.clock.Now())
	return apistorage.PrepareContinueToken(p.last, p.prefix, int64(revision), count, true, opts)
}

// page collects what one answer has room for.
type page struct {
	prefix, start string
	limit         int64
	items         *items
	listing       *Listing // of items, in place of them; may be nil
	encodings     *encodingCache
	filter        namespaceFilter
	recordsOnly   bool

	last string // the last key that was visited
	more bool   // there are keys after it that are shown
}

// contextCheckInterval is how many objects are visited before the context is
// checked.
const contextCheckInterval = 1024

func (p *page) fill(ctx context.Context, t *tree, pred *apistorage.SelectionPredicate) (err error) {
	looked := 0
	ascend(t, p.prefix, p.start, func(e *entry) bool {
		if looked++; looked%contextCheckInterval == 0 && ctx.Err() != nil {
			err = apistorage.NewTimeoutError(p.prefix, "request did not complete within requested timeout")
			return false
		}
		if p.limit > 0 && int64(p.len()) >= p.limit {
			p.more = p.shows(e)
			return !p.more
		}
		var ok bool
		ok, err = p.add(e, pred)
		return ok
	})
	return err
}

func (p *page) shows(e *entry) bool {
	return (e.rec != nil || !p.recordsOnly) && p.filter.shows(e.key)
}

func (p *page) add(e *entry, pred *apistorage.SelectionPredicate) (bool, error) {
	p.last = e.key
	if matched, err := pred.Matches(e.obj); err != nil || !matched || !p.shows(e) {
		return true, nil
	}
	if p.listing != nil {
		p.listing.objects = append(p.listing.objects, e.listed(p.encodings))
		return true, nil
	}
	return true, p.items.append(e.obj)
}

func (p *page) len() int {
	if p.listing != nil {
		return p.listing.Len()
	}
	return p.items.len()
}

func (p *page) grow(n int) {
	if p.listing != nil {
		p.listing.objects = slices.Grow(p.listing.objects, n)
		return
	}
	p.items.slice.Grow(n)
}

// items is the slice of a list object.
type items struct {
	slice reflect.Value
}

func newItems(list runtime.Object) (*items, error) {
	ptr, err := meta.GetItemsPtr(list)
	if err != nil {
		return nil, err
	}
	v, err := conversion.EnforcePtr(ptr)
	if err != nil || v.Kind() != reflect.Slice {
		return nil, fmt.Errorf("need ptr to slice: %v", err) //nolint:errorlint // err may be nil
	}
	// Whatever the caller's list held is not part of the answer.
	v.SetZero()
	return &items{slice: v}, nil
}

func (i *items) len() int { return i.slice.Len() }

// append takes over the object's top level; what is below stays shared.
func (i *items) append(obj runtime.Object) error {
	v := reflect.ValueOf(obj).Elem()
	if v.Type() != i.slice.Type().Elem() {
		return fmt.Errorf("storage: cannot return a %T in a list of %s", obj, i.slice.Type().Elem())
	}
	n := i.slice.Len()
	i.slice.Grow(1)
	i.slice.SetLen(n + 1)
	i.slice.Index(n).Set(v)
	return nil
}

// finish makes an empty list one that is not nil.
func (i *items) finish() {
	if i.slice.IsNil() {
		i.slice.Set(reflect.MakeSlice(i.slice.Type(), 0, 0))
	}
}
