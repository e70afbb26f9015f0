// SPDX-License-Identifier: Apache-2.0

// Package bolt is the ledger of a server that runs alone: one go.etcd.io/bbolt
// file. A write is acknowledged after it was synced to disk, never before.
package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
)

var recordsBucket = []byte("records")

// DefaultLockTimeout is how long Open waits for another process to let go.
const DefaultLockTimeout = 3 * time.Second

// Options are how a file is opened; the zero value is fine.
type Options struct {
	// LockTimeout is how long to wait for another process that has the file.
	LockTimeout time.Duration
}

// Ledger is a bbolt file.
type Ledger struct {
	db *bolt.DB
}

var _ ledger.Ledger = &Ledger{}

// Open opens the file at path and creates it, and the directories above it, if
// there is none. One process at a time has it: Open fails when another one
// does not let go of it in time.
func Open(path string, opts Options) (*Ledger, error) {
	if opts.LockTimeout == 0 {
		opts.LockTimeout = DefaultLockTimeout
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("failed to create the directory of ledger %s: %w", path, err)
	}
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: opts.LockTimeout, FreelistType: bolt.FreelistMapType})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("ledger: failed to lock %s in %s: another process has it open (fuser %[1]s names it); stop that process, or use another file", path, opts.LockTimeout)
	case err != nil:
		return nil, fmt.Errorf("ledger: failed to open %s: %w", path, err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(recordsBucket)
		return err
	})
	if err == nil {
		// A file whose directory entry was not synced is gone after a power cut.
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("ledger: failed to prepare %s: %w", path, err), db.Close())
	}
	db.MaxBatchSize, db.MaxBatchDelay = maxBatchSize, maxBatchDelay
	return &Ledger{db: db}, nil
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Close lets go of the file, after the transaction that is being synced. Writes
// that wait for another end with an error.
func (l *Ledger) Close() error { return l.db.Close() }

// List implements ledger.Ledger.
func (l *Ledger) List(ctx context.Context) ([]ledger.Record, error) {
	var list []ledger.Record
	err := l.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(recordsBucket).ForEach(func(k, v []byte) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			version, value, err := split(v)
			if err != nil {
				return fmt.Errorf("record %s: %w", k, err)
			}
			list = append(list, ledger.Record{Key: string(k), Value: bytes.Clone(value), Version: version})
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	return list, nil
}

// Get implements ledger.Ledger.
func (l *Ledger) Get(ctx context.Context, key string) (ledger.Record, error) {
	r := ledger.Record{Key: key}
	err := l.db.View(func(tx *bolt.Tx) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		stored := tx.Bucket(recordsBucket).Get([]byte(key))
		if stored == nil {
			return ledger.ErrNotFound
		}
		version, value, err := split(stored)
		r.Version, r.Value = version, bytes.Clone(value)
		return err
	})
	if err != nil {
		return ledger.Record{}, fmt.Errorf("get %s: %w", key, err)
	}
	return r, nil
}

// Create implements ledger.Ledger.
func (l *Ledger) Create(ctx context.Context, key string, value []byte) (string, error) {
	if err := ledger.CheckKey(key); err != nil {
		return "", err
	}
	return l.batch(ctx, "create", key, func(b *bolt.Bucket) (string, error) {
		if b.Get([]byte(key)) != nil {
			return "", ledger.ErrExists
		}
		return put(b, key, value)
	})
}

// Update implements ledger.Ledger.
func (l *Ledger) Update(ctx context.Context, key, version string, value []byte) (string, error) {
	return l.batch(ctx, "update", key, func(b *bolt.Bucket) (string, error) {
		if err := check(b, key, version); err != nil {
			return "", err
		}
		return put(b, key, value)
	})
}

// Delete implements ledger.Ledger.
func (l *Ledger) Delete(ctx context.Context, key, version string) error {
	_, err := l.batch(ctx, "delete", key, func(b *bolt.Bucket) (string, error) {
		if err := check(b, key, version); err != nil {
			return "", err
		}
		return "", b.Delete([]byte(key))
	})
	return err
}

func check(b *bolt.Bucket, key, version string) error {
	stored := b.Get([]byte(key))
	if stored == nil {
		return ledger.ErrNotFound
	}
	current, _, err := split(stored)
	if err != nil {
		return err
	}
	if current != version {
		return ledger.ErrConflict
	}
	return nil
}

// put stores the version, in decimal, in a line before the value. Versions are
// the bucket's sequence, which goes up over all keys and survives with them.
func put(b *bolt.Bucket, key string, value []byte) (string, error) {
	next, err := b.NextSequence()
	if err != nil {
		return "", err
	}
	version := strconv.FormatUint(next, 10)
	stored := make([]byte, 0, len(version)+1+len(value))
	stored = append(append(append(stored, version...), '\n'), value...)
	return version, b.Put([]byte(key), stored)
}

func split(stored []byte) (version string, value []byte, err error) {
	v, value, found := bytes.Cut(stored, []byte{'\n'})
	if !found {
		return "", nil, errors.New("value without version: not a file of this server, or damaged")
	}
	return string(v), value, nil
}
