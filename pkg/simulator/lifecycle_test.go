// SPDX-License-Identifier: Apache-2.0

package simulator_test

import (
	"testing"
	"testing/synctest"
	"time"

	machineapi "github.com/metal-stack/metal-go/api/client/machine"
	"github.com/metal-stack/metal-go/api/models"
	"github.com/stretchr/testify/require"
	clocktesting "k8s.io/utils/clock/testing"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

func logOf(m *models.V1MachineResponse) []string {
	var l []string
	for _, e := range m.Events.Log {
		l = append(l, *e.Event)
	}
	return l
}

// TestMachine_PhonesHomeAndReturnsAfterFree: an allocated machine installs and
// phones home in about two minutes, and is available again after a free.
func TestMachine_PhonesHomeAndReturnsAfterFree(t *testing.T) {
	t.Parallel()
	clk := clocktesting.NewFakeClock(time.Now())
	s := newLab(t, simulator.Config{Clock: clk, Speed: 1})
	m := s.mustAllocate(wanted(s.makeNetwork(simulator.ProjectA)))
	require.Equal(t, "Waiting", *s.get(*m.ID).Events.Log[0].Event, "no new event")

	clk.Step(4 * time.Second)
	require.Equal(t, "Installing", *s.get(*m.ID).Events.Log[0].Event)
	clk.Step(2 * time.Minute)
	home := s.get(*m.ID)
	require.Equal(t, []string{"Phoned Home", "Booting New Kernel", "Installing", "Waiting", "Registering", "Preparing", "PXE Booting"}, logOf(home))
	require.NotNil(t, home.Allocation.BootInfo)
	require.False(t, *home.Allocation.Succeeded)
	require.True(t, time.Time(home.Events.Log[1].Time).Before(time.Time(home.Events.Log[0].Time)), "each event has its own time, however long nobody looked")

	require.NoError(t, s.free(*m.ID))
	require.Equal(t, "Machine Reclaim", *s.get(*m.ID).Events.Log[0].Event)
	clk.Step(90 * time.Second)
	require.Equal(t, []string{"Waiting", "Registering", "Preparing", "PXE Booting", "Machine Reclaim"}, logOf(s.get(*m.ID))[:5])
}

func TestSpeed_ZeroStopsTransitions(t *testing.T) {
	t.Parallel()
	clk := clocktesting.NewFakeClock(time.Now())
	s := newLab(t, simulator.Config{Clock: clk})
	m := s.mustAllocate(wanted(s.makeNetwork(simulator.ProjectA)))
	clk.Step(time.Hour)
	require.Equal(t, "Waiting", *s.get(*m.ID).Events.Log[0].Event)
	require.Equal(t, "Alive", *s.get(*m.ID).Liveliness, "but machines that are on give signs of life")
	require.NoError(t, s.Sim.PhoneHome(*m.ID))
	require.Equal(t, "Phoned Home", *s.get(*m.ID).Events.Log[0].Event)
}

func TestSpeed_IsFactor(t *testing.T) {
	t.Parallel()
	clk := clocktesting.NewFakeClock(time.Now())
	s := newLab(t, simulator.Config{Clock: clk, Speed: 60})
	m := s.mustAllocate(wanted(s.makeNetwork(simulator.ProjectA)))
	clk.Step(3 * time.Second)
	require.Equal(t, "Phoned Home", *s.get(*m.ID).Events.Log[0].Event)
}

func TestMachineChanged_IgnoresEventsAndLiveliness(t *testing.T) {
	t.Parallel()
	clk := clocktesting.NewFakeClock(time.Now())
	s := newLab(t, simulator.Config{Clock: clk})
	m := s.mustAllocate(wanted(s.makeNetwork(simulator.ProjectA)))
	require.NoError(t, s.Sim.PhoneHome(*m.ID))
	before := s.get(*m.ID).Changed
	clk.Step(time.Second)
	for _, e := range []string{"Phoned Home", "Crashed", "PXE Booting", "Preparing"} {
		require.NoError(t, s.Sim.SendEvent(*m.ID, e, ""))
	}
	require.NoError(t, s.Sim.Silence(*m.ID))
	clk.Step(10 * time.Minute)
	after := s.get(*m.ID)
	require.Equal(t, "Unknown", *after.Liveliness)
	require.Equal(t, before, after.Changed)
}

// TestEvents_RepeatedPhonedHomeUpdatesLastEventTime: a repeated Phoned Home
// changes nothing else.
func TestEvents_RepeatedPhonedHomeUpdatesLastEventTime(t *testing.T) {
	t.Parallel()
	clk := clocktesting.NewFakeClock(time.Now())
	s := newLab(t, simulator.Config{Clock: clk})
	m := s.mustAllocate(wanted(s.makeNetwork(simulator.ProjectA)))
	require.NoError(t, s.Sim.PhoneHome(*m.ID))
	before := s.get(*m.ID)
	clk.Step(150 * time.Second)
	after := s.get(*m.ID)
	require.Equal(t, logOf(before), logOf(after))
	require.Equal(t, 2*time.Minute, time.Time(after.Events.LastEventTime).Sub(time.Time(before.Events.LastEventTime)))
	require.Equal(t, after.Events.LastEventTime, s.find(&models.V1MachineFindRequest{ID: *m.ID})[0].Events.LastEventTime, "find and get agree")
}

func TestEvents_OldPhonedHomeStaysInNewAllocation(t *testing.T) {
	t.Parallel()
	clk := clocktesting.NewFakeClock(time.Now())
	s := newLab(t, simulator.Config{Clock: clk})
	nw := s.makeNetwork(simulator.ProjectA)
	m := s.mustAllocate(wanted(nw))
	require.NoError(t, s.Sim.PhoneHome(*m.ID))
	require.NoError(t, s.free(*m.ID))
	require.NoError(t, s.Sim.Recycle(*m.ID))
	clk.Step(time.Minute)
	r := wanted(nw)
	r.UUID = *m.ID
	again := s.mustAllocate(r)
	require.NotEqual(t, *m.Allocation.Allocationuuid, *again.Allocation.Allocationuuid)
	require.Equal(t, "Waiting", *again.Events.Log[0].Event)
	old := again.Events.Log[5]
	require.Equal(t, "Phoned Home", *old.Event)
	require.True(t, time.Time(old.Time).Before(time.Time(*again.Allocation.Created)))
}

// TestLiveliness_SilentMachineIsDeadOrUnknown: a machine without events is
// Dead or Unknown after five minutes, and Alive again with any event.
func TestLiveliness_SilentMachineIsDeadOrUnknown(t *testing.T) {
	t.Parallel()
	clk := clocktesting.NewFakeClock(time.Now())
	s := newLab(t, simulator.Config{Clock: clk})
	m := s.mustAllocate(wanted(s.makeNetwork(simulator.ProjectA)))
	free := s.Sim.MachineIDs()[0]
	if free == *m.ID {
		free = s.Sim.MachineIDs()[1]
	}
	require.NoError(t, s.Sim.Silence(*m.ID))
	require.NoError(t, s.Sim.Silence(free))
	clk.Step(4 * time.Minute)
	require.Equal(t, "Alive", *s.get(free).Liveliness)
	clk.Step(3 * time.Minute)
	require.Equal(t, "Dead", *s.get(free).Liveliness)
	require.Equal(t, "Unknown", *s.get(*m.ID).Liveliness)
	require.NoError(t, s.Sim.SendEvent(*m.ID, "Alive", ""))
	require.Equal(t, "Alive", *s.get(*m.ID).Liveliness)

	byID := wanted(s.makeNetwork(simulator.ProjectA))
	byID.UUID = free
	s.mustAllocate(byID) // a dead machine, by id
}

func TestEvents_CrashLoopAndFailedReclaim(t *testing.T) {
	t.Parallel()
	clk := clocktesting.NewFakeClock(time.Now())
	s := newLab(t, simulator.Config{Clock: clk})
	m := s.mustAllocate(wanted(s.makeNetwork(simulator.ProjectA)))
	require.NoError(t, s.Sim.SendEvent(*m.ID, "Installing", ""))
	require.NoError(t, s.Sim.Crash(*m.ID))
	crashed := s.get(*m.ID)
	require.True(t, *crashed.Events.CrashLoop)
	require.Equal(t, "Crashed", *crashed.Events.LastErrorEvent.Event)

	require.NoError(t, s.free(*m.ID))
	require.False(t, *s.get(*m.ID).Events.CrashLoop)
	clk.Step(time.Minute)
	require.NoError(t, s.Sim.SendEvent(*m.ID, "Phoned Home", ""))
	require.False(t, *s.get(*m.ID).Events.FailedMachineReclaim)
	clk.Step(6 * time.Minute)
	require.NoError(t, s.Sim.SendEvent(*m.ID, "Phoned Home", ""))
	require.True(t, *s.get(*m.ID).Events.FailedMachineReclaim)
	require.NoError(t, s.Sim.SendEvent(*m.ID, "PXE Booting", ""))
	require.False(t, *s.get(*m.ID).Events.FailedMachineReclaim)
}

func TestCrash_LoopsUntilWake(t *testing.T) {
	t.Parallel()
	clk := clocktesting.NewFakeClock(time.Now())
	s := newLab(t, simulator.Config{Clock: clk, Speed: 1})
	m := s.mustAllocate(wanted(s.makeNetwork(simulator.ProjectA)))
	clk.Step(3 * time.Minute)
	require.NoError(t, s.Sim.Crash(*m.ID))
	clk.Step(20 * time.Minute)
	require.True(t, *s.get(*m.ID).Events.CrashLoop)
	require.NotContains(t, logOf(s.get(*m.ID))[:5], "Phoned Home")
	require.NoError(t, s.Sim.Wake(*m.ID))
	require.Equal(t, "Phoned Home", *s.get(*m.ID).Events.Log[0].Event)
}

func TestEvents_UnexpectedIsKeptWithNote(t *testing.T) {
	t.Parallel()
	s := newLab(t, simulator.Config{})
	m := s.mustAllocate(wanted(s.makeNetwork(simulator.ProjectA)))
	require.NoError(t, s.Sim.PhoneHome(*m.ID))
	require.NoError(t, s.Sim.SendEvent(*m.ID, "Crashed", "panic"))
	require.Equal(t, "[unexpectedly received in state phoned home]: panic", s.get(*m.ID).Events.Log[0].Message)
	require.Error(t, s.Sim.SendEvent(*m.ID, "No Such Event", ""))
}

// TestMachine_WithoutEventContainerIsNotFoundByGet: a machine without event
// container is answered 404 by get, but is listed by find.
func TestMachine_WithoutEventContainerIsNotFoundByGet(t *testing.T) {
	t.Parallel()
	s := newLab(t, simulator.Config{})
	id := s.Sim.MachineIDs()[0]
	require.NoError(t, s.Sim.DropEventContainer(id))
	_, err := s.View.Machine().FindMachine(machineapi.NewFindMachineParams().WithID(id), nil)
	refused(t, err, 404, "no provisioningeventcontainer with id")
	found := s.find(&models.V1MachineFindRequest{ID: id})
	require.Len(t, found, 1)
	require.Empty(t, found[0].Events.Log)
	require.Empty(t, *found[0].Liveliness)
}

func TestPXEBoot_UnknownMachineIsCreatedEmpty(t *testing.T) {
	t.Parallel()
	s := newLab(t, simulator.Config{})
	const id = "00000000-0000-4000-8000-00000000abcd"
	require.NoError(t, s.Sim.SendEvent(id, "PXE Booting", "machine sent extended dhcp request"))
	empty := s.get(id)
	require.Nil(t, empty.Size)
	require.Nil(t, empty.Partition)
	require.NoError(t, s.Sim.Register(id, simulator.Machine{Partition: simulator.DefaultPartition, Rack: "fra-01-rack-09", Size: simulator.LargeSize}))
	require.Equal(t, simulator.LargeSize, *s.get(id).Size.ID)
	require.NoError(t, s.Sim.Recycle(id))
	inventory := s.Sim.Inventory()
	m, ok := inventory.Machine(id)
	require.True(t, ok)
	require.True(t, m.Waiting)
}

func TestReinstall_RepeatsInstallation(t *testing.T) {
	t.Parallel()
	clk := clocktesting.NewFakeClock(time.Now())
	s := newLab(t, simulator.Config{Clock: clk, Speed: 1})
	m := s.mustAllocate(wanted(s.makeNetwork(simulator.ProjectA)))
	clk.Step(3 * time.Minute)
	r, err := s.Edit.Machine().ReinstallMachine(machineapi.NewReinstallMachineParams().WithID(*m.ID).WithBody(&models.V1MachineReinstallRequest{
		ID: m.ID, Imageid: ref("ubuntu-24.04.20250701"),
	}), nil)
	require.NoError(t, err)
	require.True(t, *r.Payload.Allocation.Reinstall)
	clk.Step(5 * time.Minute)
	again := s.get(*m.ID)
	require.False(t, *again.Allocation.Reinstall)
	require.Equal(t, "Phoned Home", *again.Events.Log[0].Event)
	require.Equal(t, "ubuntu-24.04.20250701", *again.Allocation.BootInfo.ImageID)
}

func TestRun_AdvancesWithoutRequests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, simulator.Config{Speed: 1})
		go b.sim.Run(t.Context())
		id, err := b.sim.AllocateFor(simulator.AllocateRequest{
			Project: simulator.ProjectA, Partition: simulator.DefaultPartition, Size: simulator.SmallSize, Networks: []string{b.makeNetwork(simulator.ProjectA)},
		})
		require.NoError(t, err)
		time.Sleep(3*time.Minute + time.Second)
		require.Zero(t, b.sim.Advance(), "nothing is left to do")
		m, _ := b.sim.Inventory().Machine(id)
		require.Equal(t, "Phoned Home", m.LastEvent)
	})
}
