// SPDX-License-Identifier: Apache-2.0

package projection

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

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

// Only what an installation itself looks like is left out.
func TestMetalIssues_OfMachineThatIsReinstalled(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.source.Duplicates = sharing{Addresses: []string{"10.0.0.2"}, ASNs: []int64{4210000001}}
	m := withSteps(phonedHome(), "Installing", "Registering", "Preparing", "PXE Booting")
	m.Allocation.Reinstall, m.CrashLoop, m.FailedMachineReclaim, m.Liveliness = true, true, true, "Unknown"
	m.LastError = &m.Events[3]
	f.facts.machines[m.ID] = m
	issues := conditionOf(f.project(f.allocated(m), nil), infrastructure.ConditionMetalIssues)
	require.NotNil(t, issues)
	for _, kind := range metal.IssueKinds {
		isOfInstallation := kind == metal.IssueCrashLoop || kind == metal.IssueLastEventError
		assert.Equal(t, !isOfInstallation && kind != metal.IssueDead, strings.Contains(issues.Message, string(kind)+": "), kind)
	}
}

// Of an earlier allocation, which may have been another project's, nothing is said.
func TestMetalIssues_RecordedErrorOfEarlierAllocation(t *testing.T) {
	t.Parallel()
	for folder, recording := range map[string]string{"exchanges": "535", "exchanges-2": "376"} {
		f := newFixture(t)
		m := recordedIn(t, folder, recording)
		require.NotNil(t, m.LastError)
		require.True(t, m.LastError.Time.Before(m.Allocation.Created))
		f.facts.machines[m.ID] = m
		issues := conditionOf(f.project(f.allocated(m), nil), infrastructure.ConditionMetalIssues)
		require.NotNil(t, issues)
		assert.Contains(t, issues.Message, "CrashLoop: machine is in a provisioning crash loop")
		assert.NotContains(t, issues.Message, "(event")
		assert.NotContains(t, issues.Message, m.LastError.Time.UTC().Format(time.RFC3339))
	}
}

func TestMetalIssues_AreDated(t *testing.T) {
	t.Parallel()
	now, start := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC), time.Date(2026, 11, 22, 13, 0, 0, 0, time.UTC)
	duplicate := sharing{Addresses: []string{"10.0.0.2"}}
	failed := func(m *metal.Machine) {
		m.LastError = &metal.Event{Event: "Crashed", Time: created.Add(time.Hour)}
	}
	silent := func(m *metal.Machine) { m.Liveliness, m.LastEventTime = "Unknown", created.Add(3*time.Hour) }
	for name, c := range map[string]struct {
		change   func(m *metal.Machine)
		shared   sharing
		observed bool
		since    time.Time
	}{
		"address":                {func(*metal.Machine) {}, duplicate, true, now},
		"address after a start":  {func(*metal.Machine) {}, duplicate, false, start},
		"last error":             {failed, sharing{}, true, created.Add(time.Hour)},
		"last error at a start":  {failed, sharing{}, false, created.Add(time.Hour)},
		"silent":                 {silent, sharing{}, true, created.Add(3 * time.Hour)},
		"silent, and an address": {silent, duplicate, true, created.Add(3 * time.Hour)},
		"silent since before it was allocated": {func(m *metal.Machine) {
			m.Events, m.Liveliness, m.LastEventTime = m.Events[2:], "Dead", created.Add(-time.Hour)
		}, sharing{}, false, created},
		"crash loop": {func(m *metal.Machine) { withSteps(m, "PXE Booting", "PXE Booting").CrashLoop = true }, sharing{}, true,
			created.Add(time.Hour + time.Minute)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			m := phonedHome()
			record := f.allocated(m)
			if c.observed {
				f.facts.machines[m.ID] = phonedHome()
			}
			before := f.project(record, nil)
			require.Nil(t, conditionOf(before, infrastructure.ConditionMetalIssues))
			c.change(m)
			f.facts.machines[m.ID], f.source.Duplicates = m, c.shared
			shown := f.project(record, before)
			issues := conditionOf(shown, infrastructure.ConditionMetalIssues)
			require.NotNil(t, issues)
			assert.Equal(t, c.since.Truncate(time.Second), issues.LastTransitionTime.Time)
			f.clock.SetTime(now.Add(time.Hour))
			assert.Equal(t, shown, f.project(record, shown))
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
