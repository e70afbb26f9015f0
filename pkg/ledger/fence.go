// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"context"
	"fmt"
)

// WithFence returns a ledger that asks check before each write, and does not begin
// it if check returns an error.
func WithFence(l Ledger, check func() error) Ledger { return &fenced{l, check} }

type fenced struct {
	Ledger
	check func() error
}

// ListChanged implements ChangeLister.
func (l *fenced) ListChanged(ctx context.Context, known map[string]string) ([]Record, error) {
	return ListChanged(ctx, l.Ledger, known)
}

// Create implements Ledger.
func (l *fenced) Create(ctx context.Context, key string, value []byte) (string, error) {
	if err := l.check(); err != nil {
		return "", fmt.Errorf("%w: %w", ErrFenced, err)
	}
	return l.Ledger.Create(ctx, key, value)
}

// Update implements Ledger.
func (l *fenced) Update(ctx context.Context, key, version string, value []byte) (string, error) {
	if err := l.check(); err != nil {
		return "", fmt.Errorf("%w: %w", ErrFenced, err)
	}
	return l.Ledger.Update(ctx, key, version, value)
}

// Delete implements Ledger.
func (l *fenced) Delete(ctx context.Context, key, version string) error {
	if err := l.check(); err != nil {
		return fmt.Errorf("%w: %w", ErrFenced, err)
	}
	return l.Ledger.Delete(ctx, key, version)
}
