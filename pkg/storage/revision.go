// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	"metal-stack.io/infrastructure-apiserver/pkg/recordformat"
	"metal-stack.io/infrastructure-apiserver/pkg/version"
)

const (
	// markKey is the record of the revision up to which revisions may have
	// been issued.
	markKey = "_meta/revision"
	// reserveAhead is how far the mark runs ahead of what is issued.
	reserveAhead = time.Minute
	// maxRevision is the last whole number that every JSON reader keeps.
	maxRevision = 1<<53 - 1
	// reserveRetry is the pause after a mark that could not be written.
	reserveRetry = time.Second
	// beginAttempts is how often it is tried to go on with the revisions, if
	// others do so, too.
	beginAttempts = 5
	// reserveTimeout is how long a write waits for revisions.
	reserveTimeout = 5 * time.Second
)

// mark is the value of the record at markKey.
type mark struct {
	// Format is that of the record, and WrittenBy the version of the server, for those
	// that read no such format.
	Format    int    `json:"format"`
	WrittenBy string `json:"writtenBy,omitempty"`
	// Reserved is the highest revision that may have been issued.
	Reserved uint64 `json:"reserved"`
}

// revisions issues the revisions of the server: one strictly increasing scale
// over all resources, in microseconds since 1970 where the clock allows it.
// None beyond the ceiling is issued, and the ceiling is in the ledger before
// it is used: so a successor begins above everything that was ever issued.
type revisions struct {
	ctx    context.Context // ends reservations
	clock  clock.Clock
	ledger ledger.Ledger
	// check returns an error if nothing is written any more; nil: it never does.
	check func() error
	step  uint64
	last  atomic.Uint64 // issued last

	mu        sync.Mutex
	ceiling   uint64
	floor     uint64 // what a server that wrote the mark in between may have issued
	version   string // of the mark; "" if it is not known
	reserving bool
	lastError error // why the last reservation failed
	reserved  broadcast
}

// begin reserves the first revisions above the mark that list holds. It
// returns ledger.ErrConflict or ErrExists if another server was faster.
func (r *revisions) begin(ctx context.Context, list map[string]ledger.Record) error {
	m, version, err := readMark(list)
	if err != nil {
		return err
	}
	start := max(m.Reserved+1, r.now())
	ceiling := start + r.step
	if version, err = r.write(ctx, version, ceiling); err != nil {
		return fmt.Errorf("failed to reserve revisions: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.version, r.ceiling = version, ceiling
	r.last.Store(start)
	return nil
}

func readMark(list map[string]ledger.Record) (m mark, version string, err error) {
	record, found := list[markKey]
	if !found {
		return mark{}, "", nil
	}
	if err = recordformat.Check(record.Value); err == nil {
		err = json.Unmarshal(record.Value, &m)
	}
	if err == nil && m.Reserved >= maxRevision {
		err = fmt.Errorf("reserved: %d is beyond the integers that JSON readers keep exactly", m.Reserved)
	}
	if err != nil {
		return mark{}, "", fmt.Errorf("invalid record %s, which holds the highest reserved revision: write {\"reserved\":<microseconds since 1970>} to it, above every resourceVersion that clients have seen: %w", markKey, err)
	}
	return m, record.Version, nil
}

func (r *revisions) write(ctx context.Context, previous string, ceiling uint64) (string, error) {
	value, err := json.Marshal(mark{Format: recordformat.Written, WrittenBy: version.Get().Version, Reserved: ceiling})
	if err != nil {
		return "", err
	}
	if previous == "" {
		return r.ledger.Create(ctx, markKey, value)
	}
	return r.ledger.Update(ctx, markKey, previous, value)
}

// now is the clock on the scale of revisions, or 0 if it shows nonsense.
func (r *revisions) now() uint64 {
	if us := r.clock.Now().UnixMicro(); us > 0 && us < maxRevision {
		return uint64(us)
	}
	return 0
}

// next issues the next revision. Callers call ensureReserved first, while no
// lock is held, so that one is always left.
func (r *revisions) next() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	next := max(r.last.Load()+1, r.floor+1)
	if now > next && now+r.step/4 <= r.ceiling {
		next = now
	}
	if next > r.ceiling {
		panic(fmt.Sprintf("storage: revision %d is not reserved: changes are committed without reserving revisions first", next))
	}
	r.last.Store(next)
	return next
}

// ensureReserved returns when plenty of revisions are left, and starts to reserve more
// in time. It returns an error if none can be had.
func (r *revisions) ensureReserved(ctx context.Context) error {
	if r.check != nil {
		if err := r.check(); err != nil {
			return retryLaterError(err.Error())
		}
	}
	if r.hasEnough() {
		return nil
	}
	timer := r.clock.NewTimer(reserveTimeout)
	defer timer.Stop()
	for {
		reserved := r.reserved.wait()
		if r.hasEnough() {
			return nil
		}
		if r.ctx.Err() != nil {
			// Reservations fail at once now, and would be retried without a pause.
			return apierrors.NewServiceUnavailable("server is stopping: no write is accepted")
		}
		select {
		case <-reserved:
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C():
			r.mu.Lock()
			defer r.mu.Unlock()
			return apierrors.NewServiceUnavailable(fmt.Sprintf("failed to reserve revisions in the ledger: no write is accepted: %v", r.lastError))
		}
	}
}

func (r *revisions) hasEnough() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.last.Load()
	if max(last, r.now())+r.step/2 > r.ceiling && !r.reserving {
		r.reserving = true
		go r.reserve(r.version)
	}
	return max(last, r.floor)+r.step/4 <= r.ceiling
}

