// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"context"
	"errors"
	"sync"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/memory"
)

// What can go wrong with one write to the ledger.
const (
	writeRefused = "refused" // nothing is done, and the caller gets no answer
	writeLost    = "lost"    // it is done, and the caller gets no answer
	writeLate    = "late"    // it is done later, when no caller waits any more
)

// lateness is when a late write arrives.
const lateness = 20 * time.Second

var errLedger = errors.New("the ledger does not answer")

// records are the ledger that outlives servers, and the way to it.
type records struct {
	ledger.Ledger
	secrets *secrets
	// written is called with what a write left.
	written func(value []byte)

	mu sync.Mutex
	// faults are what goes wrong with the next writes, in order.
	faults []string
	// away: nothing can be read or written.
	away bool
	late sync.WaitGroup
}

func newRecords(s *secrets, written func(value []byte)) *records {
	return &records{Ledger: memory.New(), secrets: s, written: written}
}

// fail lets the next writes go wrong.
func (r *records) fail(faults ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, faults...)
}

// none reports whether all faults have struck.
func (r *records) none() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.faults) == 0
}

func (r *records) goAway(away bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away = away
}

func (r *records) clearFaults() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults, r.away = nil, false
}

func (r *records) isAway() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.away
}

func (r *records) next() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.faults) == 0 {
		return ""
	}
	f := r.faults[0]
	r.faults = r.faults[1:]
	return f
}

// access is one server's access to the records.
type access struct {
	*records
	ctx context.Context
	at  func(step string)
}

var _ ledger.Ledger = &access{}

// List implements ledger.Ledger.
func (a *access) List(ctx context.Context) ([]ledger.Record, error) {
	if a.isAway() || a.ctx.Err() != nil {
		return nil, errLedger
	}
	return a.Ledger.List(ctx)
}

// Get implements ledger.Ledger.
func (a *access) Get(ctx context.Context, key string) (ledger.Record, error) {
	if a.isAway() || a.ctx.Err() != nil {
		return ledger.Record{}, errLedger
	}
	return a.Ledger.Get(ctx, key)
}

// Create implements ledger.Ledger.
func (a *access) Create(ctx context.Context, key string, value []byte) (string, error) {
	return a.write(key, value, func() (string, error) { return a.Ledger.Create(context.WithoutCancel(ctx), key, value) })
}

// Update implements ledger.Ledger.
func (a *access) Update(ctx context.Context, key, version string, value []byte) (string, error) {
	return a.write(key, value, func() (string, error) { return a.Ledger.Update(context.WithoutCancel(ctx), key, version, value) })
}

// Delete implements ledger.Ledger.
func (a *access) Delete(ctx context.Context, key, version string) error {
	_, err := a.write(key, nil, func() (string, error) { return "", a.Ledger.Delete(context.WithoutCancel(ctx), key, version) })
	return err
}

func (a *access) write(key string, value []byte, write func() (string, error)) (string, error) {
	a.secrets.search("the record "+key, value)
	do := func() (string, error) {
		version, err := write()
		if err == nil {
			a.written(value)
		}
		return version, err
	}
	if a.ctx.Err() != nil || a.isAway() {
		return "", errLedger
	}
	a.at("ledger/before")
	if a.ctx.Err() != nil {
		return "", errLedger
	}
	switch a.next() {
	case writeRefused:
		return "", errLedger
	case writeLost:
		_, _ = do()
		return "", errLedger
	case writeLate:
		a.late.Go(func() {
			time.Sleep(lateness)
			_, _ = do()
		})
		return "", errLedger
	}
	version, err := do()
	a.at("ledger/after")
	if a.ctx.Err() != nil {
		return "", errLedger
	}
	return version, err
}
