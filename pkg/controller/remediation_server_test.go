// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// remediationEnvironment is a capiEnvironment with a worker, whose Node is in a workload cluster in
// memory, and its remediation. The controller manager is killed after each of its writes.
type remediationEnvironment struct {
	*capiEnvironment
	workload client.Client
	r        *remediationReconciler
	kills    crashInjector
	// machineID is the worker's machine.
	machineID string
}

func newRemediationEnvironment(t *testing.T) *remediationEnvironment {
	t.Helper()
	e := &remediationEnvironment{capiEnvironment: newCAPIEnvironment(t)}
	e.createCluster(1)
	e.reconcileUntil("the worker runs", func() bool { return ready(e.machine("m-0")) })
	e.machineID = e.machine("m-0").Status.Allocation.MachineID
	kinds, mapper, err := workloadKinds()
	require.NoError(t, err)
	node := hungNode()
	node.Spec.ProviderID = e.machine("m-0").Spec.ProviderID
	e.workload = fake.NewClientBuilder().WithScheme(kinds).WithRESTMapper(mapper).
		WithIndex(&corev1.Pod{}, "spec.nodeName", func(obj client.Object) []string { return []string{obj.(*corev1.Pod).Spec.NodeName} }).
		WithObjects(node, podOn("m-node", "web")).WithStatusSubresource(&corev1.Node{}).Build()
	require.NoError(t, e.api.memory.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: "c-kubeconfig"}, Data: map[string][]byte{"value": []byte(workloadKubeconfigText)},
	}))
	m := &clusterv1.Machine{}
	require.NoError(t, e.api.Get(t.Context(), client.ObjectKey{Namespace: team, Name: "m-0"}, m))
	m.Status.NodeRef.Name = "m-node"
	setHealth(m, metav1.ConditionFalse)
	require.NoError(t, e.api.memory.Status().Update(t.Context(), m))
	create(t, e.api, remediationOf(func(r *v1alpha4.MetalStackRemediation) {
		r.Namespace, r.Name, r.UID = team, "m-0", ""
		r.OwnerReferences[0].Name, r.OwnerReferences[0].UID = m.Name, m.UID
	}))
	e.server.Metal.Sim.ResetCalls()
	e.kills.restart()
	e.start()
	return e
}

// start starts a controller manager that remembers nothing.
func (e *remediationEnvironment) start() {
	live := killedClient{crashingClient{e.api, &e.kills}}
	e.r = newRemediationReconciler(live, live, e.events, NewOptions())
	e.r.power = killedPower{restPowerClient{e.api}, &e.kills}
	e.r.connections.open = func([]byte) (*workloadConnection, error) {
		return &workloadConnection{api: &workloadAPI{killedWorkload{e.workload, &e.kills}, "https://10.0.0.1:6443", "", nil}, close: func() {}}, nil
	}
}

// until reconciles until something is so of the remediation. Kubernetes and the machine go on
// meanwhile.
func (e *remediationEnvironment) until(what string, so func(*v1alpha4.MetalStackRemediation) bool) {
	e.t.Helper()
	var last error
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		remediation := &v1alpha4.MetalStackRemediation{}
		err := e.api.Get(e.t.Context(), client.ObjectKey{Namespace: team, Name: "m-0"}, remediation)
		if client.IgnoreNotFound(err) == nil && so(remediation) {
			return
		}
		if time.Now().After(deadline) {
			e.t.Fatalf("not within %s: %s; last error: %v; %+v", patience, what, last, remediation.Status)
		}
		_, last = e.r.Reconcile(e.t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Namespace: team, Name: "m-0"}})
		if e.kills.crashed {
			e.kills.restart()
			e.start()
		}
		e.playNode()
	}
}

// playNode does what the kubelet and kube-controller-manager do.
func (e *remediationEnvironment) playNode() {
	e.t.Helper()
	ctx := e.t.Context()
	node, state := e.node(), e.state()
	switch {
	case state.Power == "OFF" && isOutOfService(node):
		require.NoError(e.t, client.IgnoreNotFound(e.workload.Delete(ctx, podOn("m-node", "web"))))
	case state.Power == "ON" && !state.Hung && state.LastEvent == infrastructure.PhasePhonedHome:
		// Its clock is right to the second.
		now := metav1.NewTime(time.Now().Add(time.Second))
		node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: now}}
		require.NoError(e.t, e.workload.Status().Update(ctx, node))
	}
}

func (e *remediationEnvironment) node() *corev1.Node {
	e.t.Helper()
	node := &corev1.Node{}
	require.NoError(e.t, e.workload.Get(e.t.Context(), client.ObjectKey{Name: "m-node"}, node))
	return node
}

func (e *remediationEnvironment) state() simulator.MachineState {
	for _, m := range e.server.Metal.Sim.Inventory().Machines {
		if m.ID == e.machineID {
			return m
		}
	}
	e.t.Fatalf("no machine %s", e.machineID)
	return simulator.MachineState{}
}

