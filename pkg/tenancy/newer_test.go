// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metadatafake "k8s.io/client-go/metadata/fake"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	"metal-stack.io/infrastructure-apiserver/pkg/recordformat"
)

func TestBindingStore_RecordSaysItsFormat(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	e.label("team-a", projectA)
	e.reconcile(e.newServer())
	r, err := e.ledger.Get(t.Context(), recordKey)
	require.NoError(t, err)
	assert.Regexp(t, `^\{"format":1,"namespaces":\{`, string(r.Value))
}

func TestBinder_NewerRecordLeavesBindingsAsTheyAre(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	guard := ledger.Guard(e.ledger)
	config := e.config()
	config.Ledger, config.CheckFormat = guard, guard.Check
	n := NewNamespaces(metadatafake.NewSimpleMetadataClient(metadatafake.NewTestScheme()), e, e.clock)
	n.active.Store(true)
	b := newBinder(n, config, e.list, e.listLive)
	e.label("team-a", projectA)
	e.reconcile(b)

	before, err := e.ledger.List(t.Context())
	require.NoError(t, err)
	version, err := e.ledger.Create(t.Context(), "metalstackmachines/team-a/node-1", []byte(`{"format":2}`))
	require.NoError(t, err)
	_, err = guard.List(t.Context())
	require.Error(t, err)
	require.NoError(t, e.ledger.Delete(t.Context(), "metalstackmachines/team-a/node-1", version))

	e.label("team-a", projectB)
	e.label("team-c", projectC)
	_, err = b.reconcile(t.Context())
	require.True(t, recordformat.IsNewer(err), "%v", err)
	assert.Equal(t, projectA, projectOf(b, "team-a"))
	assert.Empty(t, projectOf(b, "team-c"))
	after, err := e.ledger.List(t.Context())
	require.NoError(t, err)
	assert.Equal(t, before, after)
}

// A standby that meets newer bindings ends, and does not tell people to delete them.
func TestRun_EndsAtNewerBindings(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	_, err := e.ledger.Create(t.Context(), recordKey, []byte(`{"format":2,"writtenBy":"v9"}`))
	require.NoError(t, err)
	_, err = e.newServer().reconcile(t.Context())
	require.ErrorContains(t, err, "upgrade the server")
	assert.NotContains(t, err.Error(), "delete")

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	n := NewNamespaces(metadatafake.NewSimpleMetadataClient(newMetadataScheme(t)), e, nil)
	config := e.config()
	config.Standby = true
	n.Run(ctx, config)
	require.NoError(t, ctx.Err(), "it still runs")
	assert.False(t, n.Synced())
}
