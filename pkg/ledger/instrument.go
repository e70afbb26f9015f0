// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"context"
	"errors"
	"sync"
	"time"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
)

var (
	operations = metrics.NewHistogramVec(&metrics.HistogramOpts{
		Namespace: "metalstack", Subsystem: "ledger", Name: "operation_duration_seconds",
		Help: "Duration of ledger calls in seconds, by kind of ledger, verb and outcome: done; conflict, exists or not_found, if another writer was faster; " +
			"too_large or not_done, if nothing was written; error, after which the outcome of a write is unknown.",
		Buckets:        []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		StabilityLevel: metrics.ALPHA,
	}, []string{"ledger", "verb", "outcome"})

	registerOnce sync.Once
)

// Instrument returns a ledger that shows in metrics how l, which is of a kind
// such as "bolt", fares. It has a method Close, which closes l if l has one.
func Instrument(l Ledger, kind string) Ledger {
	registerOnce.Do(func() { legacyregistry.MustRegister(operations) })
	return &instrumented{l, kind}
}

type instrumented struct {
	Ledger
	kind string
}

// List implements Ledger.
func (l *instrumented) List(ctx context.Context) (list []Record, err error) {
	defer l.observe("list", time.Now(), &err)
	return l.Ledger.List(ctx)
}

// ListChanged implements ChangeLister.
func (l *instrumented) ListChanged(ctx context.Context, known map[string]string) (list []Record, err error) {
	defer l.observe("list", time.Now(), &err)
	return ListChanged(ctx, l.Ledger, known)
}

// Get implements Ledger.
func (l *instrumented) Get(ctx context.Context, key string) (r Record, err error) {
	defer l.observe("get", time.Now(), &err)
	return l.Ledger.Get(ctx, key)
}

// Create implements Ledger.
func (l *instrumented) Create(ctx context.Context, key string, value []byte) (version string, err error) {
	defer l.observe("create", time.Now(), &err)
	return l.Ledger.Create(ctx, key, value)
}

// Update implements Ledger.
func (l *instrumented) Update(ctx context.Context, key, version string, value []byte) (newVersion string, err error) {
	defer l.observe("update", time.Now(), &err)
	return l.Ledger.Update(ctx, key, version, value)
}

// Delete implements Ledger.
func (l *instrumented) Delete(ctx context.Context, key, version string) (err error) {
	defer l.observe("delete", time.Now(), &err)
	return l.Ledger.Delete(ctx, key, version)
}

// Close closes the ledger below.
func (l *instrumented) Close() error {
	if closer, ok := l.Ledger.(interface{ Close() error }); ok {
		return closer.Close()
	}
	return nil
}

func (l *instrumented) observe(verb string, began time.Time, err *error) {
	operations.WithLabelValues(l.kind, verb, outcome(*err)).Observe(time.Since(began).Seconds())
}

func outcome(err error) string {
	switch {
	case err == nil:
		return "done"
	case errors.Is(err, ErrConflict):
		return "conflict"
	case errors.Is(err, ErrExists):
		return "exists"
	case errors.Is(err, ErrNotFound):
		return "not_found"
	case errors.Is(err, ErrTooLarge):
		return "too_large"
	case errors.Is(err, ErrNotWritten):
		return "not_done"
	}
	return "error"
}
