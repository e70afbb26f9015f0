// SPDX-License-Identifier: Apache-2.0

// Package memory is a ledger for tests: it keeps records in memory, and what
// it acknowledged does not survive the process. It must never be offered to
// users.
package memory

import (
	"bytes"
	"context"
	"fmt"
	"sort"
	"strconv"
	"sync"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
)

// Ledger keeps records in memory.
type Ledger struct {
	mu      sync.Mutex
	records map[string]ledger.Record
	last    uint64 // the version given out last, over all keys
}

var _ ledger.ChangeLister = &Ledger{}

// New returns an empty ledger.
func New() *Ledger {
	return &Ledger{records: map[string]ledger.Record{}}
}

// List implements ledger.Ledger.
func (l *Ledger) List(ctx context.Context) ([]ledger.Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]ledger.Record, 0, len(l.records))
	for _, r := range l.records {
		r.Value = bytes.Clone(r.Value)
		list = append(list, r)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Key < list[j].Key })
	return list, nil
}

// ListChanged implements ledger.ChangeLister.
func (l *Ledger) ListChanged(ctx context.Context, known map[string]string) ([]ledger.Record, error) {
	list, err := l.List(ctx)
	for i := range list {
		if r := &list[i]; known[r.Key] == r.Version {
			r.Value = nil
		}
	}
	return list, err
}

// Get implements ledger.Ledger.
func (l *Ledger) Get(ctx context.Context, key string) (ledger.Record, error) {
	if err := ctx.Err(); err != nil {
		return ledger.Record{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	r, found := l.records[key]
	if !found {
		return ledger.Record{}, fmt.Errorf("failed to get %s: %w", key, ledger.ErrNotFound)
	}
	r.Value = bytes.Clone(r.Value)
	return r, nil
}

// Create implements ledger.Ledger.
func (l *Ledger) Create(ctx context.Context, key string, value []byte) (string, error) {
	if err := ledger.CheckKey(key); err != nil {
		return "", err
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, found := l.records[key]; found {
		return "", fmt.Errorf("failed to create %s: %w", key, ledger.ErrExists)
	}
	return l.put(key, value), nil
}

// Update implements ledger.Ledger.
func (l *Ledger) Update(ctx context.Context, key, version string, value []byte) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.check(key, version); err != nil {
		return "", fmt.Errorf("failed to update %s: %w", key, err)
	}
	return l.put(key, value), nil
}

// Delete implements ledger.Ledger.
func (l *Ledger) Delete(ctx context.Context, key, version string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.check(key, version); err != nil {
		return fmt.Errorf("failed to delete %s: %w", key, err)
	}
	delete(l.records, key)
	return nil
}

func (l *Ledger) check(key, version string) error {
	switch r, found := l.records[key]; {
	case !found:
		return ledger.ErrNotFound
	case r.Version != version:
		return ledger.ErrConflict
	}
	return nil
}

func (l *Ledger) put(key string, value []byte) string {
	l.last++
	version := strconv.FormatUint(l.last, 10)
	l.records[key] = ledger.Record{Key: key, Value: bytes.Clone(value), Version: version}
	return version
}
