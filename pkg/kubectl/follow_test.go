// SPDX-License-Identifier: Apache-2.0

package kubectl

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	clocktesting "k8s.io/utils/clock/testing"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// begin runs a command that goes on until the test has made happen what it waits for.
func (s *fakeServer) begin(at terminal, args ...string) <-chan outcome {
	done := make(chan outcome, 1)
	go func() { done <- s.runAt(at, args...) }()
	return done
}

func end(t *testing.T, done <-chan outcome) outcome {
	t.Helper()
	select {
	case o := <-done:
		return o
	case <-time.After(timeout):
		require.Fail(t, "the command did not end")
		return outcome{}
	}
}

// with returns the machine with another last event, and sets it as that of the server.
func (s *fakeServer) with(event string, time *metav1.Time) *v1alpha4.MetalStackMachine {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.machines[0].DeepCopy()
	m.Status.Metal.Phase, m.Status.Metal.LastEvent = event, &v1alpha4.MetalEvent{Event: event, Time: time}
	s.machines[0] = m
	return m
}

func TestLog_FollowPrintsNewEventsOnce(t *testing.T) {
	t.Parallel()
	s := shop(t)
	log := func(events ...v1alpha4.MetalEvent) {
		s.on("GET metalstackmachines/worker-1/log", http.StatusOK, v1alpha4.MachineLog{Events: events})
	}
	log(v1alpha4.MetalEvent{Event: "Phoned Home", Time: at(5 * time.Minute)})
	done := s.begin(terminal{}, "log", "worker-1", "-f")
	w := s.watchBegun()
	// Phoning home once more is no news; nor is a change without an event.
	again := v1alpha4.MetalEvent{Event: "Phoned Home", Time: at(4 * time.Minute)}
	log(again)
	w <- watchEvent{watch.Modified, s.with("Phoned Home", at(4*time.Minute))}
	w <- watchEvent{watch.Modified, s.machines[0]}
	log(again, v1alpha4.MetalEvent{Event: "Planned Reboot", Message: "cycle", Time: at(3 * time.Minute)})
	w <- watchEvent{watch.Modified, s.with("Planned Reboot", at(3*time.Minute))}
	w <- watchEvent{watch.Deleted, s.machines[0]}
	o := end(t, done)
	assert.Zero(t, o.code, o.stderr)
	assert.Equal(t, "2026-11-29T11:55:00Z  Phoned Home\n2026-11-29T11:57:00Z  Planned Reboot      cycle\n", o.stdout)
	assert.Equal(t, "metalstackmachine/worker-1 is gone.\n", o.stderr)
	assert.Equal(t, 3, s.gets("metalstackmachines/worker-1/log"), "the log is read when the last event changes, and not else")
}

func TestLog_FollowResumesAfterTheWatchEnds(t *testing.T) {
	t.Parallel()
	s := shop(t)
	describable(s)
	clock := clocktesting.NewFakeClock(now)
	done := s.begin(terminal{clock: clock}, "log", "worker-1", "-f")
	close(s.watchBegun())
	require.Eventually(t, func() bool { return clock.Waiters() == 2 }, timeout, time.Millisecond, "beside the ticker, the delay")
	clock.Step(time.Second)
	s.watchBegun() <- watchEvent{watch.Deleted, s.machines[0]}
	o := end(t, done)
	assert.Zero(t, o.code, o.stderr)
	assert.Equal(t, 3, strings.Count(o.stdout, "\n"), "nothing is printed twice: %s", o.stdout)
}

