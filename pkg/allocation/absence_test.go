package allocation

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// cutShort lets one find answer a list that looks whole, and has nothing in it.
func (w *environment) cutShort(find string) {
	w.sim.Inject(simulator.Fault{Endpoint: find, Kind: simulator.FaultTruncatedList, Fraction: 0, Times: 1})
}

func TestAMachineThatOneLookDoesNotShowIsReleasedAllTheSame(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	m := w.node("node")
	w.cutShort("machine-find")
	_, err := w.release(w.p, "node")
	require.NoError(t, err)
	assert.Equal(t, 1, w.sim.Books().Frees(uidTag(m.UID)))
	w.gone(w.p)
}

func TestWhatALostCallLeftIsReleasedAlthoughOneLookDoesNotShowIt(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.allocatedCluster("cluster")
	claim := w.machine("node")
	w.crashAt(w.p, "machine/called", 1)
	_, err := w.allocate(w.p, "node", "cluster")
	require.Error(t, err)
	w.advance(2 * w.p.timing.allocateInFlight())

	next := w.newProtocol()
	w.cutShort("machine-find")
	_, err = w.release(next, "node")
	require.NoError(t, err)
	assert.Equal(t, 1, w.sim.Books().Frees(uidTag(claim.UID)))
	w.gone(next)
}

func TestAnAddressAndANetworkThatOneLookDoesNotShowAreReleasedAllTheSame(t *testing.T) {
	t.Parallel()
	for _, find := range []string{"ip-find", "network-find"} {
		t.Run(find, func(t *testing.T) {
			t.Parallel()
			w := newEnvironment(t)
			w.allocatedCluster("cluster")
			w.cutShort(find)
			w.gone(w.p)
		})
	}
}
