// SPDX-License-Identifier: Apache-2.0

package projection

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

func conditionOf(m *infrastructure.MetalStackMachine, kind string) *metav1.Condition {
	return meta.FindStatusCondition(m.Status.Conditions, kind)
}

// withSteps has a machine take steps after it has phoned home, the newest first.
func withSteps(m *metal.Machine, steps ...string) *metal.Machine {
	for i, step := range slices.Backward(steps) {
		at := created.Add(time.Hour + time.Duration(len(steps)-i)*time.Minute)
		m.Events = append([]metal.Event{{Event: step, Time: at}}, m.Events...)
	}
	return m
}

func TestReinstalling_IsShownAsWhatItIs(t *testing.T) {
	t.Parallel()
	const none = ""
	for name, c := range map[string]struct {
		steps            []string
		marked, crash    bool
		liveliness       string
		reinstalling     string
		ready            metav1.ConditionStatus
		reason           string
		isCrashLoopIssue bool
	}{
		"not reinstalled":          {nil, false, false, "Alive", none, "True", infrastructure.ReasonPhonedHome, false},
		"marked":                   {nil, true, false, "Alive", "Marked", "True", infrastructure.ReasonPhonedHome, false},
		"marked, and silent":       {nil, true, false, "Unknown", "Marked", "Unknown", infrastructure.ReasonUnreachable, false},
		"marked, and cycled":       {[]string{"Planned Reboot"}, true, false, "Alive", "Installing", "False", infrastructure.ReasonReinstalling, false},
		"boots":                    {[]string{"PXE Booting"}, true, true, "Alive", "Installing", "False", infrastructure.ReasonReinstalling, false},
		"installs":                 {[]string{"Installing", "Registering", "Preparing", "PXE Booting"}, true, true, "Alive", "Installing", "False", infrastructure.ReasonReinstalling, false},
		"installs, and is silent":  {[]string{"Installing", "Registering", "Preparing", "PXE Booting"}, true, true, "Unknown", "Installing", "False", infrastructure.ReasonReinstalling, false},
		"switched off twice":       {[]string{"PXE Booting", "Planned Reboot", "Planned Reboot"}, true, true, "Alive", "Installing", "False", infrastructure.ReasonReinstalling, false},
		"crashes while installing": {[]string{"Crashed", "Installing"}, true, true, "Alive", "CrashLoop", "False", infrastructure.ReasonCrashLoop, true},
		"boots after a crash":      {[]string{"PXE Booting", "Crashed", "Installing"}, true, true, "Alive", "CrashLoop", "False", infrastructure.ReasonCrashLoop, true},
		"crashes, says no loop":    {[]string{"Crashed", "Installing"}, true, false, "Alive", "CrashLoop", "False", infrastructure.ReasonProvisioning, false},
		"marked, boots twice":      {[]string{"Preparing", "PXE Booting", "Installing", "PXE Booting"}, true, true, "Alive", "Installing", "False", infrastructure.ReasonReinstalling, false},
		"marked, boots thrice":     {[]string{"PXE Booting", "Installing", "PXE Booting", "Installing", "PXE Booting"}, true, true, "Alive", "CrashLoop", "False", infrastructure.ReasonCrashLoop, true},
		"marked, only boots":       {[]string{"PXE Booting", "PXE Booting", "PXE Booting"}, true, true, "Alive", "CrashLoop", "False", infrastructure.ReasonCrashLoop, true},
		"has reported":             {[]string{"Installing", "Registering", "Preparing", "PXE Booting"}, false, true, "Alive", "Installing", "False", infrastructure.ReasonReinstalling, false},
		"boots what is installed":  {[]string{"Booting New Kernel", "Installing", "Registering", "Preparing", "PXE Booting"}, false, true, "Alive", "Installing", "False", infrastructure.ReasonReinstalling, false},
		"after a planned reboot":   {[]string{"Booting New Kernel", "Installing", "Registering", "Preparing", "PXE Booting", "Planned Reboot"}, false, false, "Alive", "Installing", "False", infrastructure.ReasonReinstalling, false},
		"has phoned home again":    {[]string{"Phoned Home", "Booting New Kernel", "Installing", "Registering", "Preparing", "PXE Booting"}, false, false, "Alive", none, "True", infrastructure.ReasonPhonedHome, false},
		"crashes afterwards":       {[]string{"Crashed", "Booting New Kernel", "Installing"}, false, true, "Alive", none, "False", infrastructure.ReasonCrashLoop, true},
		"boots twice":              {[]string{"Installing", "PXE Booting", "Registering", "PXE Booting"}, false, true, "Alive", "Installing", "False", infrastructure.ReasonReinstalling, false},
		"boots thrice":             {[]string{"Installing", "PXE Booting", "Registering", "PXE Booting", "PXE Booting"}, false, true, "Alive", none, "False", infrastructure.ReasonCrashLoop, true},
		"reports at the third":     {[]string{"Booting New Kernel", "Installing", "PXE Booting", "Crashed", "PXE Booting", "PXE Booting"}, false, true, "Alive", "Installing", "False", infrastructure.ReasonReinstalling, false},
		"boots after a report":     {[]string{"PXE Booting", "Booting New Kernel", "Installing", "PXE Booting"}, false, true, "Alive", none, "False", infrastructure.ReasonCrashLoop, true},
		"crash loop without":       {[]string{"Preparing", "PXE Booting"}, false, true, "Alive", none, "False", infrastructure.ReasonCrashLoop, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			m := withSteps(phonedHome(), c.steps...)
			m.Allocation.Reinstall, m.CrashLoop, m.Liveliness = c.marked, c.crash, c.liveliness
			f.facts.machines[m.ID] = m
			record := f.allocated(m)
			shown := f.project(record, nil)
			ready := readyOf(t, shown)
			assert.Equal(t, c.ready, ready.Status, ready.Message)
			assert.Equal(t, c.reason, ready.Reason)
			assert.Equal(t, c.ready == "True", shown.Status.Ready)
			reinstalling := conditionOf(shown, infrastructure.ConditionReinstalling)
			require.Equal(t, c.reinstalling != none, reinstalling != nil)
			if reinstalling != nil {
				assert.Equal(t, metav1.ConditionTrue, reinstalling.Status)
				assert.Equal(t, c.reinstalling, reinstalling.Reason)
				assert.Contains(t, reinstalling.Message, `mage "ubuntu-24.04.20260101"`)
			}
			issues := conditionOf(shown, infrastructure.ConditionMetalIssues)
			assert.Equal(t, c.isCrashLoopIssue, shown.Status.Metal.CrashLoop)
			assert.Equal(t, c.isCrashLoopIssue, issues != nil && issues.Reason == infrastructure.ReasonCrashLoop)
			assert.Equal(t, shown, f.project(record, shown))

			obj, _ := NewMachineProjector(f.source).Discovered(metal.Ref{Kind: metal.KindMachine, ID: m.ID})
			discovered := obj.(*infrastructure.MetalStackMachine)
			for _, kind := range []string{infrastructure.ConditionReady, infrastructure.ConditionReinstalling, infrastructure.ConditionMetalIssues} {
				a, b := conditionOf(shown, kind), conditionOf(discovered, kind)
				require.Equal(t, a != nil, b != nil, kind)
				if a != nil {
					assert.Equal(t, []string{a.Reason, a.Message}, []string{b.Reason, b.Message})
				}
			}
		})
	}
}