func TestLog_FollowReadsAgainWhatCouldNotBeRead(t *testing.T) {
	t.Parallel()
	s := shop(t)
	const path = "metalstackmachines/worker-1/log"
	s.on("GET "+path, http.StatusOK, v1alpha4.MachineLog{})
	clock := clocktesting.NewFakeClock(now)
	done := s.begin(terminal{clock: clock}, "log", "worker-1", "-f")
	w := s.watchBegun()
	busy := apierrors.NewTooManyRequests("too many look-ups", 1)
	s.on("GET "+path, http.StatusTooManyRequests, busy.Status())
	w <- watchEvent{watch.Modified, s.with("Planned Reboot", at(0))}
	read := func(n int) {
		t.Helper()
		require.Eventually(t, func() bool { return s.gets(path) >= n }, timeout, time.Millisecond)
	}
	read(2)
	clock.Step(owedInterval)
	read(3)
	s.on("GET "+path, http.StatusOK, v1alpha4.MachineLog{Events: []v1alpha4.MetalEvent{{Event: "Planned Reboot", Time: at(0)}}})
	clock.Step(owedInterval)
	read(4)
	clock.Step(owedInterval) // nothing is owed any more
	w <- watchEvent{watch.Deleted, s.machines[0]}
	o := end(t, done)
	assert.Equal(t, "2026-11-29T12:00:00Z  Planned Reboot\n", o.stdout)
	assert.Equal(t, "warning: the log cannot be read now, and is read again: too many look-ups\nmetalstackmachine/worker-1 is gone.\n", o.stderr)
	assert.Equal(t, 4, s.gets(path))
}

// Only Phoned Home is sent again and again by a machine that runs.
func TestLog_FollowPrintsOtherEventsEachTime(t *testing.T) {
	t.Parallel()
	s := shop(t)
	s.on("GET metalstackmachines/worker-1/log", http.StatusOK, v1alpha4.MachineLog{Events: []v1alpha4.MetalEvent{
		{Event: "PXE Booting", Time: at(4 * time.Minute)}, {Event: "PXE Booting", Time: at(3 * time.Minute)},
		{Event: "Phoned Home", Time: at(2 * time.Minute)}, {Event: "Phoned Home", Time: at(time.Minute)},
	}})
	done := s.begin(terminal{}, "log", "worker-1", "-f")
	s.watchBegun() <- watchEvent{watch.Deleted, s.machines[0]}
	assert.Equal(t, "2026-11-29T11:56:00Z  PXE Booting\n2026-11-29T11:57:00Z  PXE Booting\n2026-11-29T11:58:00Z  Phoned Home\n", end(t, done).stdout)
}

func TestLog_FollowOfUnknownNameFails(t *testing.T) {
	t.Parallel()
	o := shop(t).run("log", "worker-9", "-f")
	assert.Equal(t, 1, o.code)
	assert.Contains(t, o.stderr, `"worker-9" not found`)
}

// A machine that phoned home before the power cycle has not come back from it.
func TestWait_PhonedHomeIsAfterTheLastAction(t *testing.T) {
	t.Parallel()
	s := shop(t)
	m := s.machines[0]
	m.Status.LastOperation = &v1alpha4.MachineOperation{
		Action: "Cycle", RequestTime: &metav1.MicroTime{Time: now.Add(-30 * time.Second)}, Outcome: v1alpha4.OperationSent, AllocationUUID: m.Status.Metal.AllocationUUID,
	}
	done := s.begin(terminal{}, "wait", "worker-1", "--for=phoned-home")
	w := s.watchBegun()
	w <- watchEvent{watch.Modified, s.with("Phoned Home", at(31*time.Second))}
	w <- watchEvent{watch.Modified, s.with("Phoned Home", at(30*time.Second))}
	o := end(t, done)
	assert.Zero(t, o.code, o.stderr)
	assert.Equal(t, "metalstackmachine/worker-1: phoned-home\n", o.stdout)

	// The metal-api's clock may be slow: then it is seen that the machine was away.
	s.with("Phoned Home", at(time.Hour))
	done = s.begin(terminal{}, "wait", "worker-1", "--for=phoned-home")
	w = s.watchBegun()
	w <- watchEvent{watch.Modified, s.with("Planned Reboot", at(50*time.Second))}
	w <- watchEvent{watch.Modified, s.with("Phoned Home", at(40*time.Second))}
	o = end(t, done)
	assert.Zero(t, o.code, o.stderr)
	assert.Contains(t, o.stderr, "metalstackmachine/worker-1: Planned Reboot\n")
}

