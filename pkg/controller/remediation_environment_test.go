// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/conditions"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// remediationHarness is a remediationReconciler with both clusters in memory, and a played server
// and machine: Machine m of Cluster c hangs, and its health check has failed.
type remediationHarness struct {
	t             *testing.T
	api, workload client.Client
	clock         *clocktesting.FakeClock
	events        *events.FakeRecorder
	r             *remediationReconciler

	// steps are the effects outside of the remediation, in their order.
	steps []string
	// crashAfter is after how many effects the controller manager is killed, if it is not zero.
	crashAfter, effects int
	killed              bool

	power playedPower
	// hangs is for good if it is true: the Node does not come back.
	hangs bool
	// workloadAway has no request to the workload cluster answered.
	workloadAway bool
	// stale has the server answer with what it observed before.
	stale bool
}

// playedPower plays the subresource power: each request with the id of the last one is made once.
type playedPower struct {
	h *remediationHarness
	// err answers each request, and nothing is done; lost answers each that is done.
	err, stateErr, lost error
	// onState is called once when the state is read.
	onState func()
	outcome v1alpha4.MachineOperationOutcome

	state v1alpha4.PowerState
	// silent has the machine's controller report nothing after this.
	silent *metav1.Time
	// dead is a machine that does not do what it is asked.
	dead     bool
	switched time.Time
}

func (p *playedPower) request(ctx context.Context, machine *v1alpha4.MetalStackMachine, spec v1alpha4.MachinePowerSpec) error {
	h := p.h
	deadline, bounded := ctx.Deadline()
	require.True(h.t, bounded && time.Until(deadline) <= powerTimeout, "a power request is sent at once or not")
	if h.killed {
		return errKilled
	}
	if p.err != nil {
		return p.err
	}
	m := &v1alpha4.MetalStackMachine{}
	require.NoError(h.t, h.api.Get(ctx, client.ObjectKeyFromObject(machine), m))
	if last := m.Status.LastOperation; last != nil && last.RequestID == spec.RequestID {
		return nil
	}
	h.steps = append(h.steps, string(spec.Action))
	h.operate(spec.Action, spec.RequestID, p.outcome)
	if p.outcome != v1alpha4.OperationRequested && p.outcome != v1alpha4.OperationRefused && !p.dead {
		p.switched = h.clock.Now()
		p.state = v1alpha4.PowerStateOff
		if spec.Action == v1alpha4.PowerOn {
			p.state = v1alpha4.PowerStateOn
		}
	}
	if err := h.effect(); err != nil {
		return err
	}
	switch {
	case p.outcome == v1alpha4.OperationRefused:
		return refusalOf(m.Name, "the machine is locked")
	case p.outcome == v1alpha4.OperationRequested && p.lost == nil:
		return apierrors.NewTimeoutError("it is not known whether it was sent", 0)
	}
	return p.lost
}

func (p *playedPower) report() *v1alpha4.MachinePowerStatus {
	observed := metav1.NewTime(p.h.clock.Now())
	if p.silent != nil {
		observed = *p.silent
	}
	return &v1alpha4.MachinePowerStatus{State: p.state, ObservedTime: &observed}
}

// powerOf is the powerClient of a playedPower.
type powerOf struct{ *playedPower }

func (p powerOf) state(context.Context, *v1alpha4.MetalStackMachine) (*v1alpha4.MachinePowerStatus, error) {
	if f := p.onState; f != nil {
		p.onState = nil
		f()
	}
	if p.stateErr != nil {
		return nil, p.stateErr
	}
	return p.report(), nil
}

// operate records an operation of the machine, as the server does.
func (h *remediationHarness) operate(action v1alpha4.PowerAction, id string, outcome v1alpha4.MachineOperationOutcome) {
	h.t.Helper()
	h.changeMetal(func(m *v1alpha4.MetalStackMachine) {
		now := metav1.NewMicroTime(h.clock.Now())
		m.Status.LastOperation = &v1alpha4.MachineOperation{Action: string(action), RequestID: id, RequestTime: &now, Outcome: outcome, Message: "the machine is locked"}
	})
}

var errKilled = errors.New("killed")

// effect counts what has effects outside of the process, and is killed after one of them.
func (h *remediationHarness) effect() error {
	h.effects++
	h.killed = h.killed || h.effects == h.crashAfter
	return h.alive()
}

