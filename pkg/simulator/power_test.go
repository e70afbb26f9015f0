// SPDX-License-Identifier: Apache-2.0

package simulator_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clocktesting "k8s.io/utils/clock/testing"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// rack is a simulator with a machine that runs.
type rack struct {
	*bubble
	clock *clocktesting.FakeClock
	id    string
}

func newRack(t *testing.T, cfg simulator.Config) *rack {
	t.Helper()
	clk := clocktesting.NewFakeClock(time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC))
	cfg.Clock = clk
	r := &rack{bubble: newBubble(t, cfg), clock: clk}
	var err error
	r.id, err = r.sim.AllocateFor(simulator.AllocateRequest{
		Project: simulator.ProjectA, Partition: simulator.DefaultPartition, Size: simulator.SmallSize, Networks: []string{r.makeNetwork(simulator.ProjectA)},
	})
	require.NoError(t, err)
	require.NoError(t, r.sim.PhoneHome(r.id))
	return r
}

func (r *rack) power(command string) {
	r.t.Helper()
	require.Equal(r.t, 200, r.ask("POST", "/v1/machine/"+r.id+"/power/"+command, nil).Status)
}

func (r *rack) state() simulator.MachineState {
	m, _ := r.sim.Inventory().Machine(r.id)
	return m
}

// shown is a machine as the metal-api answers it.
type shown struct {
	Liveliness string
	Events     struct {
		Log []struct {
			Event, Message string
		}
		CrashLoop     bool      `json:"crash_loop"`
		LastEventTime time.Time `json:"last_event_time"`
	}
	LEDState   struct{ Value, Description string }
	Allocation struct{ Reinstall bool }
	IPMI       struct {
		PowerState  string
		LastUpdated time.Time `json:"last_updated"`
	}
	Changed time.Time
}

func (r *rack) shown() shown {
	r.t.Helper()
	return into[shown](r.t, r.ask("GET", "/v1/machine/"+r.id+"/ipmi", nil))
}

func TestPower_StateIsReportedLater(t *testing.T) {
	t.Parallel()
	r := newRack(t, simulator.Config{Speed: 1})
	r.clock.Step(6 * time.Minute)
	before := r.shown()
	require.Equal(t, "ON", before.IPMI.PowerState)
	require.Equal(t, time.Minute, r.clock.Since(before.IPMI.LastUpdated), "every five minutes")

	r.power("off")
	require.Equal(t, "ON", r.state().Power, "not yet")
	r.clock.Step(10 * time.Second)
	require.Equal(t, "OFF", r.state().Power)
	require.Equal(t, before.IPMI, r.shown().IPMI, "it was not reported yet")
	require.Equal(t, "Planned Reboot", r.state().LastEvent)
	r.clock.Step(4 * time.Minute)
	off := r.shown()
	require.Equal(t, "OFF", off.IPMI.PowerState)
	require.Equal(t, before.IPMI.LastUpdated.Add(5*time.Minute), off.IPMI.LastUpdated)
	require.Equal(t, before.Changed, off.Changed)
	r.clock.Step(3 * time.Minute)
	require.Equal(t, "Unknown", r.shown().Liveliness, "a server that is off is silent")

	r.power("on")
	r.clock.Step(2 * time.Minute)
	require.Equal(t, "Phoned Home", r.state().LastEvent)
	require.Equal(t, "Alive", r.state().Liveliness)
	r.clock.Step(5 * time.Minute)
	require.Equal(t, "ON", r.shown().IPMI.PowerState)
}

func TestPower_ReportsScaleWithSpeedAndCanComeAtOnce(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cfg   simulator.Config
		after time.Duration
	}{
		"60 times as fast": {simulator.Config{Speed: 60}, 6 * time.Second},
		"at once":          {simulator.Config{PowerReportInterval: -1}, 0},
		"every second":     {simulator.Config{PowerReportInterval: time.Second}, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRack(t, c.cfg)
			r.power("off")
			r.clock.Step(c.after)
			require.Equal(t, "OFF", r.shown().IPMI.PowerState)
		})
	}
	r := newRack(t, simulator.Config{})
	r.power("off")
	r.clock.Step(time.Hour)
	require.Equal(t, "ON", r.shown().IPMI.PowerState, "nothing moves by itself")
	require.NoError(t, r.sim.ReportPower())
	require.Equal(t, "OFF", r.shown().IPMI.PowerState)
	require.Equal(t, r.clock.Now(), r.shown().IPMI.LastUpdated)
	require.Error(t, r.sim.ReportPower("nope"))
}

func TestHang_EndsWithAReset(t *testing.T) {
	t.Parallel()
	for name, commands := range map[string][]string{"cycle": {"cycle"}, "reset": {"reset"}, "off and on": {"off", "on"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRack(t, simulator.Config{Speed: 1})
			require.NoError(t, r.sim.Hang(r.id))
			r.clock.Step(7 * time.Minute)
			require.Equal(t, "Unknown", r.state().Liveliness)
			require.True(t, r.state().Hung)
			require.Equal(t, "ON", r.shown().IPMI.PowerState, "it has power")
			r.power("on")
			r.clock.Step(5 * time.Minute)
			require.Equal(t, "Unknown", r.state().Liveliness, "it is on already")
			for _, command := range commands {
				r.power(command)
			}
			r.clock.Step(2 * time.Minute)
			require.Equal(t, "Phoned Home", r.state().LastEvent)
			require.Equal(t, "Alive", r.state().Liveliness)
			require.False(t, r.state().Hung)
		})
	}
}

