// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	apistorage "k8s.io/apiserver/pkg/storage"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline/warning"
)

// errRecordChanged says that the record has changed: read it again.
var errRecordChanged = errors.New("record changed")

// Create implements storage.Interface.
func (s *Store) Create(ctx context.Context, key string, obj, out runtime.Object, ttl uint64) error {
	key, err := s.prepareWrite(key)
	if err != nil {
		return err
	}
	if revision, err := s.versioner.ObjectResourceVersion(obj); err == nil && revision != 0 {
		return apistorage.ErrResourceVersionSetOnCreate
	}
	next, err := s.encode(obj, s.expiryTime(ttl), s.origin(key, nil))
	if err != nil {
		return err
	}
	if s.isHidden(ctx, key) {
		return s.hiddenError(key)
	}
	for {
		at := s.view.get(key)
		replaced := at != nil && at.rec == nil && s.kind != ""
		shown, err := s.swap(ctx, key, nil, next)
		switch {
		case errors.Is(err, errRecordChanged):
			if s.view.get(key) != nil {
				return apistorage.NewKeyExistsError(key, 0)
			}
			continue
		case err != nil:
			return err
		}
		if replaced {
			warning.Add(ctx, "%s %q: the discovered object of this name is not shown while this one exists", s.resource.Resource, s.name(key))
		}
		if out == nil {
			return nil
		}
		return copyInto(out, shown)
	}
}

// GuaranteedUpdate implements storage.Interface. The suggested object is not
// needed: the current one is at hand, and the ledger refuses the write if it is not
// current after all.
func (s *Store) GuaranteedUpdate(ctx context.Context, key string, destination runtime.Object, ignoreNotFound bool, preconditions *apistorage.Preconditions, tryUpdate apistorage.UpdateFunc, _ runtime.Object) error {
	key, err := s.prepareWrite(key)
	if err != nil {
		return err
	}
	for {
		cur, err := s.current(ctx, key)
		if err != nil {
			return err
		}
		if cur == nil && !ignoreNotFound {
			return apistorage.NewKeyNotFoundError(key, 0)
		}
		next, err := s.tryUpdate(key, cur, preconditions, tryUpdate)
		if err != nil {
			return err
		}
		if cur == nil && s.isHidden(ctx, key) {
			return s.hiddenError(key)
		}
		if cur != nil && !cur.rec.needsRewrite && next.sum == cur.rec.sum && next.origin == cur.rec.origin {
			return copyInto(destination, cur.obj)
		}
		shown, err := s.swap(ctx, key, cur, next)
		if errors.Is(err, errRecordChanged) {
			continue
		}
		if err != nil {
			return err
		}
		return copyInto(destination, shown)
	}
}

// tryUpdate returns the draft of what the caller makes of the object as it is
// shown; of nothing, it makes it of a new one.
func (s *Store) tryUpdate(key string, cur *entry, preconditions *apistorage.Preconditions, tryUpdate apistorage.UpdateFunc) (*draft, error) {
	input, response, expires := s.newFunc(), apistorage.ResponseMeta{}, time.Time{}
	if cur != nil {
		input = cur.obj.DeepCopyObject()
		response.ResourceVersion, _ = s.versioner.ObjectResourceVersion(input)
		expires = cur.rec.expires
		response.TTL = s.timeToLive(expires)
	}
	if err := preconditions.Check(key, input); err != nil {
		return nil, err
	}
	output, ttl, err := tryUpdate(input, response)
	if err != nil {
		return nil, err
	}
	if ttl != nil {
		expires = s.expiryTime(*ttl)
	}
	return s.encode(output, expires, s.origin(key, cur))
}

// current returns what is at key to be written over: an entry with a record,
// or nil.
func (s *Store) current(ctx context.Context, key string) (*entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.resolveUncertain(ctx, key); err != nil {
		return nil, err
	}
	cur := s.view.get(key)
	switch {
	case s.isHidden(ctx, key):
		return nil, nil // As if it were not there.
	case cur != nil && cur.rec == nil:
		return nil, s.readOnlyError(cur)
	}
	return cur, nil
}

// Delete implements storage.Interface.
func (s *Store) Delete(ctx context.Context, key string, out runtime.Object, preconditions *apistorage.Preconditions, validateDeletion apistorage.ValidateObjectFunc, _ runtime.Object, _ apistorage.DeleteOptions) error {
	key, err := s.prepareWrite(key)
	if err != nil {
		return err
	}
	for {
		cur, err := s.current(ctx, key)
		if err != nil {
			return err
		}
		if cur == nil {
			return apistorage.NewKeyNotFoundError(key, 0)
		}
		if err := preconditions.Check(key, cur.obj); err != nil {
			return err
		}
		if err := validateDeletion(ctx, cur.obj.DeepCopyObject()); err != nil {
			return err
		}
		deleted, err := s.swap(ctx, key, cur, nil)
		if errors.Is(err, errRecordChanged) {
			continue
		}
		if err != nil {
			return err
		}
		return copyInto(out, deleted)
	}
}

