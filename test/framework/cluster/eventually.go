package cluster

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	// askInterval is how often Eventually asks.
	askInterval = 50 * time.Millisecond
	// askLimit is how long one request of the fixture's own may take before it is
	// made again.
	askLimit = 5 * time.Second
)

// Eventually asks until it is answered without an error. After limit the test
// fails with the last one, and with what, if it is there.
func Eventually(t testing.TB, limit time.Duration, ask func(context.Context) error, what ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(askInterval)
	defer tick.Stop()
	last := context.DeadlineExceeded
	for {
		err := ask(ctx)
		if err == nil {
			return
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			require.NoError(t, last, what...)
		}
	}
}

// eventually is Eventually for requests of which any one may get lost.
func eventually(t testing.TB, limit time.Duration, ask func(context.Context) error) {
	t.Helper()
	Eventually(t, limit, func(ctx context.Context) error {
		attempt, done := context.WithTimeout(ctx, askLimit)
		defer done()
		return ask(attempt)
	})
}
