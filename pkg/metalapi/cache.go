// SPDX-License-Identifier: Apache-2.0

package metalapi

import (
	"context"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// cachedList is a list of the metal-api that many clients read. While the metal-api does
// not answer, it is as it was last read.
type cachedList[T any] struct {
	clock clock.Clock
	ttl   time.Duration
	load  func(context.Context) ([]T, error)
	group singleflight.Group
	// budget may be nil.
	budget *budget

	mu     sync.Mutex
	items  []T
	loaded time.Time // when the read of items began; zero: never
	// outdated: something was changed since.
	outdated bool
	// changes counts what was changed: a read that began before is not kept as current.
	changes int
}

func newCachedList[T any](c clock.Clock, ttl time.Duration, load func(context.Context) ([]T, error)) *cachedList[T] {
	return &cachedList[T]{clock: c, ttl: ttl, load: load}
}

// get returns the list, which must not be changed.
func (l *cachedList[T]) get(ctx context.Context) ([]T, error) { return l.getWithin(ctx, l.ttl) }

// slowRead is after what time a read is taken for one that gets no answer.
const slowRead = 5 * time.Second

// getWithin is get with another limit of its age.
func (l *cachedList[T]) getWithin(ctx context.Context, ttl time.Duration) ([]T, error) {
	l.mu.Lock()
	age := l.clock.Since(l.loaded)
	if !l.loaded.IsZero() && !l.outdated && (age < ttl || age < l.budget.extension()) {
		defer l.mu.Unlock()
		return l.items, nil
	}
	changes, items, wasRead := l.changes, l.items, !l.loaded.IsZero()
	l.mu.Unlock()
	// Reads that began before a change are not shared with those after it.
	read := l.group.DoChan(strconv.Itoa(changes), func() (any, error) { return l.read(context.WithoutCancel(ctx), changes) })
	var slow <-chan time.Time
	if wasRead {
		timer := l.clock.NewTimer(slowRead)
		defer timer.Stop()
		slow = timer.C()
	}
	select {
	case outcome := <-read:
		items, _ := outcome.Val.([]T)
		return items, outcome.Err
	case <-slow:
		return items, nil
	case <-ctx.Done():
		return nil, &metal.Error{Kind: metal.Unavailable, Op: "list", Message: metal.ErrTimeout.Error(), Err: ctx.Err()}
	}
}

func (l *cachedList[T]) read(ctx context.Context, changes int) ([]T, error) {
	began := l.clock.Now()
	items, err := l.load(ctx)
	l.budget.spend(l.clock.Since(began))
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		if !l.loaded.IsZero() && metal.KindOf(err) == metal.Unavailable {
			return l.items, nil
		}
		return nil, err
	}
	if changes == l.changes {
		l.items, l.loaded, l.outdated = items, began, false
	}
	return items, nil
}

// change has the list be read anew.
func (l *cachedList[T]) change() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.outdated = true
	l.changes++
}

// budget is the part of the metal-api's time that reads may take. When it is spent, lists
// are not read for their age alone.
type budget struct {
	clock clock.Clock
	// limiter counts microseconds.
	limiter *rate.Limiter
}

const (
	// budgetShare is that part, budgetBurst what can be saved.
	budgetShare = 0.02
	budgetBurst = 2 * time.Second
	// spentTTL is how old lists may be while the budget is spent.
	spentTTL = 5 * time.Minute
)

func newBudget(c clock.Clock) *budget {
	perSecond := budgetShare * float64(time.Second/time.Microsecond)
	return &budget{c, rate.NewLimiter(rate.Limit(perSecond), int(budgetBurst/time.Microsecond))}
}

// extension is how old lists may be, whatever their own limit is.
func (b *budget) extension() time.Duration {
	if b == nil || b.limiter.TokensAt(b.clock.Now()) > 0 {
		return 0
	}
	return spentTTL
}

// spend may overdraw.
func (b *budget) spend(took time.Duration) {
	if b != nil {
		b.limiter.ReserveN(b.clock.Now(), int(min(took, budgetBurst)/time.Microsecond))
	}
}

// projectCaches are the addresses of projects.
type projectCaches struct {
	clock  clock.Clock
	budget *budget
	load   func(ctx context.Context, project string) ([]*metal.IP, error)

	mu      sync.Mutex
	entries map[string]*projectCache
}

type projectCache struct {
	*cachedList[*metal.IP]

	used time.Time
}

// projectIdle is how long the addresses of a project are kept that no client reads.
const projectIdle = time.Hour

func newProjectCaches(c clock.Clock, load func(ctx context.Context, project string) ([]*metal.IP, error)) *projectCaches {
	return &projectCaches{clock: c, budget: newBudget(c), load: load, entries: map[string]*projectCache{}}
}

func (p *projectCaches) of(project string) *cachedList[*metal.IP] {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock.Now()
	entry := p.entries[project]
	if entry == nil {
		for other, e := range p.entries {
			if now.Sub(e.used) > projectIdle {
				delete(p.entries, other)
			}
		}
		entry = &projectCache{cachedList: newCachedList(p.clock, addressTTL, func(ctx context.Context) ([]*metal.IP, error) { return p.load(ctx, project) })}
		entry.budget = p.budget
		p.entries[project] = entry
	}
	entry.used = now
	return entry.cachedList
}