// alive returns an error after the controller manager was killed.
func (h *remediationHarness) alive() error {
	if h.killed {
		return errKilled
	}
	return nil
}

// unavailable is the server's answer while the metal-api does not answer, and busy while another
// operation runs. webhookAway and notReady are its answers if admission fails. unreached is a
// proxy's.
var (
	unavailable = &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusServiceUnavailable, Reason: metav1.StatusReasonServiceUnavailable, Message: "the metal-api does not answer",
		Details: &metav1.StatusDetails{Group: v1alpha4.GroupName, Kind: "metalstackmachines", Name: "m-infra"},
	}}
	webhookAway = notAdmitted(http.StatusInternalServerError, metav1.StatusReasonInternalError, `Internal error occurred: failed calling webhook "example.com"`)
	notReady    = notAdmitted(http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, "the request cannot be admitted now")
	busy        = apierrors.NewConflict(v1alpha4.Resource("metalstackmachines"), "m-infra", errors.New("another operation runs"))
	unreached   = apierrors.NewGenericServerResponse(http.StatusServiceUnavailable, "post", v1alpha4.Resource("metalstackmachines"), "m-infra", "error trying to reach service", 0, true)
)

func notAdmitted(code int32, reason metav1.StatusReason, message string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: code, Reason: reason, Message: message,
		Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: infrastructure.CauseNotAdmitted}}},
	}}
}

func remediationOf(changes ...func(*v1alpha4.MetalStackRemediation)) *v1alpha4.MetalStackRemediation {
	r := &v1alpha4.MetalStackRemediation{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: "m", UID: "uid-of-remediation", CreationTimestamp: metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)), Labels: map[string]string{clusterv1.ClusterNameLabel: "c"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: clusterv1.GroupVersion.String(), Kind: "Machine", Name: "m", UID: "uid-of-machine"}},
		},
		Spec: v1alpha4.MetalStackRemediationSpec{Strategy: v1alpha4.RemediationStrategy{
			Type: v1alpha4.RemediationReboot, RetryLimit: 2, Timeout: &metav1.Duration{Duration: 5 * time.Minute},
		}},
	}
	for _, change := range changes {
		change(r)
	}
	return r
}

// unhealthyMachine is a Machine with a Node whose health check has failed.
func unhealthyMachine(changes ...func(*clusterv1.Machine)) *clusterv1.Machine {
	return capiMachine(append([]func(*clusterv1.Machine){func(m *clusterv1.Machine) {
		m.Spec.ProviderID = "metal://fra-01/machine-1"
		m.Status.NodeRef.Name = "m-node"
		m.Labels = map[string]string{clusterv1.ClusterNameLabel: "c"}
		setHealth(m, metav1.ConditionFalse)
	}}, changes...)...)
}

func setHealth(m *clusterv1.Machine, status metav1.ConditionStatus) {
	conditions.Set(m, metav1.Condition{Type: clusterv1.MachineHealthCheckSucceededCondition, Status: status, Reason: clusterv1.MachineHealthCheckUnhealthyNodeReason})
}

func rebootable(changes ...func(client.Object)) metalObject {
	return infraMachine(append([]func(client.Object){func(obj client.Object) {
		m := obj.(*v1alpha4.MetalStackMachine)
		m.Status.Allocation = &v1alpha4.MachineAllocation{
			AllocationState: v1alpha4.AllocationState{Phase: v1alpha4.AllocationAllocated}, MachineID: "machine-1", AllocationUUID: "allocation-1",
		}
		m.Status.Metal = &v1alpha4.Metal{MachineID: "machine-1", Phase: infrastructure.PhasePhonedHome}
	}}, changes...)...)
}

