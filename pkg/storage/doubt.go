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
	// doubtLife is for how long a write whose outcome is not known may still
	// arrive in the ledger.
	doubtLife = 2 * time.Minute
	// doubtPause is the first pause before the ledger is asked again; they
	// double up to doubtPauseMax.
	doubtPause    = time.Second
	doubtPauseMax = 30 * time.Second
	// doubtReadPatience is how long a read waits for the ledger.
	doubtReadPatience = time.Second
)

// doubts are the keys of which the ledger may have another state than the
// view, because it is not known what became of a write.
type doubts struct {
	count atomic.Int64 // so that nobody pays who has no doubts
	added broadcast

	mu   sync.Mutex
	keys map[place]doubt
}

type doubt struct {
	since  time.Time
	before string // the version before the write; "" if there was no record
	looked bool   // the ledger was read since
}

func (d *doubts) init() { d.keys = map[place]doubt{} }

func (d *doubts) get(p place) (doubt, bool) {
	if d.count.Load() == 0 {
		return doubt{}, false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	found, ok := d.keys[p]
	return found, ok
}

func (d *doubts) set(p place, doubt doubt) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.keys[p] = doubt
	d.count.Store(int64(len(d.keys)))
	d.added.wake()
}

func (d *doubts) clear(p place) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.keys, p)
	d.count.Store(int64(len(d.keys)))
}

func (d *doubts) places() []place {
	d.mu.Lock()
	defer d.mu.Unlock()
	places := make([]place, 0, len(d.keys))
	for p := range d.keys {
		places = append(places, p)
	}
	return places
}

// doubt notes that a write over cur may have been done or may yet be.
func (s *Store) doubt(key string, cur *entry) {
	before := ""
	if cur != nil {
		before = cur.rec.version
	}
	s.backend.doubts.set(place{s, key}, doubt{since: s.backend.clock.Now(), before: before})
}

// settleDoubt makes the view of key agree with the ledger if there is doubt.
func (s *Store) settleDoubt(ctx context.Context, key string) error {
	if _, found := s.backend.doubts.get(place{s, key}); !found {
		return nil
	}
	unlock, err := s.keys.lock(ctx, key)
	if err != nil {
		return err
	}
	defer unlock()
	return s.settleDoubtLocked(ctx, key)
}

func (s *Store) settleDoubtLocked(ctx context.Context, key string) error {
	p := place{s, key}
	d, doubtful := s.backend.doubts.get(p)
	if !doubtful {
		return nil
	}
	found, err := s.look(ctx, key)
	if err != nil {
		return newTimeout(fmt.Sprintf("what became of an earlier write of %s %q is not known, and the ledger cannot be read: %v", s.resource, s.name(key), err))
	}
	if err := s.takeOver(key, found); err != nil {
		return err
	}
	version := ""
	if found != nil {
		version = found.Version
	}
	if version != d.before || s.backend.clock.Since(d.since) >= doubtLife {
		s.backend.doubts.clear(p)
		return nil
	}
	d.looked = true
	s.backend.doubts.mu.Lock()
	s.backend.doubts.keys[p] = d
	s.backend.doubts.mu.Unlock()
	return nil
}

// settleForRead is settleDoubt for those who answer from the view in any case.
func (s *Store) settleForRead(ctx context.Context, key string) {
	d, doubtful := s.backend.doubts.get(place{s, key})
	if !doubtful || d.looked {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, doubtReadPatience)
	defer cancel()
	_ = s.settleDoubt(ctx, key) // what is not settled is repaired later
}

// repair settles doubts that nobody else settles.
func (b *Backend) repair() {
	pause := doubtPause
	for {
		added := b.doubts.added.wait()
		if b.doubts.count.Load() == 0 {
			select {
			case <-added:
				pause = doubtPause
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
		}
		pause = min(2*pause, doubtPauseMax)
		for _, p := range b.doubts.places() {
			if err := p.store.settleDoubt(b.ctx, p.key); err != nil {
				klog.FromContext(b.ctx).Error(err, "The ledger and the view may differ", "key", p.key)
			}
		}
	}
}

// look returns the record of key in the ledger, or nil.
func (s *Store) look(ctx context.Context, key string) (*ledger.Record, error) {
	records, err := s.backend.looks.look(ctx)
	if err != nil {
		return nil, err
	}
	if r, found := records[s.ledgerKey(key)]; found {
		return &r, nil
	}
	return nil, nil
}

// takeOver shows what the ledger has of key, because another server wrote it.
// The caller holds the key's lock since before the ledger was read.
func (s *Store) takeOver(key string, found *ledger.Record) error {
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
	s.expireLater(key, rec)
	return nil
}
