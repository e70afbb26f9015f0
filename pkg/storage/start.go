// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// Preload reads the ledger and shows nothing of it. A process that waits for its
// turn to start does so now and then: so it knows which metal records name, and
// its start has less to read. It is called after the last Open.
func (b *Backend) Preload(ctx context.Context) error {
	_, known, err := b.read(ctx)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.started.Load() {
		b.known = known
		b.index.forgetChangedRefs()
	}
	return nil
}

// Start reads the ledger, reserves the revisions from which this process goes
// on, and fills all views. It fails if a record cannot be read, rather than
// show less than there is. It is called once, by a process that may write.
func (b *Backend) Start(ctx context.Context) error {
	for attempt := 1; ; attempt++ {
		list, known, err := b.read(ctx)
		if err != nil {
			return err
		}
		err = b.revisions.begin(ctx, list)
		switch {
		case err == nil:
			b.fillViews(known)
			return nil
		case !isRefusal(err) || attempt == beginAttempts:
			return fmt.Errorf("failed to start storage: %w", err)
		}
	}
}

// Stop ends everything: watches, and what is done in the background. Nothing is
// answered any more.
func (b *Backend) Stop() { b.stop() }

// checkServing returns an error unless this process is the one that answers.
func (b *Backend) checkServing() error {
	switch {
	case !b.started.Load():
		return retryLaterError("records not read yet: retry")
	case b.ctx.Err() != nil:
		return retryLaterError("server is stopping: retry")
	}
	if err := b.fence.Check(); err != nil {
		return retryLaterError(err.Error())
	}
	return nil
}

// read lists the ledger and decodes what is in it, by key, as far as it was not
// known before. The list has no values of what was.
func (b *Backend) read(ctx context.Context) (list map[string]ledger.Record, known map[string]*record, err error) {
	b.mu.Lock()
	stores, before := b.stores, b.known
	b.mu.Unlock()
	versions := make(map[string]string, len(before))
	for key, rec := range before {
		versions[key] = rec.version
	}
	all, err := ledger.ListChanged(ctx, b.ledger, versions)
	if err != nil {
		return nil, nil, fmt.Errorf("storage: failed to read the ledger: %w", err)
	}
	list, known = byKey(all), make(map[string]*record, len(all))
	interned := newInterner()
	for _, s := range stores {
		for key, r := range list {
			if !strings.HasPrefix(key, s.ledgerPrefix) {
				continue
			}
			rec := before[key]
			if rec == nil || rec.version != r.Version {
				if rec, err = s.decode(r); err != nil {
					return nil, nil, fmt.Errorf("storage: failed to load %s: %w; the server starts only with all records: repair the record, or delete it from the ledger", s.resource, err)
				}
				interned.intern(rec.obj)
				rec.refs = s.refs(rec.obj)
			}
			known[key] = rec
		}
	}
	return list, known, nil
}

// fillViews fills the views with what is known, and with the metal that was seen and
// that nothing of it refers to.
func (b *Backend) fillViews(known map[string]*record) {
	b.mu.Lock()
	defer b.mu.Unlock()
	keys := slices.Sorted(maps.Keys(known))
	for _, s := range b.stores {
		for _, key := range keys {
			if strings.HasPrefix(key, s.ledgerPrefix) {
				b.index.setRefs(storeKey{s, s.key(key)}, nil, known[key].refs)
				b.index.holders.setRecord(storeKey{s, s.key(key)}, known[key])
			}
		}
	}
	b.index.forgetChangedRefs()
	start := b.revisions.last.Load()
	for _, s := range b.stores {
		s.load(known, start)
	}
	t := b.newChangeSet()
	for ref := range b.index.observed {
		for _, s := range b.stores {
			t.discoverExpanded(s, ref)
		}
	}
	t.publish()
	b.known = nil
	b.started.Store(true)
}

// Resync makes the views agree with the ledger once more. Of two processes
// that follow each other, the former may have begun a write while it still
// could, that arrived after the latter had read the ledger.
func (b *Backend) Resync(ctx context.Context) error {
	records, err := b.ledgerLists.listFresh(ctx)
	if err != nil {
		return fmt.Errorf("storage: failed to read the ledger: %w", err)
	}
	different := b.divergent(records)
	if len(different) == 0 {
		return nil
	}
	// Most of them differ because they are being written just now, and not any
	// more by the second read.
	for _, p := range different {
		unlock, err := p.store.keys.Lock(ctx, p.key)
		if err != nil {
			return err
		}
		defer unlock()
	}
	if records, err = b.ledgerLists.listFresh(ctx); err != nil {
		return fmt.Errorf("storage: failed to read the ledger: %w", err)
	}
	for _, p := range different {
		if err := b.revisions.ensureReserved(ctx); err != nil {
			return err
		}
		var found *ledger.Record
		if r, there := records[p.store.ledgerKey(p.key)]; there {
			found = &r
		}
		if p.differs(found) {
			klog.FromContext(ctx).Info("Record was written after it had been read: updating the view", "key", p.key)
		}
		if err := p.store.showRecord(p.key, found); err != nil {
			return err
		}
	}
	return nil
}

// divergent are the places of which records says something else than the view.
func (b *Backend) divergent(records map[string]ledger.Record) []storeKey {
	var places []storeKey
	for _, s := range b.stores {
		t, _, _ := s.view.current(&b.revisions)
		ascend(t, s.prefix, "", func(e *entry) bool {
			if _, found := records[s.ledgerKey(e.key)]; e.rec != nil && !found {
				places = append(places, storeKey{s, e.key})
			}
			return true
		})
		for key, r := range records {
			if p := (storeKey{s, s.key(key)}); strings.HasPrefix(key, s.ledgerPrefix) && p.differs(&r) {
				places = append(places, p)
			}
		}
	}
	return places
}

// differs is whether found, which may be nil, is not the record in the view.
func (k storeKey) differs(found *ledger.Record) bool {
	e := k.store.view.get(k.key)
	if e == nil || e.rec == nil || found == nil {
		return (e != nil && e.rec != nil) != (found != nil)
	}
	return e.rec.version != found.Version
}

// RecordedRefs returns how the metal that records name differs from what it was at an earlier
// position, 0 for none: it is to be confirmed even if it has gone from every listing.
func (b *Backend) RecordedRefs(since uint64) metal.RefChanges {
	b.mu.Lock()
	defer b.mu.Unlock()
	changes := metal.RefChanges{Position: b.index.refsPosition()}
	changed, ok := b.index.refsChangedSince(since)
	if !ok {
		changes.Complete, changes.Added = true, b.recordedRefs()
		return changes
	}
	seen := make(map[metal.Ref]struct{}, len(changed))
	for _, ref := range changed {
		if _, again := seen[ref]; again {
			continue
		}
		seen[ref] = struct{}{}
		if len(b.index.recordsByRef[ref]) > 0 {
			changes.Added = append(changes.Added, ref)
		} else {
			changes.Removed = append(changes.Removed, ref)
		}
	}
	return changes
}

// recordedRefs is all metal that records name.
func (b *Backend) recordedRefs() []metal.Ref {
	if b.started.Load() {
		return slices.Collect(maps.Keys(b.index.recordsByRef))
	}
	named := map[metal.Ref]struct{}{}
	for _, rec := range b.known {
		for _, ref := range rec.refs {
			named[ref] = struct{}{}
		}
	}
	return slices.Collect(maps.Keys(named))
}
