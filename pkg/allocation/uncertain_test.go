package allocation

import (
	"bytes"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// A backend that is away has the same reason for whoever asks, and is not
// waited for as for a lost answer if nothing was done.
func TestAllocate_UnavailableBackendHasSameReasonAsForRelease(t *testing.T) {
	t.Parallel()
	for backend, words := range map[string]struct{ allocate, release string }{
		"masterdata": {allocate: "code = Unavailable"},
		"rethinkdb":  {allocate: "connection refused", release: "connection refused"},
		"nsq":        {release: "cannot publish delete event"},
	} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			w := newEnvironment(t)
			w.node("node")
			w.machine("claim")
			repair := w.sim.Inject(simulator.Fault{Endpoint: "*", Kind: simulator.FaultBackendDown, Backend: backend})
			began := w.clock.Now()
			check := func(name string, err error, words string) {
				t.Helper()
				require.True(t, apierrors.IsServiceUnavailable(err), "%v", err)
				require.ErrorContains(t, err, words)
				assert.True(t, apierrors.HasStatusCause(err, metav1.CauseType(infrastructure.ReasonMetalAPIUnavailable)))
				c := condition(t, w.record(name))
				assert.Equal(t, infrastructure.ReasonMetalAPIUnavailable, c.Reason)
				assert.Contains(t, c.Message, words)
				assert.Less(t, w.clock.Since(began), w.p.timing.UncertainDuration, "it was waited for like a lost answer")
			}
			if words.allocate != "" {
				_, err := w.allocate(w.p, "claim", "cluster")
				check("claim", err, words.allocate)
			}
			if words.release != "" {
				_, err := w.release(w.p, "node")
				check("node", err, words.release)
				_, err = w.release(w.p, "node")
				require.True(t, apierrors.IsConflict(err), "%v", err)
				assert.True(t, apierrors.HasStatusCause(err, metav1.CauseType(infrastructure.ReasonMetalAPIUnavailable)), "the pause has the reason of what it pauses after")
			}
			repair()
			w.advance(w.p.timing.Backoff + unavailableRetryAfter)
			w.gone(w.p)
		})
	}
}

func TestClusterRelease_SaysThatTheMetalAPIIsUnavailable(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.allocatedCluster("cluster")
	repair := w.sim.Inject(simulator.Fault{Endpoint: "*", Kind: simulator.FaultBackendDown, Backend: "rethinkdb"})
	_, err := w.releaseCluster(w.p, "cluster")
	require.True(t, apierrors.IsServiceUnavailable(err), "%v", err)
	c := w.clusterRecord("cluster")
	assert.Equal(t, infrastructure.ReasonMetalAPIUnavailable, meta.FindStatusCondition(c.Status.Conditions, infrastructure.ConditionAllocated).Reason)
	repair()
	w.advance(w.p.timing.Backoff + unavailableRetryAfter)
	w.gone(w.p)
}

// The words of an answer that leaves it open what was done are in the condition
// before it is waited for.
func TestAllocate_UncertainAnswerIsInConditionBeforeWait(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.node("node")
	w.machine("claim")
	lost := func(endpoint string) {
		w.sim.Inject(simulator.Fault{Endpoint: endpoint, Kind: simulator.FaultStatus, Status: http.StatusBadGateway, Message: "upstream prematurely closed", Times: 1})
	}
	said := map[string]metav1.Condition{}
	note := func(step, name string) {
		w.p.onCrashPoint = func(s string) {
			if _, noted := said[step]; s == step && !noted {
				said[step] = *meta.FindStatusCondition(w.record(name).Status.Conditions, infrastructure.ConditionAllocated)
			}
		}
	}
	lost(machineAllocate)
	note("machine/settling", "claim")
	_, err := w.allocate(w.p, "claim", "cluster")
	require.NoError(t, err)
	lost(machineFree)
	note("machine/free-settling", "node")
	_, err = w.release(w.p, "node")
	require.NoError(t, err)
	w.p.onCrashPoint = nil
	for step, reason := range map[string]string{
		"machine/settling":      infrastructure.ReasonAllocationUncertain,
		"machine/free-settling": infrastructure.ReasonReleaseUncertain,
	} {
		assert.Equal(t, reason, said[step].Reason, step)
		assert.Regexp(t, `^(Allocation|Release) outcome unknown: reconciling before the next attempt: .*upstream prematurely closed`, said[step].Message, step)
	}
	w.gone(w.p)
}

// Nor does whoever looks for an outcome keep to itself why it cannot.
func TestRelease_UncertainAnswerSaysWhyOutcomeIsUnknown(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.node("node")
	w.sim.Inject(simulator.Fault{Endpoint: machineFree, Kind: simulator.FaultStatus, Status: http.StatusBadGateway, Message: "bad gateway", Times: 1})
	// The look before the call passes, the one after it does not.
	freed := false
	w.p.onCrashPoint = func(s string) {
		if s == "machine/freed" && !freed {
			freed = true
			w.sim.Inject(simulator.Fault{Endpoint: "machine-find", Kind: simulator.FaultStatus, Status: http.StatusUnprocessableEntity, Message: "rethinkdb: no primary", Times: 1})
		}
	}
	_, err := w.release(w.p, "node")
	require.NoError(t, err)
	assert.Contains(t, string(bytes.Join(w.machines.every, nil)), "rethinkdb: no primary")
	w.p.onCrashPoint = nil
	w.gone(w.p)
}