func TestReinstalling_RecordedMachines(t *testing.T) {
	t.Parallel()
	for recording, want := range map[string][2]string{
		"090": {"Marked", infrastructure.ReasonPhonedHome},
		"239": {"Installing", infrastructure.ReasonReinstalling},
		"241": {"Installing", infrastructure.ReasonReinstalling},
		"247": {"Marked", infrastructure.ReasonPhonedHome},
		"248": {"", infrastructure.ReasonPhonedHome},
	} {
		t.Run(recording, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			m := recordedIn(t, "exchanges-2", recording)
			f.facts.machines[m.ID] = m
			shown := f.project(f.allocated(m), nil)
			assert.Equal(t, want[1], readyOf(t, shown).Reason)
			reason := ""
			if c := conditionOf(shown, infrastructure.ConditionReinstalling); c != nil {
				reason = c.Reason
			}
			assert.Equal(t, want[0], reason)
			assert.Nil(t, conditionOf(shown, infrastructure.ConditionMetalIssues))
		})
	}
}

// reinstall is a reinstallation that was requested for the allocation of a machine.
func reinstall(requested time.Time, outcome infrastructure.MachineOperationOutcome) *infrastructure.MachineOperation {
	at := metav1.NewMicroTime(requested.UTC().Truncate(time.Microsecond))
	return &infrastructure.MachineOperation{Action: infrastructure.OperationReinstall, AllocationUUID: "uuid-1", RequestTime: &at, Outcome: outcome}
}