// A machine that was on already, or whose boot from the disk is no new event, sends no event
// after it was switched on.
func TestWait_PhonedHomeAfterPowerOnWithoutANewEvent(t *testing.T) {
	t.Parallel()
	start := func(t *testing.T, state v1alpha4.PowerState, observed *metav1.Time) *fakeServer {
		s := shop(t)
		m := s.with("Phoned Home", at(time.Hour))
		m.Status.LastOperation = &v1alpha4.MachineOperation{Action: "On", RequestTime: &metav1.MicroTime{Time: now}, Outcome: v1alpha4.OperationSent}
		s.on("GET metalstackmachines/worker-1/power", http.StatusOK, v1alpha4.MachinePower{Status: v1alpha4.MachinePowerStatus{State: state, ObservedTime: observed}})
		return s
	}
	s := start(t, "On", at(time.Minute)) // old
	clock := clocktesting.NewFakeClock(now)
	done := s.begin(terminal{clock: clock}, "wait", "worker-1", "--for=phoned-home")
	s.watchBegun()
	s.on("GET metalstackmachines/worker-1/power", http.StatusOK, v1alpha4.MachinePower{Status: v1alpha4.MachinePowerStatus{State: "On", ObservedTime: at(-time.Minute)}})
	clock.Step(powerInterval)
	o := end(t, done)
	assert.Zero(t, o.code, o.stderr)
	assert.Contains(t, o.stderr, "no report that it is on since the last action\n")

	// It was silent, and sends events again.
	s = start(t, "Off", at(time.Minute))
	m := s.machines[0]
	m.Status.Metal.Liveliness, m.Status.Conditions[0].Status = "Unknown", metav1.ConditionFalse
	done = s.begin(terminal{}, "wait", "worker-1", "--for=phoned-home")
	w := s.watchBegun()
	again := m.DeepCopy()
	again.Status.Metal.Liveliness, again.Status.Conditions[0].Status = "Alive", metav1.ConditionTrue
	w <- watchEvent{watch.Modified, again}
	assert.Zero(t, end(t, done).code)

	// After a reset, that does not count: it has an event.
	s = start(t, "On", at(-time.Minute))
	s.machines[0].Status.LastOperation.Action = "Reset"
	clock = clocktesting.NewFakeClock(now)
	done = s.begin(terminal{clock: clock}, "wait", "worker-1", "--for=phoned-home", "--timeout=1m")
	s.watchBegun()
	clock.Step(time.Minute)
	assert.Contains(t, end(t, done).stderr, "not phoned-home after 1m0s; last seen: Phoned Home, as before the last action")
}

func TestWait_GoalsThatAreReachedAlready(t *testing.T) {
	t.Parallel()
	s := shop(t)
	m := s.machines[0]
	for _, operation := range []*v1alpha4.MachineOperation{
		nil,
		{Action: "BootPXE", RequestTime: &metav1.MicroTime{Time: now}, Outcome: v1alpha4.OperationSent},
		{Action: "Cycle", RequestTime: &metav1.MicroTime{Time: now}, Outcome: v1alpha4.OperationRefused},
		{Action: "Cycle", RequestTime: &metav1.MicroTime{Time: now}, Outcome: v1alpha4.OperationSent, AllocationUUID: "another"},
		{Action: "Cycle", RequestTime: &metav1.MicroTime{Time: now.Add(-time.Hour)}, Outcome: v1alpha4.OperationSent},
	} {
		m.Status.LastOperation = operation
		o := s.run("wait", "worker-1", "--for=phoned-home")
		assert.Zero(t, o.code, "%+v: %s", operation, o.stderr)
	}
	assert.Zero(t, s.run("wait", "worker-1", "--for=ready").code)
	assert.Zero(t, s.run("wait", "firewall/shop-1", "--for=ready").code)
	m.Status.Allocation.Phase = v1alpha4.AllocationReleased
	assert.Zero(t, s.run("wait", "worker-1", "--for=released").code)
}

