// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
)

const (
	// uncertainFor is for how long a write whose outcome is unknown may still
	// arrive in the ledger.
	uncertainFor = 2 * time.Minute
	// resolveBackoff is the first pause before the ledger is asked again; they
	// double up to resolveBackoffMax.
	resolveBackoff    = time.Second
	resolveBackoffMax = 30 * time.Second
	// resolveReadTimeout is how long a read waits for the ledger.
	resolveReadTimeout = time.Second
)

// uncertainWrites are the keys of which the ledger may have another state than the
// view, because the outcome of a write is unknown.
type uncertainWrites struct {
	count atomic.Int64 // so that keys are checked without a lock while there are none
	added broadcast

	mu     sync.Mutex
	writes map[storeKey]uncertainWrite
}

type uncertainWrite struct {
	since           time.Time
	previousVersion string // the version before the write; "" if there was no record
	checked         bool   // the ledger was read since
}

func (u *uncertainWrites) init() { u.writes = map[storeKey]uncertainWrite{} }

func (u *uncertainWrites) get(p storeKey) (uncertainWrite, bool) {
	if u.count.Load() == 0 {
		return uncertainWrite{}, false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	found, ok := u.writes[p]
	return found, ok
}

func (u *uncertainWrites) set(p storeKey, w uncertainWrite) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.writes[p] = w
	u.count.Store(int64(len(u.writes)))
	u.added.wake()
}

func (u *uncertainWrites) clear(p storeKey) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.writes, p)
	u.count.Store(int64(len(u.writes)))
}

func (u *uncertainWrites) keys() []storeKey {
	u.mu.Lock()
	defer u.mu.Unlock()
	places := make([]storeKey, 0, len(u.writes))
	for p := range u.writes {
		places = append(places, p)
	}
	return places
}

// markUncertain notes that a write over cur may have been done or may yet be.
func (s *Store) markUncertain(key string, cur *entry) {
	before := ""
	if cur != nil {
		before = cur.rec.version
	}
	s.backend.uncertain.set(storeKey{s, key}, uncertainWrite{since: s.backend.clock.Now(), previousVersion: before})
}

// resolveUncertain makes the view of key agree with the ledger if its last write is uncertain.
func (s *Store) resolveUncertain(ctx context.Context, key string) error {
	if _, found := s.backend.uncertain.get(storeKey{s, key}); !found {
		return nil
	}
	unlock, err := s.keys.Lock(ctx, key)
	if err != nil {
		return err
	}
	defer unlock()
	return s.resolveUncertainLocked(ctx, key)
}

func (s *Store) resolveUncertainLocked(ctx context.Context, key string) error {
	p := storeKey{s, key}
	d, uncertain := s.backend.uncertain.get(p)
	if !uncertain {
		return nil
	}
	found, err := s.readRecord(ctx, key)
	if err != nil {
		return timeoutError(fmt.Sprintf("outcome of an earlier write of %s %q unknown: failed to read the ledger: %v", s.resource, s.name(key), err))
	}
	if err := s.showRecord(key, found); err != nil {
		return err
	}
	version := ""
	if found != nil {
		version = found.Version
	}
	if version != d.previousVersion || s.backend.clock.Since(d.since) >= uncertainFor {
		s.backend.uncertain.clear(p)
		return nil
	}
	d.checked = true
	s.backend.uncertain.mu.Lock()
	s.backend.uncertain.writes[p] = d
	s.backend.uncertain.mu.Unlock()
	return nil
}

// resolveUncertainForRead is resolveUncertain for reads, which answer from the view in any case.
func (s *Store) resolveUncertainForRead(ctx context.Context, key string) {
	d, uncertain := s.backend.uncertain.get(storeKey{s, key})
	if !uncertain || d.checked {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, resolveReadTimeout)
	defer cancel()
	_ = s.resolveUncertain(ctx, key) // what is not resolved is retried later
}

// resolveUncertainWrites resolves what no request resolves.
func (b *Backend) resolveUncertainWrites() {
	pause := resolveBackoff
	for {
		added := b.uncertain.added.wait()
		if b.uncertain.count.Load() == 0 {
			select {
			case <-added:
				pause = resolveBackoff
				continue
			case <-b.ctx.Done():
				return
			}
		}
		timer := b.clock.NewTimer(pause)
		select {
		case <-timer.C():
		case <-b.ctx.Done():
			timer.Stop()
			return
		case <-b.guard.Met(): // they stay uncertain
			timer.Stop()
			return
		}
		pause = min(2*pause, resolveBackoffMax)
		for _, p := range b.uncertain.keys() {
			if err := p.store.resolveUncertain(b.ctx, p.key); err != nil {
				klog.FromContext(b.ctx).Error(err, "Failed to resolve an uncertain write: the view may differ from the ledger", "key", p.key)
			}
		}
	}
}

// readRecord returns the record of key in the ledger, or nil.
func (s *Store) readRecord(ctx context.Context, key string) (*ledger.Record, error) {
	records, err := s.backend.ledgerLists.listFresh(ctx)
	if err != nil {
		return nil, err
	}
	if r, found := records[s.ledgerKey(key)]; found {
		return &r, nil
	}
	return nil, nil
}

// showRecord shows what the ledger has of key, because another server wrote it.
// The caller holds the key's lock since before the ledger was read.
func (s *Store) showRecord(key string, found *ledger.Record) error {
	cur := s.view.get(key)
	known := cur != nil && cur.rec != nil
	switch {
	case found == nil:
		if known {
			s.backend.commitRecord(s, key, nil)
		}
		return nil
	case known && cur.rec.version == found.Version:
		return nil
	}
	rec, err := s.decode(*found)
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("%w; repair it, or delete it from the ledger", err))
	}
	s.backend.commitRecord(s, key, rec)
	s.scheduleExpiry(key, rec)
	return nil
}