// It was booted twice, as two requests were sent.
func TestReinstalling_RecordedInstallationThatBeganTwice(t *testing.T) {
	t.Parallel()
	whole := recordedIn(t, "exchanges-2", "255")
	require.Equal(t, []string{"Phoned Home", "Booting New Kernel", "Installing"}, []string{whole.Events[0].Event, whole.Events[1].Event, whole.Events[2].Event})
	require.Equal(t, "Phoned Home", whole.Events[10].Event)
	for newest := 9; newest >= 0; newest-- {
		// The mark goes with the report, between these two steps.
		for _, marked := range []bool{true, false} {
			if marked && newest < 2 || !marked && newest > 2 {
				continue
			}
			f := newFixture(t)
			m, a := *whole, *whole.Allocation
			m.Allocation, m.Events, m.CrashLoop = &a, whole.Events[newest:], newest > 0
			a.Reinstall = marked
			f.facts.machines[m.ID] = &m
			shown := f.project(f.allocated(&m), nil)
			want := infrastructure.ReasonReinstalling
			if newest == 0 {
				want = infrastructure.ReasonPhonedHome
			}
			assert.Equal(t, want, readyOf(t, shown).Reason, "%d steps before the end, marked: %t", newest, marked)
			assert.Equal(t, newest > 0, conditionOf(shown, infrastructure.ConditionReinstalling) != nil)
			assert.Nil(t, conditionOf(shown, infrastructure.ConditionMetalIssues))
			assert.False(t, shown.Status.Metal.CrashLoop)
		}
	}
}

// What came before the request is no part of the installation.
func TestReinstalling_BeginsWithTheRequest(t *testing.T) {
	t.Parallel()
	crashes := []string{"Crashed", "PXE Booting", "PXE Booting"}
	for name, c := range map[string]struct {
		outcome      infrastructure.MachineOperationOutcome
		home, marked bool
		since        []string
		reinstalling string
		reason       string
	}{
		"boots":                    {infrastructure.OperationSent, true, true, []string{"PXE Booting"}, "Installing", infrastructure.ReasonReinstalling},
		"installs":                 {infrastructure.OperationUncertain, true, true, []string{"Installing", "Registering", "Preparing", "PXE Booting"}, "Installing", infrastructure.ReasonReinstalling},
		"has reported":             {infrastructure.OperationSent, true, false, []string{"Installing", "PXE Booting"}, "Installing", infrastructure.ReasonReinstalling},
		"never phoned home":        {infrastructure.OperationSent, false, false, []string{"Booting New Kernel", "Installing", "PXE Booting"}, "Installing", infrastructure.ReasonReinstalling},
		"has not booted":           {infrastructure.OperationSent, true, true, nil, "Marked", infrastructure.ReasonCrashLoop},
		"crashes again":            {infrastructure.OperationSent, true, true, []string{"Crashed", "PXE Booting"}, "CrashLoop", infrastructure.ReasonCrashLoop},
		"refused, and boots":       {infrastructure.OperationRefused, true, true, []string{"PXE Booting"}, "CrashLoop", infrastructure.ReasonCrashLoop},
		"not marked, and boots on": {infrastructure.OperationSent, true, false, []string{"PXE Booting"}, "", infrastructure.ReasonCrashLoop},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			m := phonedHome()
			if !c.home {
				m.Events = m.Events[1:]
			}
			m = withSteps(m, append(slices.Clone(c.since), crashes...)...)
			m.Allocation.Reinstall, m.CrashLoop = c.marked, true
			f.facts.machines[m.ID] = m
			record := f.allocated(m)
			requested := m.Events[len(c.since)].Time.Add(time.Second)
			record.Status.LastOperation = reinstall(requested, c.outcome)
			shown := f.project(record, nil)
			assert.Equal(t, c.reason, readyOf(t, shown).Reason)
			condition := conditionOf(shown, infrastructure.ConditionReinstalling)
			require.Equal(t, c.reinstalling != "", condition != nil)
			if condition != nil {
				assert.Equal(t, c.reinstalling, condition.Reason)
				assert.NotContains(t, condition.Message, "left its operating system")
				if c.outcome != infrastructure.OperationRefused {
					assert.Equal(t, requested.Truncate(time.Second), condition.LastTransitionTime.Time)
				}
			}
		})
	}
}

