// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apistorage "k8s.io/apiserver/pkg/storage"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
)

const (
	// DefaultBookmarkInterval is how often watchers that asked for bookmarks
	// get one.
	DefaultBookmarkInterval = time.Minute
	// ledgerTimeout is how long one call of the ledger may take.
	ledgerTimeout = 10 * time.Second
)

// Options are what a Backend is made of.
type Options struct {
	// Ledger keeps the records. It is guarded, unless it is already.
	Ledger ledger.Ledger
	// Clock defaults to the real one.
	Clock clock.Clock
	// Refresher makes reads most recent; it can be set later by SetRefresher.
	// Without one every read is taken for fresh.
	Refresher Refresher
	// History is how many events are kept per resource however old they are;
	// younger ones than 75 s are kept beyond that. DefaultHistory if zero.
	History int
	// BookmarkInterval defaults to DefaultBookmarkInterval.
	BookmarkInterval time.Duration
	// Fence decides whether this process may still answer and write; nil: it is
	// the only one.
	Fence Fence
	// HiddenNamespaces returns the namespaces whose records no client is shown, from
	// memory; nil: none ever is. When it answers otherwise than before,
	// Backend.HiddenNamespacesChanged is to be called.
	HiddenNamespaces func() map[string]struct{}
	// Origin returns what the records that are created in a namespace say of it, and
	// when that Namespace was created, from memory; zero: nothing. nil: no record
	// says anything.
	Origin func(namespace string) (origin Origin, since time.Time)

	reserveAhead time.Duration
}

// Fence decides whether this process is the one of several that answers and
// writes. Its answers come from memory.
type Fence interface {
	// Check returns an error if nothing may begin any more.
	Check() error
	// CheckExclusive returns an error if another process may have become the active
	// one: it may not have read what was written by now.
	CheckExclusive() error
}

// noFence is the fence of the only process.
type noFence struct{}

func (noFence) Check() error          { return nil }
func (noFence) CheckExclusive() error { return nil }

// Backend is what the resources of one server share: the ledger, the scale of
// revisions, the index of claimed metal, and the order of changes.
type Backend struct {
	ctx              context.Context
	stop             context.CancelFunc
	clock            clock.Clock
	ledger           ledger.Ledger
	guard            *ledger.Guarded // below ledger
	fence            Fence
	ledgerLists      ledgerLists
	revisions        revisions
	history          int
	bookmarkInterval time.Duration
	refresher        atomic.Pointer[Refresher]
	encodings        *encodingCache
	uncertain        uncertainWrites
	advanced         broadcast // a revision was issued
	hiddenNamespaces func() map[string]struct{}
	origin           func(namespace string) (origin Origin, since time.Time)
	// waiting are the reads and watches that wait for a revision, and refreshing
	// those that wait for a refresh.
	waiting, refreshing atomic.Int64

	// mu orders changes: only its holder changes views
	// and the fields below. It is never held while the ledger works, and taken
	// before any view's own lock.
	mu     sync.Mutex
	stores []*Store
	index  index
	// known are the records, by key in the ledger, as they were read before the
	// start; nil from then on.
	known map[string]*record
	// started: the views are filled. It is set with mu held.
	started atomic.Bool
}

