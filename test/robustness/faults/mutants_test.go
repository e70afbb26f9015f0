// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"context"
	"slices"
	"strings"
	"sync"
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

// eager frees what was allocated by hand once it was seen: at once, or some time
// later.
func eager(after time.Duration) func(b *brokenPort) {
	return func(b *brokenPort) {
		find := b.find
		var once sync.Once
		b.find = func(ctx context.Context, q metal.MachineQuery) ([]*metal.Machine, error) {
			found, err := find(ctx, q)
			for _, m := range found {
				if q.ID != "" && m.Allocation != nil && m.UID() == "" {
					once.Do(func() {
						free := func() { _, _ = b.free(context.WithoutCancel(ctx), m.ID) }
						if after == 0 {
							free()
							return
						}
						time.AfterFunc(after, free)
					})
				}
			}
			return found, err
		}
	}
}

// greedyPort shows networks that were allocated by hand as the cluster's own.
type greedyPort struct{ allocation.Metal }

func greedy(whole allocation.Metal) allocation.Metal { return greedyPort{whole} }

func (g greedyPort) FindNetworks(ctx context.Context, q metal.NetworkQuery) ([]*metal.Network, error) {
	found, err := g.Metal.FindNetworks(ctx, q)
	for i, n := range found {
		if n.Name == "by-hand" {
			own := *n
			own.Labels = map[string]string{metal.TagUID: "former", metal.TagNamespace: teamA, metal.TagName: namingClusters[0]}
			found[i] = &own
		}
	}
	return found, err
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

// impatient asks for one machine in vain, over and over, before it asks for it as
// it should.
func impatient(b *brokenPort) {
	find, allocate := b.find, b.allocate
	b.allocate = func(ctx context.Context, r metal.MachineRequest) (*metal.Machine, error) {
		all, err := find(ctx, metal.MachineQuery{Partition: r.Partition, Size: r.Size})
		if err != nil {
			return nil, err
		}
		if i := slices.IndexFunc(all, func(m *metal.Machine) bool { return m.Allocation == nil }); i >= 0 {
			r.ID = all[i].ID
		}
		vain := r
		vain.Networks = append(slices.Clone(r.Networks), "no-such-network")
		for range 8 {
			_, _ = allocate(ctx, vain)
		}
		return allocate(ctx, r)
	}
}

// crowdedPort is one to a metal-api in which another client has an address in
// each private network, and does not see it.
type crowdedPort struct{ allocation.Metal }

func crowded(whole allocation.Metal) allocation.Metal { return crowdedPort{whole} }

// AllocateNetwork implements allocation.Metal.
func (p crowdedPort) AllocateNetwork(ctx context.Context, r metal.NetworkRequest) (*metal.Network, error) {
	n, err := p.Metal.AllocateNetwork(ctx, r)
	if err == nil {
		_, err = p.AllocateIP(ctx, metal.IPRequest{Project: r.Project, Network: n.ID, Name: "another client's", Type: metal.TypeStatic, AddressFamily: "IPv6"})
	}
	return n, err
}

// FindIPs implements allocation.Metal.
func (p crowdedPort) FindIPs(ctx context.Context, q metal.IPQuery) ([]*metal.IP, error) {
	if q.Network != "" {
		return nil, nil
	}
	return p.Metal.FindIPs(ctx, q)
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

// hidingLedger hides records while its flag is set.
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
