package faults_test

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/allocation"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// brokenPort is the port to the metal-api with something wrong.
type brokenPort struct {
	allocation.Metal
	find     func(ctx context.Context, q metal.MachineQuery) ([]*metal.Machine, error)
	allocate func(ctx context.Context, r metal.MachineRequest) (*metal.Machine, error)
	free     func(ctx context.Context, id string) (*metal.Machine, error)
}

func (b *brokenPort) FindMachines(ctx context.Context, q metal.MachineQuery) ([]*metal.Machine, error) {
	return b.find(ctx, q)
}

func (b *brokenPort) AllocateMachine(ctx context.Context, r metal.MachineRequest) (*metal.Machine, error) {
	return b.allocate(ctx, r)
}

func (b *brokenPort) FreeMachine(ctx context.Context, id string) (*metal.Machine, error) {
	return b.free(ctx, id)
}

func port(damage func(b *brokenPort)) func(allocation.Metal) allocation.Metal {
	return func(whole allocation.Metal) allocation.Metal {
		b := &brokenPort{Metal: whole, find: whole.FindMachines, allocate: whole.AllocateMachine, free: whole.FreeMachine}
		damage(b)
		return b
	}
}

// blind finds nothing by a tag.
func blind(b *brokenPort) {
	find := b.find
	b.find = func(ctx context.Context, q metal.MachineQuery) ([]*metal.Machine, error) {
		if len(q.Tags) > 0 {
			return nil, nil
		}
		return find(ctx, q)
	}
}

// stale answers a look at one machine with what it was when it was allocated,
// until it was freed.
func stale(b *brokenPort) {
	find, allocate, free := b.find, b.allocate, b.free
	then := map[string]*metal.Machine{}
	b.allocate = func(ctx context.Context, r metal.MachineRequest) (*metal.Machine, error) {
		m, err := allocate(ctx, r)
		if err == nil {
			then[m.ID] = m
		}
		return m, err
	}
	b.free = func(ctx context.Context, id string) (*metal.Machine, error) {
		delete(then, id)
		return free(ctx, id)
	}
	b.find = func(ctx context.Context, q metal.MachineQuery) ([]*metal.Machine, error) {
		if m := then[q.ID]; m != nil {
			return []*metal.Machine{m}, nil
		}
		return find(ctx, q)
	}
}

// generous frees what it has just allocated.
func generous(b *brokenPort) {
	allocate := b.allocate
	b.allocate = func(ctx context.Context, r metal.MachineRequest) (*metal.Machine, error) {
		m, err := allocate(ctx, r)
		if err == nil {
			time.Sleep(5 * time.Second)
			_, _ = b.free(ctx, m.ID)
		}
		return m, err
	}
}

// twice frees everything twice.
func twice(b *brokenPort) {
	free := b.free
	b.free = func(ctx context.Context, id string) (*metal.Machine, error) {
		m, err := free(ctx, id)
		_, _ = free(ctx, id)
		return m, err
	}
}

// quoting refuses the first allocation in words that quote what it was sent.
func quoting(b *brokenPort) {
	allocate, refused := b.allocate, false
	b.allocate = func(ctx context.Context, r metal.MachineRequest) (*metal.Machine, error) {
		if !refused {
			refused = true
			return nil, &metal.Error{Kind: metal.Refused, Op: "machine allocate", Message: string(r.UserData)}
		}
		return allocate(ctx, r)
	}
}

// carelessLedger writes whatever the version is.
type carelessLedger struct{ ledger.Ledger }

func careless(l ledger.Ledger) ledger.Ledger { return carelessLedger{l} }

// Update implements ledger.Ledger.
func (l carelessLedger) Update(ctx context.Context, key, version string, value []byte) (string, error) {
	all, err := l.List(ctx)
	if err != nil {
		return "", err
	}
	for _, r := range all {
		if r.Key == key {
			version = r.Version
		}
	}
	return l.Ledger.Update(ctx, key, version, value)
}

// hidingLedger hides records while it is told to.
type hidingLedger struct {
	ledger.Ledger
	hides atomic.Bool
}

func (l *hidingLedger) over(whole ledger.Ledger) ledger.Ledger {
	l.Ledger = whole
	return l
}

// List implements ledger.Ledger.
func (l *hidingLedger) List(ctx context.Context) ([]ledger.Record, error) {
	all, err := l.Ledger.List(ctx)
	return without(all, func(r ledger.Record) bool { return l.hides.Load() && strings.HasPrefix(r.Key, clusters) }), err
}

// marklessLedger forgets up to where revisions were issued.
type marklessLedger struct{ ledger.Ledger }

func markless(l ledger.Ledger) ledger.Ledger { return marklessLedger{l} }

// List implements ledger.Ledger.
func (l marklessLedger) List(ctx context.Context) ([]ledger.Record, error) {
	all, err := l.Ledger.List(ctx)
	return without(all, func(r ledger.Record) bool {
		mark := r.Key == "_meta/revision"
		return mark && l.Delete(ctx, r.Key, r.Version) == nil
	}), err
}

func without(all []ledger.Record, hidden func(ledger.Record) bool) (shown []ledger.Record) {
	for _, r := range all {
		if !hidden(r) {
			shown = append(shown, r)
		}
	}
	return shown
}
