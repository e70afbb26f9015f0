// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// outdatedCondition names a condition that says another generation than its
// object has, which is what `kubectl wait` waits for; "" if there is none.
func (e *capiEnvironment) outdatedCondition() string {
	e.t.Helper()
	found := ""
	for _, k := range []kind{clusters, machines, firewalls} {
		list := k.list()
		require.NoError(e.t, e.api.List(e.t.Context(), list, client.InNamespace(team)))
		require.NoError(e.t, meta.EachListItem(list, func(item runtime.Object) error {
			obj := item.(metalObject)
			for _, c := range obj.GetConditions() {
				if c.ObservedGeneration != obj.GetGeneration() {
					found = k.kind + " " + obj.GetName() + ": " + c.Type
				}
			}
			return nil
		}))
	}
	return found
}

func (e *capiEnvironment) conditionsAreOfTheirGeneration(when string) {
	e.t.Helper()
	last := ""
	defer func() {
		if e.t.Failed() {
			e.t.Logf("%s: %s", when, last)
		}
	}()
	e.reconcileUntil("all conditions say the generation of their object: "+when, func() bool {
		last = e.outdatedCondition()
		return last == ""
	})
}

func TestConditions_HaveObservedGeneration(t *testing.T) {
	t.Parallel()
	w := newCAPIEnvironment(t)
	w.createCluster(1)
	// A claim that waits for its Machine, of which the spec is changed.
	claim := &v1alpha4.MetalStackMachine{ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: "claim"}}
	claim.Spec = *w.machine("m-0").Spec.DeepCopy()
	create(t, w.api, claim)
	w.reconcileUntil("the claim waits", func() bool {
		return condition(w.machine("claim"), infrastructure.ConditionAllocated).Reason == infrastructure.ReasonWaitingForOwner
	})
	w.reconcileUntil("all is ready", w.allReady("m-0"))
	w.conditionsAreOfTheirGeneration("all is ready")

	changed := w.machine("claim")
	before := changed.DeepCopy()
	changed.Spec.Tags = []string{"changed"}
	require.NoError(t, w.api.Patch(t.Context(), changed, client.MergeFrom(before)))
	require.Greater(t, changed.Generation, before.Generation)
	cluster := w.infra()
	was := cluster.DeepCopy()
	cluster.Spec.FirewallSpec.Rules = &v1alpha4.FirewallRules{Egress: []v1alpha4.FirewallEgressRule{{Ports: []int32{443}, To: []string{"0.0.0.0/0"}}}}
	require.NoError(t, w.api.Patch(t.Context(), cluster, client.MergeFrom(was)))
	require.Greater(t, cluster.Generation, was.Generation)
	w.conditionsAreOfTheirGeneration("specs have changed")
	require.Equal(t, metav1.ConditionTrue, condition(w.infra(), infrastructure.ConditionAllocated).Status)

	// A deletion is another generation, too.
	id := w.machine("m-0").Status.Allocation.MachineID
	require.NoError(t, w.server.Metal.Sim.Lock(id, "evidence"))
	require.NoError(t, w.api.memory.Delete(t.Context(), &clusterv1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: "c"}}))
	require.NoError(t, w.api.Delete(t.Context(), w.infra()))
	w.reconcileUntil("the release is refused", func() bool {
		return condition(w.machine("m-0"), infrastructure.ConditionDeleting).Reason == infrastructure.ReasonReleaseRefused
	})
	w.reconcileUntil("the summary has the metal-api's words", func() bool {
		ready := condition(w.machine("m-0"), infrastructure.ConditionReady)
		return ready.Reason == infrastructure.ReasonReleaseRefused && strings.Contains(ready.Message, "locked")
	})
	w.conditionsAreOfTheirGeneration("all is being deleted")
}
