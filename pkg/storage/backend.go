package storage

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apistorage "k8s.io/apiserver/pkg/storage"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

const (
	// DefaultBookmarkInterval is how often watchers that asked for bookmarks
	// get one.
	DefaultBookmarkInterval = time.Minute
	// ledgerTimeout is how long one call of the ledger may take.
	ledgerTimeout = 10 * time.Second
	// beginAttempts is how often a new process tries to be the one that goes
	// on with the revisions.
	beginAttempts = 5
)

// Options are what a Backend is made of.
type Options struct {
	// Ledger keeps the records.
	Ledger ledger.Ledger
	// Clock defaults to the real one.
	Clock clock.Clock
	// Freshener makes reads most recent; it can be set later by SetFreshener.
	// Without one every read is taken for fresh.
	Freshener Freshener
	// History is how many events are kept per resource however old they are;
	// younger ones than 75 s are kept beyond that. DefaultHistory if zero.
	History int
	// BookmarkInterval defaults to DefaultBookmarkInterval.
	BookmarkInterval time.Duration

	reserveAhead time.Duration
}

// Backend is what the resources of one server share: the ledger, the scale of
// revisions, the index of claimed metal, and the order of changes.
type Backend struct {
	ctx              context.Context
	clock            clock.Clock
	ledger           ledger.Ledger
	looks            looks
	revisions        revisions
	history          int
	bookmarkInterval time.Duration
	freshener        atomic.Pointer[Freshener]
	doubts           doubts
	advanced         broadcast // a revision was issued

	// mu orders changes: whoever holds it is the only one who changes views
	// and the fields below. It is never held while the ledger works, and taken
	// before any view's own lock.
	mu     sync.Mutex
	stores []*Store
	loaded map[string]ledger.Record // what no store has taken over yet
	index  index
}

// NewBackend reads the ledger, once, and reserves the revisions from which
// this process goes on. ctx ends what the backend does in the background.
func NewBackend(ctx context.Context, opts Options) (*Backend, error) {
	if opts.Ledger == nil {
		return nil, errors.New("storage: no ledger")
	}
	b := &Backend{
		ctx:              ctx,
		clock:            opts.Clock,
		ledger:           opts.Ledger,
		history:          opts.History,
		bookmarkInterval: opts.BookmarkInterval,
		index:            newIndex(),
	}
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
	if opts.Freshener != nil {
		b.SetFreshener(opts.Freshener)
	}
	b.looks.ledger = opts.Ledger
	b.doubts.init()
	b.revisions.ctx, b.revisions.clock, b.revisions.ledger = ctx, b.clock, opts.Ledger
	b.revisions.step = uint64(opts.reserveAhead.Microseconds())
	if err := b.load(ctx); err != nil {
		return nil, fmt.Errorf("storage: %w", err)
	}
	registerMetrics(b)
	go b.repair()
	return b, nil
}

func (b *Backend) load(ctx context.Context) error {
	for attempt := 1; ; attempt++ {
		list, err := b.ledger.List(ctx)
		if err != nil {
			return fmt.Errorf("read the ledger: %w", err)
		}
		b.loaded = byKey(list)
		err = b.revisions.begin(ctx, b.loaded)
		if err == nil || !isRefusal(err) || attempt == beginAttempts {
			return err
		}
	}
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
	// Joiner joins the halves; nil: a record is the whole object.
	Joiner Joiner
}

// Open takes over the records of a resource, and is called once for each. It
// fails if a record cannot be read, rather than show less than there is.
func (b *Backend) Open(cfg ResourceConfig) (*Store, error) {
	s, err := newStore(b, cfg)
	if err != nil {
		return nil, err
	}
	if err := b.revisions.ensure(b.ctx); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, other := range b.stores {
		if other.ledgerPrefix == s.ledgerPrefix {
			return nil, fmt.Errorf("storage: %s is open already; the versions of a kind share one store", cfg.Resource)
		}
	}
	if err := s.load(b.loaded); err != nil {
		return nil, fmt.Errorf("storage: open %s: %w; the server does not start with less than all records: repair the record, or delete it from the ledger", cfg.Resource, err)
	}
	for key := range b.loaded {
		if strings.HasPrefix(key, s.ledgerPrefix) {
			delete(b.loaded, key)
		}
	}
	b.stores = append(b.stores, s)
	countFrom0(s.resource.Resource)
	t := b.begin()
	for ref := range b.index.seen {
		t.discover(s, ref)
	}
	for ref := range b.index.named {
		t.affect(ref)
	}
	t.publish() // What other stores show as discovered may be claimed now.
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

// SetFreshener sets who makes reads most recent.
func (b *Backend) SetFreshener(f Freshener) { b.freshener.Store(&f) }

// waitFor returns when revision has been issued. After some seconds it returns
// the error that says that the revision is too large.
func (b *Backend) waitFor(ctx context.Context, revision uint64) error {
	if b.revisions.last.Load() >= revision {
		return nil
	}
	timer := b.clock.NewTimer(revisionPatience)
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

// Named returns all metal that records name: it is to be confirmed even if it
// has gone from every listing.
func (b *Backend) Named() []metal.Ref {
	b.mu.Lock()
	defer b.mu.Unlock()
	refs := make([]metal.Ref, 0, len(b.index.named))
	for ref := range b.index.named {
		refs = append(refs, ref)
	}
	return refs
}

// Advance issues a revision without a change: lists before it have a lower one.
func (b *Backend) Advance(ctx context.Context) (uint64, error) {
	if err := b.revisions.ensure(ctx); err != nil {
		return 0, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	revision := b.revisions.take()
	b.advanced.wake()
	return revision, nil
}
