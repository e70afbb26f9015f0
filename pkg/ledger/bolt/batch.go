// SPDX-License-Identifier: Apache-2.0

package bolt

import (
	"context"
	"errors"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
)

const (
	// maxBatchSize is how many writes share one sync at most.
	maxBatchSize = 256
	// maxBatchDelay is how long a write waits for others to share its sync.
	maxBatchDelay = time.Millisecond
)

// batch applies a write in a transaction that it shares with others, and
// returns after it was synced. A context that ends meanwhile leaves the outcome
// of the write open.
func (l *Ledger) batch(ctx context.Context, verb, key string, apply func(*bolt.Bucket) (string, error)) (string, error) {
	type result struct {
		version string
		err     error
	}
	done := make(chan result, 1)
	if err := ctx.Err(); err != nil {
		return "", fmt.Errorf("failed to %s %s: %w", verb, key, err)
	}
	go func() {
		var r result
		// It may be called more than once: the last call counts.
		err := l.db.Batch(func(tx *bolt.Tx) error {
			r.version, r.err = apply(tx.Bucket(recordsBucket))
			if isRefusal(r.err) {
				return nil // and does not undo the others
			}
			return r.err
		})
		if err != nil {
			r = result{"", err}
		}
		done <- r
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return "", fmt.Errorf("failed to %s %s: %w", verb, key, r.err)
		}
		return r.version, nil
	case <-ctx.Done():
		return "", fmt.Errorf("failed to %s %s: %w", verb, key, ctx.Err())
	}
}

func isRefusal(err error) bool {
	return errors.Is(err, ledger.ErrExists) || errors.Is(err, ledger.ErrNotFound) || errors.Is(err, ledger.ErrConflict)
}
