package bolt

import (
	"context"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
)

// maxBatch is how many writes share one sync at most.
const maxBatch = 256

var errClosed = errors.New("the ledger is closed")

// write is one change on its way to disk.
type write struct {
	apply   func(*bolt.Bucket) (version string, err error)
	version string
	err     error
	done    chan struct{}
}

// submit hands a write to the committer and waits for its outcome. A context
// that ends before the write was taken withdraws it; one that ends later
// leaves its outcome open.
func (l *Ledger) submit(ctx context.Context, verb, key string, apply func(*bolt.Bucket) (string, error)) (string, error) {
	w := &write{apply: apply, done: make(chan struct{})}
	err := ctx.Err()
	if err == nil {
		select {
		case l.batches <- w:
		case <-ctx.Done():
			err = ctx.Err()
		case <-l.closing:
			err = errClosed
		}
	}
	if err == nil {
		select {
		case <-w.done:
			err = w.err
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", verb, key, err)
	}
	return w.version, nil
}

// commitBatches writes whatever waits in one transaction. Nobody waits for
// company: while one batch is synced the next one gathers.
func (l *Ledger) commitBatches() {
	defer close(l.closed)
	for {
		select {
		case <-l.closing:
			return
		case first := <-l.batches:
			batch := []*write{first}
		gather:
			for len(batch) < maxBatch {
				select {
				case w := <-l.batches:
					batch = append(batch, w)
				default:
					break gather
				}
			}
			l.commit(batch)
		}
	}
}

func (l *Ledger) commit(batch []*write) {
	err := l.db.Update(func(tx *bolt.Tx) error {
		bucket := tx.Bucket(recordsBucket)
		for _, w := range batch {
			w.version, w.err = w.apply(bucket)
			if w.err != nil && !isRefusal(w.err) {
				return w.err
			}
		}
		return nil
	})
	for _, w := range batch {
		if err != nil {
			// Also what was refused in this batch: it may have been refused
			// because of a write that is now undone.
			w.version, w.err = "", err
		}
		close(w.done)
	}
}

func isRefusal(err error) bool {
	return errors.Is(err, ledger.ErrExists) || errors.Is(err, ledger.ErrNotFound) || errors.Is(err, ledger.ErrConflict)
}