func TestReinstalling_OfMachineWithoutSteps(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	m := phonedHome()
	m.Events, m.CrashLoop, m.Allocation.Reinstall = m.Events[2:], true, true
	f.facts.machines[m.ID] = m
	shown := f.project(f.allocated(m), nil)
	assert.Equal(t, infrastructure.ReasonCrashLoop, readyOf(t, shown).Reason, "it crashed before it was allocated")
	condition := conditionOf(shown, infrastructure.ConditionReinstalling)
	require.NotNil(t, condition)
	assert.Equal(t, `The machine is marked for an installation of image "ubuntu-24.04.20260101", and has not begun it: its next boot from the network wipes the disk.`, condition.Message)
}

func TestReinstalling_DatesTheMark(t *testing.T) {
	t.Parallel()
	requested := created.Add(time.Hour)
	for name, c := range map[string]struct {
		op       *infrastructure.MachineOperation
		observed bool
		since    time.Time
	}{
		"requested":                             {reinstall(requested, infrastructure.OperationSent), true, requested},
		"requested, and seen after a start":     {reinstall(requested, infrastructure.OperationSent), false, requested},
		"by another client":                     {nil, true, time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)},
		"by another client, after an older one": {reinstall(created.Add(time.Minute), infrastructure.OperationSent), true, time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)},
		"by another client, before a start":     {nil, false, time.Date(2026, 11, 22, 13, 0, 0, 0, time.UTC)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			m := phonedHome()
			record := f.allocated(m)
			record.Status.LastOperation = c.op
			if c.observed {
				f.facts.machines[m.ID] = phonedHome()
			}
			before := f.project(record, nil)
			m.Allocation.Reinstall = true
			f.facts.machines[m.ID] = m
			shown := f.project(record, before)
			condition := conditionOf(shown, infrastructure.ConditionReinstalling)
			require.NotNil(t, condition)
			assert.Equal(t, c.since.Truncate(time.Second), condition.LastTransitionTime.Time)
			assert.Contains(t, condition.Message, "and has not left its operating system: its next boot from the network")
			f.clock.SetTime(f.clock.Now().Add(time.Hour))
			assert.Equal(t, shown, f.project(record, shown))
		})
	}
}