func newRemediationHarness(t *testing.T, changes ...client.Object) *remediationHarness {
	t.Helper()
	h := &remediationHarness{t: t, clock: clocktesting.NewFakeClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)), events: events.NewFakeRecorder(1000)}
	h.power = playedPower{h: h, state: v1alpha4.PowerStateOn, outcome: v1alpha4.OperationSent}
	kinds := remediationKinds()
	require.NoError(t, kinds.err)
	objects := map[string]client.Object{}
	for _, obj := range append([]client.Object{
		capiCluster(), unhealthyMachine(), infraCluster(), rebootable(), remediationOf(),
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "c-kubeconfig"}, Data: map[string][]byte{"value": []byte(workloadKubeconfigText)}},
	}, changes...) {
		objects[fmt.Sprintf("%T %s", obj, obj.GetName())] = obj
	}
	builder := kinds.management.newClient().
		WithStatusSubresource(machines.object(), &clusterv1.Machine{}, &v1alpha4.MetalStackRemediation{})
	for _, obj := range objects {
		builder.WithObjects(obj)
	}
	h.api = builder.Build()
	h.workload = kinds.workload.newClient().
		WithIndex(&corev1.Pod{}, "spec.nodeName", func(obj client.Object) []string { return []string{obj.(*corev1.Pod).Spec.NodeName} }).
		WithObjects(hungNode(), podOn("m-node", "web"), podOn("m-node", "static", corev1.Toleration{Operator: corev1.TolerationOpExists}), podOn("other", "other"),
			&storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: "disk"}, Spec: storagev1.VolumeAttachmentSpec{NodeName: "m-node"}},
			&storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: "other"}, Spec: storagev1.VolumeAttachmentSpec{NodeName: "other"}}).
		WithStatusSubresource(&corev1.Node{}).Build()
	h.restart()
	return h
}

// restart starts a controller manager that remembers nothing.
func (h *remediationHarness) restart() {
	live := interceptor.NewClient(h.api.(client.WithWatch), interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			if stale, watched := ctx.Value(staleReadKey{}).(*atomic.Bool); watched && h.stale {
				stale.Store(true)
			}
			return c.Get(ctx, key, obj, opts...)
		},
		Patch: func(ctx context.Context, c client.WithWatch, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
			if err := h.alive(); err != nil {
				return err
			}
			if err := c.Patch(ctx, obj, patch, opts...); err != nil {
				return err
			}
			return h.effect()
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, obj client.Object, patch client.Patch, opts ...client.SubResourcePatchOption) error {
			if err := h.alive(); err != nil {
				return err
			}
			if err := c.SubResource(sub).Patch(ctx, obj, patch, opts...); err != nil {
				return err
			}
			if m, is := obj.(*clusterv1.Machine); is && conditions.IsFalse(m, clusterv1.MachineOwnerRemediatedCondition) {
				h.steps = append(h.steps, "hand back")
			}
			return h.effect()
		},
	})
	h.r = newRemediationReconciler(live, live, h.events, NewOptions())
	h.r.power, h.r.clock = powerOf{&h.power}, h.clock
	workload := interceptor.NewClient(h.workload.(client.WithWatch), interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			if h.workloadAway {
				return &http.MaxBytesError{}
			}
			return c.Get(ctx, key, obj, opts...)
		},
		Patch: func(ctx context.Context, c client.WithWatch, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
			if err := h.alive(); err != nil {
				return err
			}
			was := isOutOfService(h.node())
			if err := c.Patch(ctx, obj, patch, opts...); err != nil {
				return err
			}
			switch is := isOutOfService(obj.(*corev1.Node)); {
			case is:
				h.steps = append(h.steps, "taint")
			case was:
				h.steps = append(h.steps, "untaint")
			}
			return h.effect()
		},
	})
	h.r.connections.open = func(kubeconfig []byte) (*workloadConnection, error) {
		config, err := workloadConfig(kubeconfig)
		if err != nil {
			return nil, err
		}
		return &workloadConnection{api: &workloadAPI{workload, config.Host, config.ServerName, config.CAData}, close: func() {}}, nil
	}
}

func hungNode() *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "m-node"}, Spec: corev1.NodeSpec{ProviderID: "metal://fra-01/machine-1"},
		Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown}}},
	}
}

func podOn(node, name string, tolerations ...corev1.Toleration) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PodSpec{NodeName: node, Tolerations: tolerations}}
}

// bootTime is how long a machine takes until its kubelet reports.
const bootTime = 2 * time.Minute

// tick reconciles, lets time pass, and has the world go on. It returns the phase.
func (h *remediationHarness) tick() v1alpha4.RemediationPhase {
	h.t.Helper()
	return h.tickWithin(10 * time.Second)
}