// reserve raises the ceiling once. A mark whose write has an uncertain outcome
// is not relied on: it is read again first.
func (r *revisions) reserve(version string) {
	ctx, cancel := context.WithTimeout(r.ctx, ledgerTimeout)
	defer cancel()
	ceiling, floor, version, err := r.raise(ctx, version)
	for attempt := 1; isRefusal(err) && attempt < beginAttempts; attempt++ {
		ceiling, floor, version, err = r.raise(ctx, "") // another server was faster
	}
	if err != nil && r.ctx.Err() == nil {
		klog.FromContext(ctx).Error(err, "Failed to reserve revisions: retrying", "retryAfter", reserveRetry.String())
		timer := r.clock.NewTimer(reserveRetry)
		defer timer.Stop()
		select {
		case <-timer.C():
		case <-r.ctx.Done():
		}
	}
	r.mu.Lock()
	r.reserving, r.version, r.lastError = false, version, err
	if err == nil {
		r.ceiling, r.floor = ceiling, max(floor, r.floor)
	}
	r.mu.Unlock()
	r.reserved.wake()
}

func (r *revisions) raise(ctx context.Context, version string) (ceiling, floor uint64, newVersion string, err error) {
	if version == "" {
		list, err := r.ledger.List(ctx)
		if err != nil {
			return 0, 0, "", err
		}
		var m mark
		if m, version, err = readMark(byKey(list)); err != nil {
			return 0, 0, "", err
		}
		floor = m.Reserved
	}
	ceiling = max(floor, r.last.Load(), r.now()) + r.step
	newVersion, err = r.write(ctx, version, ceiling)
	if err != nil {
		return 0, 0, "", err
	}
	return ceiling, floor, newVersion, nil
}

func byKey(list []ledger.Record) map[string]ledger.Record {
	m := make(map[string]ledger.Record, len(list))
	for _, r := range list {
		m[r.Key] = r
	}
	return m
}

func isRefusal(err error) bool {
	return errors.Is(err, ledger.ErrExists) || errors.Is(err, ledger.ErrNotFound) || errors.Is(err, ledger.ErrConflict)
}