func TestPowerRequested_FollowsTheOperation(t *testing.T) {
	t.Parallel()
	requested := metav1.NewMicroTime(created.Add(time.Hour).Truncate(time.Microsecond))
	operation := func(outcome infrastructure.MachineOperationOutcome) *infrastructure.MachineOperation {
		return &infrastructure.MachineOperation{
			Action: "Cycle", AllocationUUID: "uuid-1", RequestTime: &requested, User: "jane", Reason: "it hangs", Outcome: outcome,
		}
	}
	const what = `Power action Cycle was requested by "jane" at 2026-11-22T14:56:03Z (it hangs); `
	for name, c := range map[string]struct {
		change  func(op *infrastructure.MachineOperation)
		outcome infrastructure.MachineOperationOutcome
		steps   []string
		status  metav1.ConditionStatus
		reason  string
		message string
	}{
		"requested": {nil, infrastructure.OperationRequested, nil, "Unknown", "Requested", what + "the call is about to be made, or its outcome was not recorded."},
		"sent":      {nil, infrastructure.OperationSent, nil, "True", "Sent", what + "the metal-api sent it to the machine's controller."},
		"sent, and the metal-api's own event": {nil, infrastructure.OperationSent, []string{"Planned Reboot CYCLE"}, "True", "Sent",
			what + "the metal-api sent it to the machine's controller."},
		"followed by an event": {nil, infrastructure.OperationSent, []string{"Phoned Home", "Planned Reboot CYCLE"}, "True", "EventObserved",
			what + `since then, the machine has sent the event "Phoned Home", at 2026-11-22T14:58:03Z.`},
		"uncertain": {func(op *infrastructure.MachineOperation) { op.Message = "connection reset" }, infrastructure.OperationUncertain, []string{"Phoned Home"},
			"Unknown", "OutcomeUncertain", what + "it is unknown whether the metal-api sent it: connection reset"},
		"refused": {func(op *infrastructure.MachineOperation) { op.Message = "no such machine" }, infrastructure.OperationRefused, nil,
			"False", "Refused", what + "refused by the metal-api: no such machine"},
		"without a reason": {func(op *infrastructure.MachineOperation) { op.Reason = "" }, infrastructure.OperationSent, nil,
			"True", "Sent", `Power action Cycle was requested by "jane" at 2026-11-22T14:56:03Z; the metal-api sent it to the machine's controller.`},
		"of an earlier allocation": {func(op *infrastructure.MachineOperation) { op.AllocationUUID = "uuid-0" }, infrastructure.OperationSent, nil, "", "", ""},
		"a reinstallation": {func(op *infrastructure.MachineOperation) { op.Action = infrastructure.OperationReinstall },
			infrastructure.OperationSent, nil, "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			m := withSteps(phonedHome(), c.steps...)
			for i, e := range m.Events {
				m.Events[i].Event, m.Events[i].Message, _ = strings.Cut(e.Event, " CYCLE")
				if m.Events[i].Event != e.Event {
					m.Events[i].Message = "CYCLE"
				}
			}
			f.facts.machines[m.ID] = m
			record := f.allocated(m)
			record.Status.LastOperation = operation(c.outcome)
			if c.change != nil {
				c.change(record.Status.LastOperation)
			}
			shown := f.project(record, nil)
			assert.Equal(t, record.Status.LastOperation, shown.Status.LastOperation, "the record has it")
			condition := conditionOf(shown, infrastructure.ConditionPowerRequested)
			if c.reason == "" {
				require.Nil(t, condition)
				return
			}
			require.NotNil(t, condition)
			assert.Equal(t, []string{string(c.status), c.reason, c.message}, []string{string(condition.Status), condition.Reason, condition.Message})
			assert.Equal(t, requested.Truncate(time.Second), condition.LastTransitionTime.Time)
			assert.Equal(t, shown, f.project(record, shown))

			delete(f.facts.machines, m.ID)
			assert.Equal(t, condition, conditionOf(f.project(record, shown), infrastructure.ConditionPowerRequested), "not to have observed it proves nothing")
			f.facts.machines[m.ID] = m

			stripped := shown.DeepCopy()
			NewMachineProjector(f.source).Strip(stripped)
			assert.Equal(t, record.Status.LastOperation, stripped.Status.LastOperation)
			assert.Nil(t, conditionOf(stripped, infrastructure.ConditionPowerRequested))
			record.Status.Allocation.Phase = infrastructure.AllocationReleasing
			assert.Nil(t, conditionOf(f.project(record, shown), infrastructure.ConditionPowerRequested), "the machine is being released")
		})
	}
}