// swap puts next in the place of cur, in the ledger and then in the view, and
// returns the object as it is shown, or as it was deleted. Either may be nil,
// for none. It returns errRecordChanged if cur is not what is there.
func (s *Store) swap(ctx context.Context, key string, cur *entry, next *draft) (runtime.Object, error) {
	if err := s.backend.revisions.ensureReserved(ctx); err != nil {
		return nil, err
	}
	unlock, err := s.keys.Lock(ctx, key)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := s.resolveUncertainLocked(ctx, key); err != nil {
		return nil, err
	}
	// Only the record counts: the metal half may have moved on, and does not
	// touch what is written.
	if !s.sameRecord(cur, s.view.get(key)) {
		return nil, errRecordChanged
	}
	// A client that goes away must not leave the outcome open.
	detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), ledgerTimeout)
	defer cancel()
	version, err := s.write(detached, key, cur, next)
	if err != nil {
		version, err = s.resolveOutcome(detached, key, cur, next, err)
	}
	if err != nil {
		return nil, err
	}
	if err := s.backend.fence.CheckExclusive(); err != nil {
		// It was done, but the active process may have read the ledger before.
		return nil, unknownOutcomeError(s, key, err)
	}
	if next == nil {
		return s.backend.commitRecord(s, key, nil), nil
	}
	rec := next.record
	rec.version = version
	shown := s.backend.commitRecord(s, key, &rec)
	s.scheduleExpiry(key, &rec)
	return shown, nil
}

// sameRecord returns whether found, at a key, has the record of cur, which is what a write is to
// replace; either may be nil. A record of a resource with a Kind takes the place of what is
// discovered: whether that is known already must not decide whether it can be created.
func (s *Store) sameRecord(cur, found *entry) bool {
	if s.kind != "" && found != nil && found.rec == nil {
		found = nil
	}
	if cur == nil || found == nil {
		return cur == found
	}
	return cur.rec == found.rec
}

func (s *Store) write(ctx context.Context, key string, cur *entry, next *draft) (version string, err error) {
	key = s.ledgerKey(key)
	switch {
	case next == nil:
		return "", s.backend.ledger.Delete(ctx, key, cur.rec.version)
	case cur == nil:
		return s.backend.ledger.Create(ctx, key, next.value)
	default:
		return s.backend.ledger.Update(ctx, key, cur.rec.version, next.value)
	}
}

// resolveOutcome finds out what became of a write that the ledger did not
// acknowledge. It returns the version if the write was done after all, and
// errRecordChanged if another server's was.
func (s *Store) resolveOutcome(ctx context.Context, key string, cur *entry, next *draft, cause error) (version string, err error) {
	if errors.Is(cause, ledger.ErrNotWritten) {
		return "", notWrittenError(s, key, cause)
	}
	if isRefusal(cause) {
		ledgerConflicts.WithLabelValues(s.resource.Resource).Inc()
	} else {
		ledgerUncertain.WithLabelValues(s.resource.Resource).Inc()
	}
	found, err := s.readRecord(ctx, key)
	if err != nil {
		s.markUncertain(key, cur)
		return "", unknownOutcomeError(s, key, errors.Join(cause, err))
	}
	switch {
	case wasWritten(found, next) && (!isRefusal(cause) || hasUID(next)):
		if found == nil {
			return "", nil
		}
		return found.Version, nil
	case !isRefusal(cause) && unchanged(found, cur):
		// The write may still be on its way.
		s.markUncertain(key, cur)
		return "", unknownOutcomeError(s, key, cause)
	}
	if err := s.showRecord(key, found); err != nil {
		return "", err
	}
	return "", errRecordChanged
}

// wasWritten reports whether the ledger has what next wanted.
func wasWritten(found *ledger.Record, next *draft) bool {
	if found == nil || next == nil {
		return found == nil && next == nil
	}
	return string(found.Value) == string(next.value)
}

// hasUID reports whether next can only be this write's: a ledger that
// tries again after a lost reply is refused because of its own success.
func hasUID(next *draft) bool {
	if next == nil {
		return false
	}
	m, err := meta.Accessor(next.obj)
	return err == nil && m.GetUID() != ""
}

// unchanged reports whether the ledger has what cur knows.
func unchanged(found *ledger.Record, cur *entry) bool {
	if found == nil || cur == nil {
		return found == nil && cur == nil
	}
	return found.Version == cur.rec.version
}
