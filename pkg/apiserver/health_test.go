// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// known says what is known so far.
type known struct{ metal, bindings bool }

func (k *known) HasSynced() bool          { return k.metal }
func (k *known) Staleness() time.Duration { return time.Minute }
func (k *known) Synced() bool             { return k.bindings }

func TestReadiness_WaitsForNamespacesAndInitialSync(t *testing.T) {
	t.Parallel()
	k := &known{metal: true}
	r := &readiness{sweeps: k, bindings: k}
	assert.False(t, r.ready())
	assert.Contains(t, r.reason(), "namespaces not yet synced")
	assert.ErrorContains(t, r.initialSyncCheck().Check(nil), "namespaces not yet synced")
	k.metal, k.bindings = false, true
	assert.False(t, r.ready())
	assert.Contains(t, r.reason(), "initial sync with the metal-api incomplete after 1m0s")
	k.metal = true
	assert.True(t, r.ready())
	k.metal, k.bindings = false, false
	assert.True(t, r.ready(), "from then on it stays")
	assert.True(t, (&readiness{sweeps: &known{metal: true}}).ready(), "without a cluster the bindings are known from the start")
}
