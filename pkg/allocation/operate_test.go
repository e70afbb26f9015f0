// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// operateOn does work on a machine that holds metal.
func (env *environment) operateOn(name string, work func(ctx context.Context, h *Held) error) error {
	ref := MachineRef{Kind: "MetalStackMachine", Namespace: teamA, Name: name}
	_, err := Operate(env.context(), env.p, ref, "power request", func(ctx context.Context, h *Held) (struct{}, error) {
		return struct{}{}, work(ctx, h)
	})
	return err
}

func (env *environment) begin(name string) error {
	return env.operateOn(name, func(ctx context.Context, h *Held) error {
		if _, err := h.Observe(ctx); err != nil {
			return err
		}
		now := metav1.NewMicroTime(env.clock.Now())
		return h.BeginOperation(ctx, &infrastructure.MachineOperation{
			Action: "Cycle", AllocationUUID: h.Allocation.AllocationUUID, RequestTime: &now, Outcome: infrastructure.OperationRequested,
		})
	})
}

func TestOperate_RecordSurvivesTheRelease(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	env.machine("node")
	require.True(t, apierrors.IsConflict(env.begin("node")), "no metal is allocated")
	_, err := env.allocate(env.p, "node", "cluster")
	require.NoError(t, err)
	require.NoError(t, env.begin("node"))
	m, err := env.release(env.p, "node")
	require.NoError(t, err)
	require.Equal(t, "Cycle", m.Status.LastOperation.Action)
	require.True(t, apierrors.IsConflict(env.begin("node")), "it was released")
}

// Whatever an allocation or a release is refused for when no record can be written any more, it
// says so, and that clients come again.
func TestOperations_SayThatRecordsCannotBeWrittenAnyMore(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	env.machine("free")
	env.machine("held")
	_, err := env.allocate(env.p, "held", "cluster")
	require.NoError(t, err)
	newer := apierrors.NewServiceUnavailable("records have a newer format")
	newer.ErrStatus.Details = &metav1.StatusDetails{RetryAfterSeconds: 1}
	env.p.opts.Writable = func() error { return newer }
	writes := 0
	env.machines.fail = func(string) error {
		writes++
		return newer
	}
	for what, do := range map[string]func() error{
		"allocation": func() error { _, err := env.allocate(env.p, "free", "cluster"); return err },
		"release":    func() error { _, err := env.release(env.p, "held"); return err },
	} {
		writes = 0
		require.Equal(t, newer, do(), what)
		require.LessOrEqual(t, writes, 1, "%s is not retried: it cannot be recorded later, either", what)
	}
	m, err := env.allocate(env.p, "held", "cluster")
	require.NoError(t, err, "what is done already is answered as ever")
	require.Equal(t, infrastructure.AllocationAllocated, m.Status.Allocation.Phase)
}

func TestAllocate_ForgetsTheOperationOfAnotherAllocation(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	env.machine("node", func(m *infrastructure.MetalStackMachine) {
		m.Status.LastOperation = &infrastructure.MachineOperation{Action: "Cycle", AllocationUUID: "another"}
	})
	m, err := env.allocate(env.p, "node", "cluster")
	require.NoError(t, err)
	require.Nil(t, m.Status.LastOperation)
}

func TestOperate_OfTwoServersOneBegins(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	env.machine("node")
	_, err := env.allocate(env.p, "node", "cluster")
	require.NoError(t, err)
	err = env.operateOn("node", func(ctx context.Context, h *Held) error {
		env.p = env.newProtocol()
		require.NoError(t, env.begin("node"), "of another server")
		return h.BeginOperation(ctx, &infrastructure.MachineOperation{Action: "Off", AllocationUUID: h.Allocation.AllocationUUID})
	})
	require.True(t, apierrors.IsConflict(err), "%v", err)
	require.Equal(t, "Cycle", env.getMachine("node").Status.LastOperation.Action)
}

// An outcome does not replace what another server has recorded since.
func TestOperate_LaterOperationStays(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	env.machine("node")
	_, err := env.allocate(env.p, "node", "cluster")
	require.NoError(t, err)
	require.NoError(t, env.operateOn("node", func(ctx context.Context, h *Held) error {
		begun := &infrastructure.MachineOperation{Action: "Off", AllocationUUID: h.Allocation.AllocationUUID, Outcome: infrastructure.OperationRequested}
		require.NoError(t, h.BeginOperation(ctx, begun))
		env.p = env.newProtocol()
		require.NoError(t, env.begin("node"), "of another server")
		ended := begun.DeepCopy()
		ended.Outcome = infrastructure.OperationSent
		return h.EndOperation(ctx, begun, ended)
	}))
	require.Equal(t, "Cycle", env.getMachine("node").Status.LastOperation.Action)
}

func TestRefusal_BecomesAStatusOfItsKind(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	ref := MachineRef{Kind: "MetalStackFirewall", Namespace: teamA, Name: "fw"}
	err := env.p.StatusError(ref, Refuse(http.StatusTooManyRequests, 1, "slowly"))
	require.True(t, apierrors.IsTooManyRequests(err), "%v", err)
	seconds, ok := apierrors.SuggestsClientDelay(err)
	require.True(t, ok)
	require.Equal(t, 1, seconds)
	require.ErrorContains(t, err, `metalstackfirewalls.infrastructure.cluster.x-k8s.io "fw": slowly`)
	require.NoError(t, env.p.StatusError(ref, nil))
}

// A retry of what is recorded nowhere is another request.
func TestRepetition_IsThatOfTheVerb(t *testing.T) {
	t.Parallel()
	power, reinstall := repetition(VerbPower), repetition(VerbReinstall)
	for _, s := range []string{power, reinstall} {
		require.Contains(t, s, "within ten seconds of the end of this one")
		require.Contains(t, s, "as long as no other power action or reinstallation of the object was recorded since")
	}
	require.Contains(t, power, "requestID")
	require.Contains(t, power, "discovered")
	require.NotContains(t, reinstall, "requestID", "it has none")
	for _, verb := range []string{VerbConsolePassword, "lock request", "unlock request", "identify request", verbAllocate, verbRelease, verbRecover} {
		require.Empty(t, repetition(verb), verb)
	}
}

func TestInterruption_SaysWhatWasNotDone(t *testing.T) {
	t.Parallel()
	require.EqualError(t, interruption(VerbConsolePassword), "the server is shutting down: no password was given: retry")
	require.EqualError(t, interruption(VerbPower), "the server is shutting down: nothing was sent: retry")
	for _, verb := range []string{VerbConsolePassword, VerbPower, verbAllocate} {
		require.Equal(t, "interrupted", outcomeOf(interruption(verb)))
	}
}
