// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"context"
	"fmt"
	"sync"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/recordformat"
)

var (
	newerRecords = metrics.NewGauge(&metrics.GaugeOpts{
		Namespace: "metalstack", Subsystem: "ledger", Name: "newer_format_records",
		Help:           "Records of a newer format than this server reads, as it found them first. If there are any, it writes nothing until it is restarted.",
		StabilityLevel: metrics.ALPHA,
	})
	registerNewerOnce sync.Once
)

// Guarded is a ledger that refuses everything once it has read a record of a newer
// format: a newer server has written, and what else it relies on is unknown, so even
// the other records may mean something else, or be elsewhere. It stays so until the
// process is restarted.
type Guarded struct {
	Ledger

	mu    sync.RWMutex
	err   *recordformat.NewerError
	newer map[string]struct{} // keys
	met   chan struct{}
}

var _ ChangeLister = &Guarded{}

// Guard returns l guarded, or l itself if it is.
func Guard(l Ledger) *Guarded {
	if guarded, ok := l.(*Guarded); ok {
		return guarded
	}
	registerNewerOnce.Do(func() { legacyregistry.MustRegister(newerRecords) })
	return &Guarded{Ledger: l, met: make(chan struct{})}
}

// Check returns a recordformat.NewerError if the ledger is refused.
func (g *Guarded) Check() error {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.err == nil {
		return nil
	}
	return g.err
}

// Met is closed when a record of a newer format was read.
func (g *Guarded) Met() <-chan struct{} { return g.met }

// Newer returns the keys of the records of a newer format.
func (g *Guarded) Newer() map[string]struct{} {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.newer
}

// inspect returns a recordformat.NewerError if one of records has a newer format.
func (g *Guarded) inspect(ctx context.Context, records ...Record) error {
	var found *recordformat.NewerError
	newer := map[string]struct{}{}
	for _, r := range records {
		h, err := recordformat.Read(r.Value)
		if err != nil || h.Format <= recordformat.Newest {
			continue // what is damaged is found by who decodes it
		}
		newer[r.Key] = struct{}{}
		if found == nil || h.Format > found.Format || h.Format == found.Format && found.WrittenBy == "" {
			found = &recordformat.NewerError{Format: h.Format, WrittenBy: h.WrittenBy}
		}
	}
	if found == nil {
		return g.Check() // another call may have met one
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err != nil {
		return g.err
	}
	g.err, g.newer = found, newer
	newerRecords.Set(float64(len(newer)))
	close(g.met)
	klog.FromContext(ctx).Error(found, "Found records of a newer format: nothing is written until this server is restarted", "records", len(newer), "example", anyOf(newer))
	return g.err
}

func anyOf(keys map[string]struct{}) string {
	for key := range keys {
		return key
	}
	return ""
}

// List implements Ledger.
func (g *Guarded) List(ctx context.Context) ([]Record, error) {
	return g.list(ctx, g.Ledger.List)
}

// ListChanged implements ChangeLister.
func (g *Guarded) ListChanged(ctx context.Context, known map[string]string) ([]Record, error) {
	return g.list(ctx, func(ctx context.Context) ([]Record, error) { return ListChanged(ctx, g.Ledger, known) })
}

func (g *Guarded) list(ctx context.Context, list func(context.Context) ([]Record, error)) ([]Record, error) {
	if err := g.Check(); err != nil {
		return nil, err
	}
	records, err := list(ctx)
	if err != nil {
		return nil, err
	}
	if err := g.inspect(ctx, records...); err != nil {
		return nil, err
	}
	return records, nil
}

// Get implements Ledger.
func (g *Guarded) Get(ctx context.Context, key string) (Record, error) {
	if err := g.Check(); err != nil {
		return Record{}, err
	}
	r, err := g.Ledger.Get(ctx, key)
	if err == nil {
		err = g.inspect(ctx, r)
	}
	if err != nil {
		return Record{}, err
	}
	return r, nil
}

// checkWrite is Check for writes, which certainly were not done.
func (g *Guarded) checkWrite() error {
	if err := g.Check(); err != nil {
		return fmt.Errorf("%w: %w", ErrNotWritten, err)
	}
	return nil
}

// Create implements Ledger.
func (g *Guarded) Create(ctx context.Context, key string, value []byte) (string, error) {
	if err := g.checkWrite(); err != nil {
		return "", err
	}
	return g.Ledger.Create(ctx, key, value)
}

// Update implements Ledger.
func (g *Guarded) Update(ctx context.Context, key, version string, value []byte) (string, error) {
	if err := g.checkWrite(); err != nil {
		return "", err
	}
	return g.Ledger.Update(ctx, key, version, value)
}

// Delete implements Ledger.
func (g *Guarded) Delete(ctx context.Context, key, version string) error {
	if err := g.checkWrite(); err != nil {
		return err
	}
	return g.Ledger.Delete(ctx, key, version)
}
