// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/runtime"
	apistorage "k8s.io/apiserver/pkg/storage"
)

type dryRunKey struct{}

// dryRun counts the reads that come before the write of a dry run.
type dryRun struct{ reads atomic.Int32 }

// WithDryRun makes the context one of a dry run of an update or a deletion, in
// which genericregistry.DryRunnableStorage reads instead of writing. A read of
// the most recent state is then refused as the write would be, except for as
// many reads as come before it.
func WithDryRun(ctx context.Context, reads int32) context.Context {
	d := &dryRun{}
	d.reads.Store(reads)
	return context.WithValue(ctx, dryRunKey{}, d)
}

// isDryRunWrite returns whether a read takes the place of a write.
func isDryRunWrite(ctx context.Context) bool {
	d, _ := ctx.Value(dryRunKey{}).(*dryRun)
	return d != nil && d.reads.Add(-1) < 0
}

type dryRunCreateKey struct{}

// WithDryRunCreate makes the context one of a dry run of a creation, in which
// genericregistry.DryRunnableStorage reads whether the name is taken. Like the creation itself,
// gets then have nothing observed, and answer from what is known.
func WithDryRunCreate(ctx context.Context) context.Context {
	return context.WithValue(ctx, dryRunCreateKey{}, true)
}

// isDryRunCreate returns whether the context is one of WithDryRunCreate.
func isDryRunCreate(ctx context.Context) bool { return ctx.Value(dryRunCreateKey{}) != nil }

// getForWrite reads what a write would change, if it may.
func (s *Store) getForWrite(ctx context.Context, key string, opts apistorage.GetOptions, out runtime.Object) error {
	if err := s.backend.CheckWritable(); err != nil {
		return err
	}
	cur, err := s.current(ctx, key)
	switch {
	case err != nil:
		return err
	case cur != nil:
		return copyInto(out, cur.obj)
	case opts.IgnoreNotFound:
		return runtime.SetZeroValue(out)
	}
	return apistorage.NewKeyNotFoundError(key, 0)
}
