// SPDX-License-Identifier: Apache-2.0

package capi

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	eventsv1 "k8s.io/api/events/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/test/framework"
)

// hungWorkersAreRebooted: a worker that hangs is fenced and rebooted, and stays what it is; one
// that does not come back is replaced, once.
func hungWorkersAreRebooted(t *testing.T, env *environment, namespace string, projectMetal ProjectMetal) {
	const name = "fuchsia"
	before, sent := projectMetal.Inventory(), env.Site.powerCalls()
	c := env.Order(t, Order{Namespace: namespace, Name: name, ControlPlane: 1, Workers: 3, Variables: map[string]string{
		"UNHEALTHY_TIMEOUT": "3", "WORKER_REMEDIATION_TEMPLATE": RemediationTemplate(name + "-md-0"), "REMEDIATION_TIMEOUT": "1m",
	}})
	c.AwaitMachines(t, slow, 1, 3)

	workerComesBack(t, c, projectMetal)
	assert.Equal(t, sent+2, env.Site.powerCalls(), "off and on, each once")
	workerIsReplaced(t, c, projectMetal)
	assert.Equal(t, sent+4, env.Site.powerCalls(), "off and on, each once")

	c.Delete(t, slow)
	awaitProjectMetal(t, projectMetal, before)
}

// powerCalls counts requests for power actions, for whatever machine.
func (s *Site) powerCalls() int { return s.Metal.Sim.CallsOf("machine-power") }

// workerComesBack: the server hangs until it is switched off.
func workerComesBack(t *testing.T, c *Tenant, projectMetal ProjectMetal) {
	t.Helper()
	site, workload := c.m.Site, c.Workload(t)
	workers, err := c.Machines(t.Context(), false)
	require.NoError(t, err)
	hung := workers[0]
	hardware := c.hardwareOf(t.Context(), t, &hung)
	node := hung.Status.NodeRef.Name
	workload.Occupy(t, node, "hung")
	mark, sent := projectMetal.Mark(), site.powerCalls()

	require.NoError(t, site.Metal.Sim.Hang(hardware.Status.Metal.MachineID))
	framework.Eventually(t, slow, func(ctx context.Context) error {
		if now := site.powerCalls(); now < sent+2 {
			return fmt.Errorf("%d requests for power; %s", now-sent, c.remediation(ctx, &hung))
		}
		if err := workload.Vacant(ctx, "hung"); err != nil {
			return err
		}
		return c.CheckHealthy(ctx, &hung, workload)
	})
	after := c.hardwareOf(t.Context(), t, &hung)
	assert.Equal(t, hardware.UID, after.UID)
	assert.Equal(t, hardware.Status.Metal.MachineID, after.Status.Metal.MachineID)
	assert.Equal(t, hardware.Status.Metal.AllocationUUID, after.Status.Metal.AllocationUUID)
	assert.True(t, after.Status.Ready)
	account := projectMetal.Since(mark, "machine")
	assert.Equal(t, [2]int{0, 0}, [2]int{account.Allocated, account.Freed}, "no machine is allocated or freed")
	now, err := c.Machines(t.Context(), false)
	require.NoError(t, err)
	assert.Len(t, now, 3)
	switchedOffOnce(t, c, after)
	c.awaitEvents(t, "Machine", hung.Name, infrastructure.ReasonPoweringOff, infrastructure.ReasonFencing)
	c.awaitEvents(t, "MetalStackMachine", hardware.Name, infrastructure.ConditionPowerRequested)
}

// switchedOffOnce reads the log of the machine in the management cluster.
func switchedOffOnce(t *testing.T, c *Tenant, hardware *v1alpha4.MetalStackMachine) {
	t.Helper()
	log := &v1alpha4.MachineLog{}
	require.NoError(t, c.Client.SubResource("log").Get(t.Context(), hardware, log))
	var planned []string
	for _, event := range log.Events {
		if event.Event == "Planned Reboot" {
			planned = append(planned, event.Message)
		}
	}
	assert.Equal(t, []string{"OFF"}, planned)
	require.NotEmpty(t, log.Events)
	assert.Equal(t, phonedHome, log.Events[len(log.Events)-1].Event)
	operation := hardware.Status.LastOperation
	require.NotNil(t, operation)
	assert.Equal(t, string(v1alpha4.PowerOn), operation.Action)
	assert.Equal(t, v1alpha4.OperationSent, operation.Outcome)
	assert.Contains(t, operation.User, "metalstack-controller-manager")
}

// workerIsReplaced: the server does not come back, and its only attempt ends with the
// timeout.
func workerIsReplaced(t *testing.T, c *Tenant, projectMetal ProjectMetal) {
	t.Helper()
	site, workload := c.m.Site, c.Workload(t)
	workers, err := c.Machines(t.Context(), false)
	require.NoError(t, err)
	dead := workers[1]
	hardware := c.hardwareOf(t.Context(), t, &dead)
	workload.Occupy(t, dead.Status.NodeRef.Name, "dead")
	mark := projectMetal.Mark()

	require.NoError(t, site.Metal.Sim.Silence(hardware.Status.Metal.MachineID))
	site.Later(6 * time.Minute)
	c.awaitGone(t, &dead)
	c.AwaitMachines(t, slow, 1, 3)
	require.NoError(t, workload.Vacant(t.Context(), "dead"))
	c.awaitEvents(t, "Machine", dead.Name, infrastructure.ReasonPoweringOff, infrastructure.ReasonFencing, infrastructure.ReasonRetriesExhausted)
	account := projectMetal.Since(mark, "machine")
	assert.Equal(t, [2]int{1, 1}, [2]int{account.Allocated, account.Freed}, "one in its place")
	framework.Eventually(t, slow, func(ctx context.Context) error {
		left := &v1alpha4.MetalStackRemediationList{}
		if err := c.Client.List(ctx, left, client.InNamespace(c.Key.Namespace)); err != nil {
			return err
		}
		if len(left.Items) > 0 {
			return fmt.Errorf("%d remediations are left: %s", len(left.Items), c.remediation(ctx, &dead))
		}
		return nil
	})
}

// awaitEvents waits until there are Events about an object with each of the reasons.
func (tenant *Tenant) awaitEvents(t *testing.T, kind, name string, reasons ...string) {
	t.Helper()
	framework.Eventually(t, slow, func(ctx context.Context) error {
		list := &eventsv1.EventList{}
		if err := tenant.Client.List(ctx, list, client.InNamespace(tenant.Key.Namespace)); err != nil {
			return err
		}
		found := map[string]bool{}
		for i := range list.Items {
			if about := list.Items[i].Regarding; about.Kind == kind && about.Name == name {
				found[list.Items[i].Reason] = true
			}
		}
		for _, reason := range reasons {
			if !found[reason] {
				return fmt.Errorf("%s %s has no Event %s, but %v", kind, name, reason, found)
			}
		}
		return nil
	})
}
