package storage

import (
	"context"
	"testing"
	"testing/synctest"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/memory"
)

// ending is a ledger that ends with its caller.
type ending struct{ ledger.Ledger }

// List implements ledger.Ledger.
func (e ending) List(ctx context.Context) ([]ledger.Record, error) { return nil, ctx.Err() }

// Create implements ledger.Ledger.
func (e ending) Create(ctx context.Context, _ string, _ []byte) (string, error) {
	return "", ctx.Err()
}

// In a bubble, whoever asks over and over would never let the time pass after
// which it gives up.
func TestAWriteThatWaitsForRevisionsEndsWithItsServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		// The ledger cannot be reached any more, either.
		life, end := context.WithCancel(t.Context())
		end()
		r := &revisions{ctx: life, ledger: ending{memory.New()}, clock: clock.RealClock{}, step: 1000}
		if err := r.ensure(t.Context()); !apierrors.IsServiceUnavailable(err) {
			t.Errorf("%v", err)
		}
		synctest.Wait()
	})
}
