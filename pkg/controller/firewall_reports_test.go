// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

func TestReport_BecomesStatus(t *testing.T) {
	t.Parallel()
	h := newConnectedHarness(t)
	h.report(map[string]any{
		"controllerVersion": "v2.4.1", "nftablesExporterVersion": "v1.0.0", "message": "done\nwell", "lastRun": h.at(10 * time.Second), "lastRunAgainstSeed": h.at(20 * time.Second),
		"distance": int64(3), "distanceSupported": true,
	})
	h.visit(eagerReportInterval * 2)
	now := h.clock.Now()
	f := h.firewall()
	require.NotNil(t, f.Status.Controller)
	assert.Equal(t, "v2.4.1 v1.0.0 done well", f.Status.Controller.Version+" "+f.Status.Controller.NftablesExporterVersion+" "+f.Status.Controller.Message)
	assert.EqualValues(t, 3, *f.Status.Controller.Distance)
	assert.Equal(t, 20*time.Second, now.Sub(f.Status.Controller.LastRun.Time))
	assert.Equal(t, 30*time.Second, now.Sub(f.Status.Controller.LastSeedRun.Time))
	for _, kind := range []string{infrastructure.ConditionControllerConnected, infrastructure.ConditionSeedConnected} {
		assert.Equal(t, metav1.ConditionTrue, condition(f, kind).Status, kind)
		assert.Equal(t, infrastructure.ReasonControllerConnected, condition(f, kind).Reason, kind)
	}
}

func TestReport_SaysWhyAFirewallControllerIsNotConnected(t *testing.T) {
	t.Parallel()
	const never = -1
	other := func(f *v1alpha4.MetalStackFirewall) { f.Status.ManagementAccess = nil }
	for name, c := range map[string]struct {
		change              func(*v1alpha4.MetalStackFirewall)
		lastRun, lastSeed   time.Duration
		connected, seed     string
		connectedIs, seedIs metav1.ConditionStatus
	}{
		"reports":                        {nil, time.Minute, time.Minute, infrastructure.ReasonControllerConnected, infrastructure.ReasonControllerConnected, "True", "True"},
		"never reported":                 {nil, never, never, infrastructure.ReasonControllerNeverReported, infrastructure.ReasonControllerNeverReported, "False", "False"},
		"silent":                         {nil, 6 * time.Minute, 6 * time.Minute, infrastructure.ReasonControllerSilent, infrastructure.ReasonControllerSilent, "False", "False"},
		"silent for three intervals":     {longInterval, 31 * time.Minute, time.Minute, infrastructure.ReasonControllerSilent, infrastructure.ReasonControllerSilent, "False", "False"},
		"not silent yet":                 {longInterval, 29 * time.Minute, time.Minute, infrastructure.ReasonControllerConnected, infrastructure.ReasonControllerConnected, "True", "True"},
		"does not read management":       {nil, time.Minute, 11 * time.Minute, infrastructure.ReasonControllerConnected, infrastructure.ReasonControllerSilent, "True", "False"},
		"does not report reading":        {nil, time.Minute, never, infrastructure.ReasonControllerConnected, infrastructure.ReasonControllerNeverReported, "True", "False"},
		"no kubeconfig":                  {other, never, never, infrastructure.ReasonNoKubeconfig, infrastructure.ReasonNoKubeconfig, "False", "False"},
		"moved, and reports":             {other, time.Minute, time.Minute, infrastructure.ReasonControllerConnected, infrastructure.ReasonNoKubeconfig, "True", "False"},
		"moved, and silent":              {other, time.Hour, time.Hour, infrastructure.ReasonControllerSilent, infrastructure.ReasonNoKubeconfig, "False", "False"},
		"another URL":                    {anotherURL, never, never, infrastructure.ReasonNoKubeconfig, infrastructure.ReasonNoKubeconfig, "False", "False"},
		"another URL, which works":       {anotherURL, time.Minute, time.Minute, infrastructure.ReasonControllerConnected, infrastructure.ReasonControllerConnected, "True", "True"},
		"another URL, which does not":    {anotherURL, time.Minute, time.Hour, infrastructure.ReasonControllerConnected, infrastructure.ReasonControllerSilent, "True", "False"},
		"another URL, and silent":        {anotherURL, time.Hour, time.Hour, infrastructure.ReasonControllerSilent, infrastructure.ReasonControllerSilent, "False", "False"},
		"another URL, and not read":      {anotherURL, time.Minute, never, infrastructure.ReasonControllerConnected, infrastructure.ReasonNoKubeconfig, "True", "False"},
		"adopted, whatever is said":      {adoptedFirewall, never, never, infrastructure.ReasonNoKubeconfig, infrastructure.ReasonNoKubeconfig, "False", "False"},
		"clock of the firewall is ahead": {nil, -time.Hour, -time.Hour, infrastructure.ReasonControllerConnected, infrastructure.ReasonControllerConnected, "True", "True"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newConnectedHarness(t)
			if c.change != nil {
				h.changeFirewall(c.change)
			}
			h.clock.Step(eagerReportInterval * 2)
			status := map[string]any{"controllerVersion": "v2", "lastRun": nil, "lastRunAgainstSeed": nil}
			if c.lastRun != never {
				status["lastRun"] = h.at(c.lastRun)
			}
			if c.lastSeed != never {
				status["lastRunAgainstSeed"] = h.at(c.lastSeed)
			}
			h.report(status)
			h.visit(0)
			f := h.firewall()
			connected, seed := condition(f, infrastructure.ConditionControllerConnected), condition(f, infrastructure.ConditionSeedConnected)
			assert.Equal(t, []string{c.connected, c.seed}, []string{connected.Reason, seed.Reason})
			assert.Equal(t, []metav1.ConditionStatus{c.connectedIs, c.seedIs}, []metav1.ConditionStatus{connected.Status, seed.Status})
			for _, said := range []metav1.Condition{connected, seed} {
				if said.Reason == infrastructure.ReasonNoKubeconfig || (said.Status == metav1.ConditionFalse && strings.HasPrefix(name, "another URL")) {
					assert.Contains(t, said.Message, "kubectl annotate msf -n tenant f "+infrastructure.ReplaceAnnotation+"=")
					if strings.HasPrefix(name, "another URL") {
						assert.Contains(t, said.Message, "with https://another.example.org as URL of the management cluster, which is https://kubernetes.example.org:6443 now")
					}
				}
			}
		})
	}
}

