// SPDX-License-Identifier: Apache-2.0

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

// An unavailable backend is not waited for like a lost answer if nothing was done.
func TestAllocate_UnavailableBackendHasSameReasonAsForRelease(t *testing.T) {
	t.Parallel()
	for backend, words := range map[string]struct{ allocate, release string }{
		"masterdata": {allocate: "code = Unavailable"},
		"rethinkdb":  {allocate: "connection refused", release: "connection refused"},
		"nsq":        {release: "cannot publish delete event"},
	} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			env.allocatedMachine("node")
			env.machine("claim")
			repair := env.sim.Inject(simulator.Fault{Endpoint: "*", Kind: simulator.FaultBackendDown, Backend: backend})
			began := env.clock.Now()
			check := func(name string, err error, words string) {
				t.Helper()
				require.True(t, apierrors.IsServiceUnavailable(err), "%v", err)
				require.ErrorContains(t, err, words)
				assert.True(t, apierrors.HasStatusCause(err, metav1.CauseType(infrastructure.ReasonMetalAPIUnavailable)))
				c := allocatedCondition(t, env.getMachine(name))
				assert.Equal(t, infrastructure.ReasonMetalAPIUnavailable, c.Reason)
				assert.Contains(t, c.Message, words)
				assert.Less(t, env.clock.Since(began), env.p.timing.UncertainDuration, "it was waited for like a lost answer")
			}
			if words.allocate != "" {
				_, err := env.allocate(env.p, "claim", "cluster")
				check("claim", err, words.allocate)
			}
			if words.release != "" {
				_, err := env.release(env.p, "node")
				check("node", err, words.release)
				_, err = env.release(env.p, "node")
				require.True(t, apierrors.IsConflict(err), "%v", err)
				assert.True(t, apierrors.HasStatusCause(err, metav1.CauseType(infrastructure.ReasonMetalAPIUnavailable)), "the pause has the reason of what it pauses after")
			}
			repair()
			env.advance(env.p.timing.Backoff + unavailableRetryAfter)
			env.requireReleasesAll(env.p)
		})
	}
}

func TestReleaseCluster_ReportsUnavailableMetalAPI(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	repair := env.sim.Inject(simulator.Fault{Endpoint: "*", Kind: simulator.FaultBackendDown, Backend: "rethinkdb"})
	_, err := env.releaseCluster(env.p, "cluster")
	require.True(t, apierrors.IsServiceUnavailable(err), "%v", err)
	c := env.getCluster("cluster")
	assert.Equal(t, infrastructure.ReasonMetalAPIUnavailable, meta.FindStatusCondition(c.Status.Conditions, infrastructure.ConditionAllocated).Reason)
	repair()
	env.advance(env.p.timing.Backoff + unavailableRetryAfter)
	env.requireReleasesAll(env.p)
}

// The message of an uncertain answer is in the condition before its outcome is
// waited for.
func TestAllocate_UncertainAnswerIsInConditionBeforeWait(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedMachine("node")
	env.machine("claim")
	lost := func(endpoint string) {
		env.sim.Inject(simulator.Fault{Endpoint: endpoint, Kind: simulator.FaultStatus, Status: http.StatusBadGateway, Message: "upstream prematurely closed", Times: 1})
	}
	said := map[string]metav1.Condition{}
	note := func(step, name string) {
		env.p.onCrashPoint = func(s string) {
			if _, noted := said[step]; s == step && !noted {
				said[step] = *meta.FindStatusCondition(env.getMachine(name).Status.Conditions, infrastructure.ConditionAllocated)
			}
		}
	}
	lost(machineAllocate)
	note("machine/uncertain", "claim")
	_, err := env.allocate(env.p, "claim", "cluster")
	require.NoError(t, err)
	lost(machineFree)
	note("machine/free-uncertain", "node")
	_, err = env.release(env.p, "node")
	require.NoError(t, err)
	env.p.onCrashPoint = nil
	for step, reason := range map[string]string{
		"machine/uncertain":      infrastructure.ReasonAllocationUncertain,
		"machine/free-uncertain": infrastructure.ReasonReleaseUncertain,
	} {
		assert.Equal(t, reason, said[step].Reason, step)
		assert.Regexp(t, `^(Allocation|Release) outcome unknown: reconciling before the next attempt: .*upstream prematurely closed`, said[step].Message, step)
	}
	env.requireReleasesAll(env.p)
}

// The condition says why an outcome cannot be read.
func TestRelease_UncertainAnswerSaysWhyOutcomeIsUnknown(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedMachine("node")
	env.sim.Inject(simulator.Fault{Endpoint: machineFree, Kind: simulator.FaultStatus, Status: http.StatusBadGateway, Message: "bad gateway", Times: 1})
	// The read before the call succeeds, the one after it fails.
	freed := false
	env.p.onCrashPoint = func(s string) {
		if s == "machine/freed" && !freed {
			freed = true
			env.sim.Inject(simulator.Fault{Endpoint: "machine-find", Kind: simulator.FaultStatus, Status: http.StatusUnprocessableEntity, Message: "rethinkdb: no primary", Times: 1})
		}
	}
	_, err := env.release(env.p, "node")
	require.NoError(t, err)
	assert.Contains(t, string(bytes.Join(env.machines.every, nil)), "rethinkdb: no primary")
	env.p.onCrashPoint = nil
	env.requireReleasesAll(env.p)
}