func TestSilence_OutlastsAPowerCycle(t *testing.T) {
	t.Parallel()
	r := newRack(t, simulator.Config{Speed: 1})
	require.NoError(t, r.sim.Silence(r.id))
	r.power("cycle")
	r.clock.Step(10 * time.Minute)
	require.Equal(t, "Unknown", r.state().Liveliness)
	require.NoError(t, r.sim.Wake(r.id))
	require.Equal(t, "Phoned Home", r.state().LastEvent)
}

func TestPower_NSQDOutageSendsNothing(t *testing.T) {
	t.Parallel()
	r := newRack(t, simulator.Config{Speed: 1})
	defer r.sim.Inject(simulator.Fault{Endpoint: "*", Kind: simulator.FaultBackendDown, Backend: "nsq"})()
	ask := func(command string) {
		t.Helper()
		reply := r.ask("POST", "/v1/machine/"+r.id+"/power/"+command, nil)
		require.Equal(t, 422, reply.Status)
		require.Regexp(t, `^dial tcp .*: connect: connection refused$`, reply.Message)
	}
	ask("on")
	ask("bios")
	require.Equal(t, "Phoned Home", r.state().LastEvent)
	ask("chassis-identify-led-on?description=lost")
	require.Equal(t, "lost", r.shown().LEDState.Description, "the LED is on all the same")
	ask("off")
	require.Equal(t, "Planned Reboot", r.state().LastEvent, "the event is there all the same")
	r.clock.Step(30 * time.Second)
	require.Equal(t, "ON", r.state().Power)
	r.clock.Step(time.Minute)
	require.Equal(t, "Phoned Home", r.state().LastEvent, "it runs on")
}

func TestLED_DescriptionIsReplaced(t *testing.T) {
	t.Parallel()
	r := newRack(t, simulator.Config{})
	r.power("chassis-identify-led-on?description=here")
	require.Equal(t, "LED-ON", r.state().LED)
	require.Equal(t, "here", r.shown().LEDState.Description)
	r.power("chassis-identify-led-off")
	require.Equal(t, "LED-OFF", r.state().LED)
	require.Empty(t, r.shown().LEDState.Description)
	require.Equal(t, "Phoned Home", r.state().LastEvent)
}

func TestReinstall_LooksLikeACrashLoopUntilPhonedHome(t *testing.T) {
	t.Parallel()
	r := newRack(t, simulator.Config{Speed: 1})
	require.Equal(t, 200, r.ask("POST", "/v1/machine/"+r.id+"/reinstall", map[string]any{"id": r.id, "imageid": "ubuntu-24.04.20250701"}).Status)
	r.clock.Step(65 * time.Second)
	installing := r.shown()
	require.Equal(t, "Installing", installing.Events.Log[0].Event)
	require.Equal(t, "[unexpectedly received in state phoned home]: machine sent extended dhcp request", installing.Events.Log[3].Message)
	require.True(t, installing.Events.CrashLoop)
	require.True(t, installing.Allocation.Reinstall)
	r.clock.Step(3 * time.Minute)
	installed := r.shown()
	require.Equal(t, "Phoned Home", installed.Events.Log[0].Event)
	require.False(t, installed.Events.CrashLoop)
	require.False(t, installed.Allocation.Reinstall)
}

// A machine that is marked while metal-core is not told boots what it has, until it boots from
// the network.
func TestReinstall_MarkedMachineInstallsAtItsNextBootFromTheNetwork(t *testing.T) {
	t.Parallel()
	r := newRack(t, simulator.Config{Speed: 1})
	nsqd := r.sim.Inject(simulator.Fault{Endpoint: "*", Kind: simulator.FaultBackendDown, Backend: "nsq"})
	require.Equal(t, 422, r.ask("POST", "/v1/machine/"+r.id+"/reinstall", map[string]any{"id": r.id, "imageid": "ubuntu-24.04.20250701"}).Status)
	nsqd()
	r.power("cycle")
	r.clock.Step(2 * time.Minute)
	require.Equal(t, "Phoned Home", r.state().LastEvent)
	require.True(t, r.shown().Allocation.Reinstall)

	r.power("pxe")
	r.power("cycle")
	r.clock.Step(5 * time.Minute)
	installed := r.shown()
	require.Equal(t, "Phoned Home", installed.Events.Log[0].Event)
	require.Equal(t, "Installing", installed.Events.Log[2].Event)
	require.False(t, installed.Allocation.Reinstall)

	r.power("bios")
	r.power("cycle")
	r.clock.Step(7 * time.Minute)
	require.Equal(t, "Unknown", r.state().Liveliness, "it is in the firmware's setup")
	r.power("reset")
	r.clock.Step(2 * time.Minute)
	require.Equal(t, "Phoned Home", r.state().LastEvent)
}
