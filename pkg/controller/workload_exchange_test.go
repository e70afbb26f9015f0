// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// An exchange of firewalls depends on what is known now.
func TestWorkload_DuringAnExchangeReportsAreWrittenAtOnce(t *testing.T) {
	t.Parallel()
	h := newConnectedHarness(t)
	h.report(map[string]any{"lastRun": h.at(0), "lastRunAgainstSeed": h.at(0)})
	h.visit(eagerReportInterval * 2)
	f := h.firewall()
	f.Status.Distance = longestDistance
	h.update(f)
	// The cluster's own reconciler would set the distance of its only firewall.
	visit := func() {
		h.clock.Step(time.Minute)
		_, err := h.w.Reconcile(t.Context(), requestOf(accessCluster))
		require.NoError(t, err)
	}

	h.report(map[string]any{"lastRun": h.at(30 * time.Second), "lastRunAgainstSeed": h.at(0)})
	visit()
	written := h.firewall().Status.Controller.LastRun.Time
	h.report(map[string]any{"lastRun": h.at(0), "lastRunAgainstSeed": h.at(0)})
	visit()
	assert.True(t, h.firewall().Status.Controller.LastRun.After(written))

	h.refuse = func(string, client.Object) error { return apierrors.NewServiceUnavailable("away") }
	visit()
	require.Equal(t, metav1.ConditionUnknown, condition(h.firewall(), infrastructure.ConditionControllerConnected).Status, "the first failure is said")
}

func TestRollout_ConcludesNothingFromOldReports(t *testing.T) {
	t.Parallel()
	cluster := infraCluster(withFirewallSpec("firewall-2"), withFirewallController).(*v1alpha4.MetalStackCluster)
	cluster.Spec.FirewallSpec.Controller.SilenceTimeout = &metav1.Duration{Duration: 10 * time.Minute}
	h := newHarness(t, clusters, false, cluster, capiCluster(), firewallOf(cluster, "f", home, connection("False", infrastructure.ReasonControllerSilent, 2*time.Hour), at(3, time.Hour)))
	h.clock.SetTime(rollTime)
	h.r.workload = newWorkloadStates()
	h.reconcile("c-infra")
	require.Len(t, h.firewalls(), 1, "it may report again")
	f := h.get(firewalls, "f").(*v1alpha4.MetalStackFirewall)
	require.Equal(t, infrastructure.ReasonControllerSilent, connectedCondition(f).Reason, "the condition is what was read")

	h.r.workload.set(requestOf("c-infra"), workloadState{condition: &metav1.Condition{Type: infrastructure.ConditionFirewallControllerReady, Status: metav1.ConditionTrue, Reason: infrastructure.ReasonFirewallAccessProvided}})
	h.reconcile("c-infra")
	require.Len(t, h.firewalls(), 2)
}

func TestReport_OfASlowClockIsNotSilentAfterAStart(t *testing.T) {
	t.Parallel()
	cluster := infraCluster(withFirewallSpec("firewall-2"), withFirewallController).(*v1alpha4.MetalStackCluster)
	f := firewallOf(cluster, "f", home, connected)
	r := report{version: "v1", lastRun: rollTime.Add(-time.Hour)}
	times := reportTimes{}.observe(r, rollTime)
	setReport(f, r, times, v1alpha4.FirewallManagementAccess{}, rollTime)
	require.True(t, isConnected(f))

	later := rollTime.Add(minSilence + time.Second)
	setReport(f, r, times.observe(r, later), v1alpha4.FirewallManagementAccess{}, later)
	require.False(t, isConnected(f), "it is silent")

	setReport(f, r, reportTimes{}.observe(r, later), v1alpha4.FirewallManagementAccess{}, later)
	require.False(t, isConnected(f), "a start changes nothing for one that was silent")
}

func TestReport_OutageDoesNotEndASilence(t *testing.T) {
	t.Parallel()
	cluster := infraCluster(withFirewallSpec("firewall-2"), withFirewallController).(*v1alpha4.MetalStackCluster)
	f := firewallOf(cluster, "f", home, connection("False", infrastructure.ReasonControllerSilent, time.Hour), allocatedAgo(5*time.Hour))
	r := report{version: "v1", lastRun: rollTime.Add(-2 * time.Hour)}
	setUnreachable(f, "away", rollTime)
	times := reportTimes{}.observe(r, rollTime)
	setReport(f, r, times, v1alpha4.FirewallManagementAccess{}, rollTime)
	require.Equal(t, metav1.ConditionUnknown, connectedCondition(f).Status, "it could not report either")

	later := rollTime.Add(minSilence + time.Second)
	setReport(f, r, times.observe(r, later), v1alpha4.FirewallManagementAccess{}, later)
	require.Equal(t, metav1.ConditionFalse, connectedCondition(f).Status)
	require.Equal(t, r.lastRun, connectedCondition(f).LastTransitionTime.UTC())
}
