// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// restart is a controller manager that knows nothing of the former one.
func (h *workloadHarness) restart() {
	h.r.accessChecks, h.r.firewallAccessChecks = newAccessChecks(), newAccessChecks()
	h.r.workload.reset(requestOf(accessCluster))
	h.w.connections.forget(requestOf(accessCluster))
}

// failAt has the n-th request to either cluster from now on fail, after which the controller
// manager is restarted.
func (h *workloadHarness) failAt(n int) (reached func() bool) {
	count, failed := 0, false
	next := func(string, client.Object) error {
		if count++; count != n {
			return nil
		}
		failed = true
		return errors.New("the controller manager was killed")
	}
	h.live.refuse, h.refuse = next, next
	return func() bool { return failed }
}

// settle lets time pass until nothing changes any more, with what other programs do. A request
// can fail in the first rounds.
func (h *workloadHarness) settle(failed func() bool) {
	h.t.Helper()
	restarted := false
	for round := range 7 {
		if round == 4 {
			h.live.refuse, h.refuse = nil, nil
		}
		h.visit(time.Minute)
		if failed() && !restarted {
			h.restart()
			restarted = true
		}
		secret := &corev1.Secret{}
		if h.find(firewallToken, secret) && len(secret.Data) == 0 {
			h.writeTokenOf(firewallAccount, "the-token")
		}
	}
}

func TestFirewallAccess_HasTheSameEndWhateverStepFails(t *testing.T) {
	t.Parallel()
	n := 0
	for failed, unfailed := true, false; failed; {
		n++
		h := newWorkloadHarness(t)
		h.writeKubeconfig(workloadKubeconfigText)
		reached := h.failAt(n)
		h.settle(reached)
		failed = reached()
		require.Equal(t, metav1.ConditionTrue, h.firewallCondition().Status, "request %d: %s", n, h.firewallCondition().Message)
		require.NotNil(t, h.firewall().Status.WorkloadAccess, "request %d", n)
		h.monitor()
		if unfailed {
			continue
		}
		reached = h.failAt(n)
		h.change(func(c *v1alpha4.MetalStackCluster) { c.Spec.FirewallSpec.Controller = nil })
		h.changeFirewall(func(f *v1alpha4.MetalStackFirewall) { f.Spec.Controller = nil })
		h.settle(reached)
		unfailed = !reached()
		require.Empty(t, h.firewallCondition(), "removal, request %d", n)
		for what, of := range firewallAccessObjects() {
			require.False(t, h.find(of()), "removal, request %d: %s", n, what)
		}
		require.False(t, h.inWorkload(&corev1.ServiceAccount{}, "firewall", "firewall-controller"), "removal, request %d", n)
		require.Empty(t, condition(h.firewall(), infrastructure.ConditionControllerConnected), "removal, request %d", n)
	}
	assert.Greater(t, n, 20, "so many requests have been made to fail")
}
