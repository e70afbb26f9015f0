// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

func TestAllocate_RefusalSaysInNumbersWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	offers := env.withOffers()
	env.machine("node", func(m *infrastructure.MetalStackMachine) { m.Spec.MachineType = simulator.LargeSize })
	env.emptyFleet(simulator.LargeSize, 0)
	capacity, _ := offers.Capacity(simulator.DefaultPartition, simulator.LargeSize)
	_, err := env.allocate(env.p, "node", "cluster")
	want := fmt.Sprintf("refused by the metal-api: no machine available: 0 of %d %s in %s are available (free: 0, reserved for other projects: 0)", capacity.Total, simulator.LargeSize, simulator.DefaultPartition)
	require.ErrorContains(t, err, want)
	assert.Equal(t, want, allocatedCondition(t, env.getMachine("node")).Message)
	assert.Zero(t, offers.refreshes.Load(), "a refusal observes nothing")
}

// A refusal is recorded before anything is read to explain it. What was not read lately is not
// known; the next refusal knows it.
func TestAllocate_RefusalIsRecordedBeforeReservationsAreRead(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	offers := env.withOffers()
	env.machine("node")
	offers.reservations = []*metal.Reservation{{Size: simulator.SmallSize, Project: "x", Partitions: []string{simulator.DefaultPartition}, Amount: 100}}
	capacity, _ := offers.Capacity(simulator.DefaultPartition, simulator.SmallSize)
	of := fmt.Sprintf(" of %d %s in %s are ", capacity.Total, simulator.SmallSize, simulator.DefaultPartition)
	var recorded string
	offers.onReservations = func() { recorded = allocatedCondition(t, env.getMachine("node")).Message }
	refused := func() string {
		env.sim.Inject(refuse422("machine-allocate", "no machine available"))
		_, err := env.allocate(env.p, "node", "cluster")
		require.Error(t, err)
		env.advance(time.Minute)
		return allocatedCondition(t, env.getMachine("node")).Message
	}
	unknown := fmt.Sprintf("refused by the metal-api: no machine available: %d%sfree; how many of them are reserved for other projects is not known", capacity.Free, of)
	assert.Equal(t, unknown, refused())
	assert.Equal(t, unknown, recorded)
	assert.Equal(t, fmt.Sprintf("refused by the metal-api: no machine available: 0%savailable (free: %d, reserved for other projects: %[2]d)", of, capacity.Free), refused())
	offers.failing = errors.New("down")
	env.advance(maxReservationAge)
	assert.Equal(t, unknown, refused(), "they are too old")
}

// What the metal-api counts against a quota is not what it shows (docs/metal-api.md, Q71).
func TestAllocate_RefusalOfAQuotaSaysNoNumbers(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	offers := env.withOffers()
	offers.project.Machines.Used = new(int64(5))
	env.machine("node")
	env.sim.Inject(refuse422("machine-allocate", "project quota for machines reached max:8"))
	_, err := env.allocate(env.p, "node", "cluster")
	require.Error(t, err)
	assert.Equal(t, "refused by the metal-api: project quota for machines reached max:8", allocatedCondition(t, env.getMachine("node")).Message)
}

// What other projects have shows as a sum only.
func TestLeft_SaysSumsOnly(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	offers := env.withOffers()
	env.emptyFleet(simulator.LargeSize, 2)
	capacity, _ := offers.Capacity(simulator.DefaultPartition, simulator.LargeSize)
	say := func(reservations ...*metal.Reservation) string {
		return env.p.opts.Offers.left(simulator.ProjectA, simulator.DefaultPartition, simulator.LargeSize, reservations).String()
	}
	reserved := func(project string, amount int) *metal.Reservation {
		return &metal.Reservation{ID: "secret", Size: simulator.LargeSize, Project: project, Partitions: []string{simulator.DefaultPartition}, Amount: amount}
	}
	of := fmt.Sprintf(" of %d %s in %s are available (free: 2, reserved for other projects: ", capacity.Total, simulator.LargeSize, simulator.DefaultPartition)
	assert.Equal(t, "2"+of+"0)", say())
	assert.Equal(t, "1"+of+"1)", say(reserved("x", 1)))
	assert.Equal(t, "0"+of+"2)", say(reserved("x", 1), reserved("y", 1)))
	assert.Equal(t, "2"+of+"0)", say(reserved(simulator.ProjectA, 2), reserved("x", 2)))
	assert.Equal(t, "there is no huge in nowhere", env.p.opts.Offers.left(simulator.ProjectA, "nowhere", "huge", nil).String())
}