func longInterval(f *v1alpha4.MetalStackFirewall) {
	f.Spec.Controller.Interval = &metav1.Duration{Duration: 10 * time.Minute}
}

func anotherURL(f *v1alpha4.MetalStackFirewall) {
	f.Status.ManagementAccess.URL = "https://another.example.org"
}

func adoptedFirewall(f *v1alpha4.MetalStackFirewall) { f.Status.Allocation.Adopted = true }

// A change is a sign of life, whatever time it names.
func TestReport_WithAClockThatIsBehind(t *testing.T) {
	t.Parallel()
	h := newConnectedHarness(t)
	for range 2 {
		h.report(map[string]any{"lastRun": h.at(time.Hour), "lastRunAgainstSeed": h.at(time.Hour)})
		h.visit(eagerReportInterval * 2)
		h.clock.Step(time.Minute)
	}
	assert.Equal(t, metav1.ConditionTrue, condition(h.firewall(), infrastructure.ConditionControllerConnected).Status)
	h.visit(minSilence)
	silent := condition(h.firewall(), infrastructure.ConditionControllerConnected)
	assert.Equal(t, infrastructure.ReasonControllerSilent, silent.Reason)
	since := silent.LastTransitionTime
	h.visit(time.Hour)
	assert.Equal(t, since, condition(h.firewall(), infrastructure.ConditionControllerConnected).LastTransitionTime, "silence is counted from its begin")
}

// A report from the future that does not change is silence, also when its time comes.
func TestReport_WithAClockThatIsAhead(t *testing.T) {
	t.Parallel()
	h := newConnectedHarness(t)
	connected := func() metav1.Condition { return condition(h.firewall(), infrastructure.ConditionControllerConnected) }
	for range 3 {
		h.report(map[string]any{"lastRun": h.at(-time.Hour), "lastRunAgainstSeed": h.at(-time.Hour)})
		h.visit(2 * minSilence)
		require.Equal(t, metav1.ConditionTrue, connected().Status, "a change is a sign of life")
	}
	first := h.firewall().Status.Controller.LastRun
	assert.False(t, first.After(h.clock.Now()))
	for range 20 {
		h.visit(minSilence + time.Second)
		assert.Equal(t, infrastructure.ReasonControllerSilent, connected().Reason)
		assert.Equal(t, first, h.firewall().Status.Controller.LastRun)
	}
	assert.Equal(t, infrastructure.ReasonControllerSilent, condition(h.firewall(), infrastructure.ConditionSeedConnected).Reason)
}

func TestReport_NewerTimesAloneAreWrittenAtTimes(t *testing.T) {
	t.Parallel()
	h := newConnectedHarness(t)
	version := func(v string) string {
		h.t.Helper()
		h.report(map[string]any{
			"controllerVersion": v, "message": "updated firewall monitor resource at " + h.at(0), "lastRun": h.at(0), "lastRunAgainstSeed": h.at(0),
		})
		h.visit(reportInterval * 2)
		return h.firewall().ResourceVersion
	}
	first := version("v1")
	for range 4 {
		assert.Equal(t, first, version("v1"))
	}
	changed := version("v2")
	assert.NotEqual(t, first, changed)
	for range 5 {
		h.clock.Step(0)
		last := version("v2")
		if last != changed {
			return
		}
	}
	t.Error("the times are never written")
}

// The tenant can write anything into it.
func TestReport_OfATenantIsBounded(t *testing.T) {
	t.Parallel()
	h := newConnectedHarness(t)
	long := strings.Repeat("x\x00", 5000)
	h.report(map[string]any{
		"controllerVersion": long, "nftablesExporterVersion": long, "message": long, "lastRun": "tomorrow", "lastRunAgainstSeed": "9999-12-31T23:59:59Z",
		"distance": int64(1 << 40), "distanceSupported": true,
	})
	h.visit(eagerReportInterval * 2)
	is := h.firewall().Status.Controller
	require.NotNil(t, is)
	assert.LessOrEqual(t, len(is.Version), 128)
	assert.LessOrEqual(t, len(is.NftablesExporterVersion), 128)
	assert.LessOrEqual(t, len(is.Message), 1024)
	assert.NotContains(t, is.Message, "\x00")
	assert.Nil(t, is.LastRun)
	assert.Equal(t, h.clock.Now().UTC(), is.LastSeedRun.UTC())
	assert.Nil(t, is.Distance)

	h.report(nil)
	h.visit(eagerReportInterval * 2)
	assert.NotNil(t, h.firewall().Status.Controller, "a report that was there stays")
	for _, status := range []any{"text", []any{}, map[string]any{"message": int64(1), "lastRun": map[string]any{}, "distanceSupported": "yes"}} {
		m := h.monitor()
		m.Object["controllerStatus"] = status
		require.NoError(t, h.workload.Update(t.Context(), m))
		h.visit(reportInterval * 2)
	}
}