// NewBackend returns a backend that has read nothing yet: first all resources
// are opened, then Start fills their views. ctx ends what the backend does in
// the background.
func NewBackend(ctx context.Context, opts Options) (*Backend, error) {
	if opts.Ledger == nil {
		return nil, errors.New("storage: no ledger")
	}
	if opts.Fence == nil {
		opts.Fence = noFence{}
	}
	guard := ledger.Guard(opts.Ledger)
	opts.Ledger = ledger.WithFence(guard, opts.Fence.Check)
	b := &Backend{
		clock:            opts.Clock,
		ledger:           opts.Ledger,
		guard:            guard,
		fence:            opts.Fence,
		history:          opts.History,
		bookmarkInterval: opts.BookmarkInterval,
		index:            newIndex(),
		hiddenNamespaces: opts.HiddenNamespaces,
		origin:           opts.Origin,
	}
	b.ctx, b.stop = context.WithCancel(ctx)
	if b.clock == nil {
		b.clock = clock.RealClock{}
	}
	if b.history == 0 {
		b.history = DefaultHistory
	}
	if b.bookmarkInterval == 0 {
		b.bookmarkInterval = DefaultBookmarkInterval
	}
	if opts.reserveAhead == 0 {
		opts.reserveAhead = reserveAhead
	}
	if opts.Refresher != nil {
		b.SetRefresher(opts.Refresher)
	}
	b.ledgerLists.ledger = opts.Ledger
	b.uncertain.init()
	b.revisions.ctx, b.revisions.clock, b.revisions.ledger, b.revisions.check = b.ctx, b.clock, opts.Ledger, guard.Check
	b.revisions.step = uint64(opts.reserveAhead.Microseconds())
	b.encodings = newEncodingCache(b.ctx, b.clock)
	registerMetrics(b)
	go b.resolveUncertainWrites()
	return b, nil
}

// ResourceConfig is one resource.
type ResourceConfig struct {
	Resource schema.GroupResource
	// Prefix of the keys that the registry uses, e.g. "/metalstackmachines".
	Prefix string
	// Codec encodes to the storage version, in JSON.
	Codec       runtime.Codec
	NewFunc     func() runtime.Object
	NewListFunc func() runtime.Object
	// Projector combines the halves; nil: a record is the whole object.
	Projector Projector
	// ClusterScoped objects are in no namespace: neither visibility nor hidden namespaces
	// apply to them.
	ClusterScoped bool
}

// Open opens the store of a resource, and is called once for each, before the
// start. The store answers nothing until then.
func (b *Backend) Open(cfg ResourceConfig) (*Store, error) {
	s, err := newStore(b, cfg)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.started.Load() {
		return nil, fmt.Errorf("storage: %s is opened after the start; its records would be missing", cfg.Resource)
	}
	for _, other := range b.stores {
		if other.ledgerPrefix == s.ledgerPrefix {
			return nil, fmt.Errorf("storage: %s is open already; the versions of a kind share one store", cfg.Resource)
		}
	}
	b.stores = append(b.stores, s)
	initCounters(s.resource.Resource)
	return s, nil
}

// Store returns the open store of a resource, or nil.
func (b *Backend) Store(resource schema.GroupResource) *Store {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.stores {
		if s.resource == resource {
			return s
		}
	}
	return nil
}

// SetRefresher sets the Refresher that consistent reads wait for.
func (b *Backend) SetRefresher(f Refresher) { b.refresher.Store(&f) }

// awaitRevision is the last step of a read before it uses a view: it returns
// when revision has been issued, and an error if that takes seconds, or if this
// process is not the one that answers any more.
func (b *Backend) awaitRevision(ctx context.Context, revision uint64) error {
	if err := b.awaitIssued(ctx, revision); err != nil {
		return err
	}
	return b.checkServing()
}

// awaitIssued returns when revision has been issued. After some seconds, or at once
// if many others wait, it returns the error that says that the revision is too
// large.
func (b *Backend) awaitIssued(ctx context.Context, revision uint64) error {
	last := b.revisions.last.Load()
	if last >= revision {
		return nil
	}
	defer b.waiting.Add(-1)
	if b.waiting.Add(1) > maxWaiting {
		return apistorage.NewTooLargeResourceVersionError(revision, last, revisionRetrySeconds)
	}
	timer := b.clock.NewTimer(revisionTimeout)
	defer timer.Stop()
	for {
		advanced := b.advanced.wait()
		last := b.revisions.last.Load()
		if last >= revision {
			return nil
		}
		select {
		case <-advanced:
		case <-timer.C():
			return apistorage.NewTooLargeResourceVersionError(revision, last, revisionRetrySeconds)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// AdvanceRevision issues a revision without a change: lists before it have a lower one.
func (b *Backend) AdvanceRevision(ctx context.Context) (uint64, error) {
	if err := b.checkServing(); err != nil {
		return 0, err
	}
	if err := b.revisions.ensureReserved(ctx); err != nil {
		return 0, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	revision := b.revisions.next()
	b.advanced.wake()
	return revision, nil
}
