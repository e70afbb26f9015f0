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
		"crashes while installing": {[]string{"Crashed", "Installing"}, true, true, "Alive", "Installing", "False", infrastructure.ReasonReinstalling, false},
		"has reported":             {[]string{"Installing", "Registering", "Preparing", "PXE Booting"}, false, true, "Alive", "Installing", "False", infrastructure.ReasonReinstalling, false},
		"boots what is installed":  {[]string{"Booting New Kernel", "Installing", "Registering", "Preparing", "PXE Booting"}, false, true, "Alive", "Installing", "False", infrastructure.ReasonReinstalling, false},
		"after a planned reboot":   {[]string{"Booting New Kernel", "Installing", "Registering", "Preparing", "PXE Booting", "Planned Reboot"}, false, false, "Alive", "Installing", "False", infrastructure.ReasonReinstalling, false},
		"has phoned home again":    {[]string{"Phoned Home", "Booting New Kernel", "Installing", "Registering", "Preparing", "PXE Booting"}, false, false, "Alive", none, "True", infrastructure.ReasonPhonedHome, false},
		"crashes afterwards":       {[]string{"Crashed", "Booting New Kernel", "Installing"}, false, true, "Alive", none, "False", infrastructure.ReasonCrashLoop, true},
		"boots twice":              {[]string{"Installing", "PXE Booting", "Registering", "PXE Booting"}, false, true, "Alive", none, "False", infrastructure.ReasonCrashLoop, true},
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

// sharing is what a test says that others have, too.
type sharing metal.Duplicates

func (s sharing) Duplicates(*metal.Machine) metal.Duplicates { return metal.Duplicates(s) }

func TestMetalIssues_FollowTheFacts(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change  func(m *metal.Machine)
		shared  sharing
		reason  string
		message string
	}{
		"none":           {func(*metal.Machine) {}, sharing{}, "", ""},
		"crash loop":     {func(m *metal.Machine) { m.CrashLoop = true }, sharing{}, infrastructure.ReasonCrashLoop, "CrashLoop: machine is in a provisioning crash loop."},
		"failed reclaim": {func(m *metal.Machine) { m.FailedMachineReclaim = true }, sharing{}, infrastructure.ReasonFailedReclaim, "FailedReclaim: an earlier release of the machine did not finish, and it phoned home all the same."},
		"dead":           {func(m *metal.Machine) { m.Liveliness = "Dead" }, sharing{}, infrastructure.ReasonIssueDead, "Dead: the machine is not sending events anymore."},
		"silent":         {func(m *metal.Machine) { m.Liveliness = "Unknown" }, sharing{}, infrastructure.ReasonIssueSilent, "Silent: the machine is not sending LLDP alive messages anymore."},
		"last error": {func(m *metal.Machine) {
			m.LastError = &metal.Event{Event: "Crashed", Message: "panic", Time: created.Add(time.Hour)}
		}, sharing{}, infrastructure.ReasonIssueLastEventError, `LastEventError: the machine had an error during the provisioning lifecycle (event "Crashed" at 2026-11-22T14:56:03Z: panic).`},
		"error before it phoned home": {func(m *metal.Machine) {
			m.LastError = &metal.Event{Event: "PXE Booting", Time: created.Add(time.Second)}
		}, sharing{}, "", ""},
		"error of an earlier allocation": {func(m *metal.Machine) {
			m.Events = m.Events[1:]
			m.LastError = &metal.Event{Event: "Crashed", Time: created.Add(-time.Second)}
		}, sharing{}, "", ""},
		"address": {func(*metal.Machine) {}, sharing{Addresses: []string{"10.0.0.2"}}, infrastructure.ReasonIssueDuplicateAddress,
			"DuplicateAddress: another machine has an address of this one, too: 10.0.0.2."},
		"ASN": {func(*metal.Machine) {}, sharing{ASNs: []int64{4210000001}}, infrastructure.ReasonIssueDuplicateASN,
			"DuplicateASN: the ASN is not unique among firewalls: 4210000001."},
		"several": {func(m *metal.Machine) { m.Liveliness = "Unknown" }, sharing{Addresses: []string{"10.0.0.2", "::1"}}, infrastructure.ReasonSeveralIssues,
			"Silent: the machine is not sending LLDP alive messages anymore; DuplicateAddress: another machine has an address of this one, too: 10.0.0.2, ::1."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.source.Duplicates = c.shared
			m := phonedHome()
			c.change(m)
			f.facts.machines[m.ID] = m
			record := f.allocated(m)
			shown := f.project(record, nil)
			issues := conditionOf(shown, infrastructure.ConditionMetalIssues)
			require.Equal(t, c.reason != "", issues != nil)
			if issues == nil {
				return
			}
			assert.Equal(t, []string{"True", c.reason, c.message}, []string{string(issues.Status), issues.Reason, issues.Message})
			assert.False(t, issues.LastTransitionTime.IsZero())
			assert.Equal(t, shown, f.project(record, shown))

			delete(f.facts.machines, m.ID)
			unobserved := f.project(record, shown)
			assert.Equal(t, issues, conditionOf(unobserved, infrastructure.ConditionMetalIssues), "not to have observed it proves nothing")
			f.facts.gone[m.ID] = true
			assert.Nil(t, conditionOf(f.project(record, shown), infrastructure.ConditionMetalIssues))
		})
	}
}

// Reasons are those that the observation knows issues by.
func TestMetalIssues_ReasonsAreIssueKinds(t *testing.T) {
	t.Parallel()
	reasons := []string{
		infrastructure.ReasonCrashLoop, infrastructure.ReasonFailedReclaim, infrastructure.ReasonIssueDead, infrastructure.ReasonIssueSilent,
		infrastructure.ReasonIssueLastEventError, infrastructure.ReasonIssueDuplicateAddress, infrastructure.ReasonIssueDuplicateASN,
	}
	require.Len(t, metal.IssueKinds, len(reasons))
	for i, kind := range metal.IssueKinds {
		assert.Equal(t, reasons[i], string(kind))
	}
}