func TestWait_ReleasedIsAlsoGone(t *testing.T) {
	t.Parallel()
	s := shop(t)
	done := s.begin(terminal{}, "wait", "worker-1", "--for=released")
	s.watchBegun() <- watchEvent{watch.Deleted, s.machines[0]}
	assert.Zero(t, end(t, done).code)
	o := s.run("wait", "worker-9", "--for=released")
	assert.Equal(t, 1, o.code, "a name that never existed is a mistake")
	assert.Contains(t, o.stderr, "not found")
}

func TestWait_FailsWhenTheGoalCannotBeReached(t *testing.T) {
	t.Parallel()
	s := shop(t)
	s.with("Gone", at(0))
	o := s.run("wait", "worker-1", "--for=phoned-home")
	assert.Equal(t, 1, o.code)
	assert.Contains(t, o.stderr, "has no metal any more")

	s.with("Installing", at(0))
	done := s.begin(terminal{}, "wait", "worker-1", "--for=phoned-home")
	s.watchBegun() <- watchEvent{watch.Deleted, s.machines[0]}
	o = end(t, done)
	assert.Equal(t, 1, o.code)
	assert.Contains(t, o.stderr, "metalstackmachine/worker-1 is gone")

	assert.Contains(t, s.run("wait", "worker-1", "--for=happy").stderr, `--for="happy": must be one of phoned-home, ready, released`)
}

func TestWait_PowerOffIsReportedAfterTheAction(t *testing.T) {
	t.Parallel()
	s := shop(t)
	m := s.machines[0]
	m.Status.LastOperation = &v1alpha4.MachineOperation{Action: "Off", RequestTime: &metav1.MicroTime{Time: now}, Outcome: v1alpha4.OperationSent}
	reports := make(chan v1alpha4.MachinePowerStatus, 3)
	for _, status := range []v1alpha4.MachinePowerStatus{
		{State: "Off", ObservedTime: at(time.Minute)}, {State: "On", ObservedTime: at(-time.Second)}, {State: "Off", ObservedTime: at(-time.Minute)},
	} {
		reports <- status
	}
	s.onEach("GET metalstackmachines/worker-1/power", func() (int, any) { return http.StatusOK, v1alpha4.MachinePower{Status: <-reports} })
	clock := clocktesting.NewFakeClock(now)
	done := s.begin(terminal{clock: clock}, "wait", "worker-1", "--for=power=off")
	s.watchBegun()
	for n := 2; n <= 3; n++ {
		clock.Step(powerInterval)
		require.Eventually(t, func() bool { return s.gets("metalstackmachines/worker-1/power") >= n }, timeout, time.Millisecond)
	}
	o := end(t, done)
	assert.Zero(t, o.code, o.stderr)
	assert.Contains(t, o.stderr, "power is Off, as reported before the last action\n")
	assert.Contains(t, o.stderr, "power is On\n")
}

func TestWait_EndsAfterItsTimeout(t *testing.T) {
	t.Parallel()
	s := shop(t)
	s.with("Installing", at(0))
	clock := clocktesting.NewFakeClock(now)
	done := s.begin(terminal{clock: clock}, "wait", "worker-1", "--for=phoned-home", "--timeout=5m")
	s.watchBegun()
	clock.Step(5 * time.Minute)
	o := end(t, done)
	assert.Equal(t, 1, o.code)
	assert.Contains(t, o.stderr, "metalstackmachine/worker-1: not phoned-home after 5m0s; last seen: Installing")
}
