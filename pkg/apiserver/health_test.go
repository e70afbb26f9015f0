package apiserver

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// known says what is known so far.
type known struct{ metal, bindings bool }

func (k *known) Swept() bool              { return k.metal }
func (k *known) Staleness() time.Duration { return time.Minute }
func (k *known) Synced() bool             { return k.bindings }

func TestNobodyIsAnsweredBeforeItIsKnownWhoseMetalIsWhose(t *testing.T) {
	t.Parallel()
	k := &known{metal: true}
	r := &readiness{looker: k, bindings: k}
	assert.False(t, r.ready())
	assert.Contains(t, r.reason(), "the Namespaces have not been listed yet")
	assert.ErrorContains(t, r.check().Check(nil), "the Namespaces have not been listed yet")
	k.metal, k.bindings = false, true
	assert.False(t, r.ready())
	assert.Contains(t, r.reason(), "has not been looked at completely yet, for 1m0s")
	k.metal = true
	assert.True(t, r.ready())
	k.metal, k.bindings = false, false
	assert.True(t, r.ready(), "from then on it stays")
	assert.True(t, (&readiness{looker: &known{metal: true}}).ready(), "without a cluster the bindings are known from the start")
}