// powerCalls are the power requests that the metal-api got.
func (e *remediationEnvironment) powerCalls() int {
	for _, c := range e.server.Metal.Sim.Calls() {
		if c.Endpoint == "machine-power" {
			return c.Calls
		}
	}
	return 0
}

func inPhaseOf(phase v1alpha4.RemediationPhase) func(*v1alpha4.MetalStackRemediation) bool {
	return func(r *v1alpha4.MetalStackRemediation) bool { return r.Status.Phase == phase }
}

func TestRemediationOfServer_HungWorkerComesBackAndManagerIsKilledAfterEachWrite(t *testing.T) {
	t.Parallel()
	e := newRemediationEnvironment(t)
	allocation := e.state().AllocationUUID
	require.NoError(t, e.server.Metal.Sim.Hang(e.machineID))
	e.until("the Node is fenced", func(r *v1alpha4.MetalStackRemediation) bool { return isOutOfService(e.node()) })
	assert.Equal(t, "OFF", e.state().Power)
	e.until("the remediation has succeeded", inPhaseOf(v1alpha4.RemediationSucceeded))
	e.until("it has let go", func(r *v1alpha4.MetalStackRemediation) bool { return len(r.Finalizers) == 0 })
	assert.Equal(t, 2, e.powerCalls(), "off and on")
	assert.Empty(t, e.node().Spec.Taints)
	assert.Equal(t, "ON", e.state().Power)
	assert.False(t, e.state().Hung)
	assert.Equal(t, allocation, e.state().AllocationUUID)
	last := e.machine("m-0").Status.LastOperation
	require.NotNil(t, last)
	assert.Equal(t, string(v1alpha4.PowerOn), last.Action)
	assert.Equal(t, "remediation of Machine m-0, attempt 1 of 2", last.Reason)
	require.NoError(t, e.api.Delete(t.Context(), &v1alpha4.MetalStackRemediation{ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: "m-0"}}))
}

func TestRemediationOfServer_DeletedInTheMiddleIsUndone(t *testing.T) {
	t.Parallel()
	e := newRemediationEnvironment(t)
	require.NoError(t, e.workload.Create(t.Context(), podOn("m-node", "stuck")))
	e.until("the Node is fenced", func(*v1alpha4.MetalStackRemediation) bool { return isOutOfService(e.node()) })
	require.NoError(t, e.api.Delete(t.Context(), &v1alpha4.MetalStackRemediation{ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: "m-0"}}))
	e.until("it is gone", func(r *v1alpha4.MetalStackRemediation) bool { return r.Name == "" })
	assert.Equal(t, 2, e.powerCalls())
	assert.Empty(t, e.node().Spec.Taints)
	require.Eventually(t, func() bool { return e.state().Power == "ON" }, patience, glance)
}

func TestRemediationOfServer_MachineThatIsGoneIsHandedBack(t *testing.T) {
	t.Parallel()
	e := newRemediationEnvironment(t)
	require.NoError(t, e.server.Metal.Sim.ForceFree(e.machineID))
	e.until("it is handed back", inPhaseOf(v1alpha4.RemediationFailed))
	assert.Zero(t, e.powerCalls())
	m := &clusterv1.Machine{}
	require.NoError(t, e.api.Get(t.Context(), client.ObjectKey{Namespace: team, Name: "m-0"}, m))
	assert.True(t, meta.IsStatusConditionFalse(m.Status.Conditions, clusterv1.MachineOwnerRemediatedCondition))
}

// killedClient is the API of a controller manager that is killed, with the status of both servers.
type killedClient struct{ crashingClient }

func (c killedClient) Status() client.SubResourceWriter {
	return killedStatus{c.splitClient.Status(), c}
}

type killedStatus struct {
	client.SubResourceWriter
	c killedClient
}

func (s killedStatus) Patch(ctx context.Context, obj client.Object, patch client.Patch, opts ...client.SubResourcePatchOption) error {
	if err := s.c.crashes.alive(); err != nil {
		return err
	}
	return s.c.crashes.write(s.c.of(obj).Status().Patch(ctx, obj, patch, opts...))
}

type killedPower struct {
	powerClient
	crashes *crashInjector
}

func (p killedPower) request(ctx context.Context, machine *v1alpha4.MetalStackMachine, spec v1alpha4.MachinePowerSpec) error {
	if err := p.crashes.alive(); err != nil {
		return err
	}
	return p.crashes.write(p.powerClient.request(ctx, machine, spec))
}

type killedWorkload struct {
	client.Client
	crashes *crashInjector
}

func (w killedWorkload) Patch(ctx context.Context, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
	if err := w.crashes.alive(); err != nil {
		return err
	}
	return w.crashes.write(w.Client.Patch(ctx, obj, patch, opts...))
}
