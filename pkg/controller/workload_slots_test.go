// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// Those of a namespace that hang leave the others to other namespaces.
func TestWorkload_NamespaceHasFourAtATime(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(h *workloadHarness){
		"kept": func(*workloadHarness) {},
		"cleaned": func(h *workloadHarness) {
			h.visit(0)
			h.change(func(c *v1alpha4.MetalStackCluster) { c.Spec.FirewallSpec.Controller = nil })
			h.step(0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newWorkloadHarness(t)
			h.provideFirewallAccess("the-token")
			h.writeKubeconfig(workloadKubeconfigText)
			prepare(h)
			for range workloadsOfNamespace {
				require.True(t, h.w.slots.take(namespace))
			}
			after := h.visit(0)
			assert.Empty(t, h.requests)
			assert.Positive(t, after)
			assert.LessOrEqual(t, after, 2*minWorkloadRetry)
			assert.True(t, h.w.slots.take("other"))
			h.w.slots.leave(namespace)
			h.visit(after)
			assert.NotEmpty(t, h.requests)
			assert.True(t, h.w.slots.take(namespace), "it is left after a visit")
		})
	}
}

func TestWorkload_OneThatHangsIsVisitedSeldom(t *testing.T) {
	t.Parallel()
	h := newConnectedHarness(t)
	h.refuse = func(string, client.Object) error { return context.DeadlineExceeded }
	after := h.visit(reportInterval * 2)
	for range 12 {
		after = h.visit(after)
	}
	assert.GreaterOrEqual(t, after, maxHangingRetry)
	assert.LessOrEqual(t, after, maxHangingRetry*6/5)
	h.refuse = nil
	after = h.visit(after)
	assert.Equal(t, metav1.ConditionTrue, h.firewallCondition().Status)
	h.refuse = func(string, client.Object) error { return context.DeadlineExceeded }
	assert.LessOrEqual(t, h.visit(after), 2*minWorkloadRetry)
}