// tickWithin is a tick after which the next one begins when it is due: at once after an effect, and
// after a given time if nothing happens.
func (h *remediationHarness) tickWithin(limit time.Duration) v1alpha4.RemediationPhase {
	h.t.Helper()
	effects := h.effects
	result, err := h.r.Reconcile(h.t.Context(), requestOf("m"))
	if h.killed {
		h.killed = false
		h.restart()
	} else {
		require.NoError(h.t, err)
	}
	due := min(cmp.Or(result.RequeueAfter, limit), limit)
	if h.effects != effects {
		due = time.Second
	}
	h.clock.Step(max(time.Second, due))
	node := &corev1.Node{}
	switch err := h.workload.Get(h.t.Context(), client.ObjectKey{Name: "m-node"}, node); {
	case apierrors.IsNotFound(err):
	case isOutOfService(node) && h.power.state == v1alpha4.PowerStateOff:
		// What kube-controller-manager does.
		require.NoError(h.t, client.IgnoreNotFound(h.workload.Delete(h.t.Context(), podOn("m-node", "web"))))
		require.NoError(h.t, client.IgnoreNotFound(h.workload.Delete(h.t.Context(), &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: "disk"}})))
	case h.power.state == v1alpha4.PowerStateOn && !h.power.switched.IsZero() && !h.hangs && h.clock.Since(h.power.switched) >= bootTime:
		now := metav1.NewTime(h.clock.Now())
		node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: now, LastTransitionTime: now}}
		require.NoError(h.t, h.workload.Status().Update(h.t.Context(), node))
	}
	r := h.remediation()
	if r == nil {
		return ""
	}
	return r.Status.Phase
}

// until ticks until a phase, or for an hour.
func (h *remediationHarness) until(phases ...v1alpha4.RemediationPhase) {
	h.t.Helper()
	end := h.clock.Now().Add(2 * time.Hour)
	for !slices.Contains(phases, h.tick()) {
		require.True(h.t, h.clock.Now().Before(end), "never in phase %v, but %+v", phases, h.remediation())
	}
}

// ticksFor ticks for a while; every minute of an hour in which nothing is due.
func (h *remediationHarness) ticksFor(d time.Duration) {
	h.t.Helper()
	for end := h.clock.Now().Add(d); h.clock.Now().Before(end); {
		h.tickWithin(max(d/60, 10*time.Second))
	}
}

// remediation returns the object; nil if it is gone.
func (h *remediationHarness) remediation() *v1alpha4.MetalStackRemediation {
	h.t.Helper()
	r := &v1alpha4.MetalStackRemediation{}
	err := h.api.Get(h.t.Context(), requestOf("m").NamespacedName, r)
	if apierrors.IsNotFound(err) {
		return nil
	}
	require.NoError(h.t, err)
	return r
}

func (h *remediationHarness) said() (reason, message string) {
	h.t.Helper()
	for _, c := range h.remediation().Status.Conditions {
		if c.Type == infrastructure.ConditionRemediated {
			return c.Reason, c.Message
		}
	}
	return "", ""
}

func (h *remediationHarness) node() *corev1.Node {
	h.t.Helper()
	node := &corev1.Node{}
	require.NoError(h.t, h.workload.Get(h.t.Context(), client.ObjectKey{Name: "m-node"}, node))
	return node
}

func (h *remediationHarness) machine() *clusterv1.Machine {
	h.t.Helper()
	m := &clusterv1.Machine{}
	require.NoError(h.t, h.api.Get(h.t.Context(), requestOf("m").NamespacedName, m))
	return m
}

func (h *remediationHarness) changeMachine(change func(*clusterv1.Machine)) {
	h.t.Helper()
	m := h.machine()
	change(m)
	status := m.DeepCopy()
	require.NoError(h.t, h.api.Update(h.t.Context(), m))
	status.ResourceVersion = m.ResourceVersion
	require.NoError(h.t, h.api.Status().Update(h.t.Context(), status))
}

func (h *remediationHarness) changeMetal(change func(*v1alpha4.MetalStackMachine)) {
	h.t.Helper()
	m := &v1alpha4.MetalStackMachine{}
	require.NoError(h.t, h.api.Get(h.t.Context(), requestOf("m-infra").NamespacedName, m))
	change(m)
	require.NoError(h.t, h.api.Status().Update(h.t.Context(), m))
}

func (h *remediationHarness) count(what string) (n int) {
	for _, s := range h.steps {
		if s == what {
			n++
		}
	}
	return n
}
