// SPDX-License-Identifier: Apache-2.0

package ledger_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/ledgertest"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/memory"
	"metal-stack.io/infrastructure-apiserver/pkg/recordformat"
)

func TestGuard_KeepsTheContract(t *testing.T) {
	t.Parallel()
	ledgertest.Run(t, ledgertest.Harness{New: func(*testing.T) ledger.Ledger { return ledger.Guard(memory.New()) }})
}

// calls counts what reaches a ledger.
type calls struct {
	ledger.Ledger
	n int
}

func (c *calls) List(ctx context.Context) ([]ledger.Record, error) {
	c.n++
	return c.Ledger.List(ctx)
}

func (c *calls) Get(ctx context.Context, key string) (ledger.Record, error) {
	c.n++
	return c.Ledger.Get(ctx, key)
}

func (c *calls) Create(ctx context.Context, key string, value []byte) (string, error) {
	c.n++
	return c.Ledger.Create(ctx, key, value)
}

func (c *calls) Update(ctx context.Context, key, version string, value []byte) (string, error) {
	c.n++
	return c.Ledger.Update(ctx, key, version, value)
}

func (c *calls) Delete(ctx context.Context, key, version string) error {
	c.n++
	return c.Ledger.Delete(ctx, key, version)
}

func TestGuard_RefusesEverythingAfterNewerRecord(t *testing.T) {
	t.Parallel()
	for name, read := range map[string]func(context.Context, ledger.Ledger) error{
		"list": func(ctx context.Context, l ledger.Ledger) error { _, err := l.List(ctx); return err },
		"list changed": func(ctx context.Context, l ledger.Ledger) error {
			_, err := ledger.ListChanged(ctx, l, map[string]string{"a/b": "0"})
			return err
		},
		"get": func(ctx context.Context, l ledger.Ledger) error { _, err := l.Get(ctx, "a/newer"); return err },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &calls{Ledger: memory.New()}
			g := ledger.Guard(c)
			assert.Same(t, g, ledger.Guard(g))
			version, err := g.Create(t.Context(), "a/b", []byte(`{}`))
			require.NoError(t, err)
			_, err = c.Create(t.Context(), "a/newer", []byte(`{"format":2,"writtenBy":"v9"}`))
			require.NoError(t, err)
			require.NoError(t, g.Check())

			err = read(t.Context(), g)
			require.True(t, recordformat.IsNewer(err), "%v", err)
			<-g.Met()
			require.ErrorContains(t, g.Check(), "format 2, written by v9")
			assert.Equal(t, map[string]struct{}{"a/newer": {}}, g.Newer())

			// It is remembered, even if the record is gone again.
			before := c.n
			newest, err := c.Ledger.Get(t.Context(), "a/newer")
			require.NoError(t, err)
			require.NoError(t, c.Ledger.Delete(t.Context(), "a/newer", newest.Version))
			_, listErr := g.List(t.Context())
			_, getErr := g.Get(t.Context(), "a/b")
			_, createErr := g.Create(t.Context(), "a/c", []byte(`{}`))
			_, updateErr := g.Update(t.Context(), "a/b", version, []byte(`{}`))
			deleteErr := g.Delete(t.Context(), "a/b", version)
			for _, err := range []error{listErr, getErr, createErr, updateErr, deleteErr} {
				assert.True(t, recordformat.IsNewer(err), "%v", err)
			}
			for _, err := range []error{createErr, updateErr, deleteErr} {
				assert.ErrorIs(t, err, ledger.ErrNotWritten)
			}
			assert.Equal(t, before, c.n, "calls of the ledger")
		})
	}
}

func TestGuard_LeavesDamageToWhoDecodes(t *testing.T) {
	t.Parallel()
	g := ledger.Guard(memory.New())
	for key, value := range map[string]string{"a/text": `?`, "a/zero": `{"format":0}`, "a/word": `{"format":"2"}`} {
		_, err := g.Create(t.Context(), key, []byte(value))
		require.NoError(t, err)
	}
	list, err := g.List(t.Context())
	require.NoError(t, err)
	assert.Len(t, list, 3)
}
