// SPDX-License-Identifier: Apache-2.0

package replicas_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
	"metal-stack.io/infrastructure-apiserver/test/framework/traffic"
)

// TestReplicas takes one server after the other away. The rules share a control
// plane, and each makes sure that there are two servers.
func TestReplicas(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	for _, rule := range []struct {
		name string
		test func(*environment)
	}{
		{"Standby_Answers503", standbyAnswers503},
		{"Stop_UnderLoadFailsOnlyRetriedRequests", stopUnderLoadFailsOnlyRetriedRequests},
		{"Stop_WaitsForAllocation", stopWaitsForAllocation},
		{"Kill_StandbyFinishesAllocation", killStandbyFinishesAllocation},
		{"PausedServer_WritesNothingAfterLeaseExpiry", pausedServerWritesNothingAfterLeaseExpiry},
	} {
		t.Run(rule.name, func(t *testing.T) {
			rule.test(&environment{Cluster: env.Cluster, t: t, whole: env.whole})
		})
	}
}

// standbyAnswers503: only the active server answers, and the Service leads to it.
func standbyAnswers503(env *environment) {
	active, standby := env.pair()
	machines := env.direct(active).MetalStackMachines(team)
	_, err := machines.List(env.context(), metav1.ListOptions{})
	require.NoError(env.t, err)

	// One attempt, to see what client-go would repeat.
	refused := env.direct(standby).RESTClient().Get().Namespace(team).Resource("metalstackmachines").MaxRetries(0).Do(env.context())
	require.True(env.t, apierrors.IsServiceUnavailable(refused.Error()), "%v", refused.Error())
	seconds, suggested := apierrors.SuggestsClientDelay(refused.Error())
	assert.True(env.t, suggested && seconds == 1, "%v", refused.Error())
	assert.ErrorContains(env.t, refused.Error(), "this server is not active: the active server is \""+active.Name+"\"")
	_, err = env.direct(standby).RESTClient().Get().AbsPath("/apis/" + api.SchemeGroupVersion.String()).DoRaw(env.context())
	require.NoError(env.t, err, "discovery is the same everywhere")

	for p, held := range map[*cluster.Program]string{active: "1", standby: "0"} {
		assert.Equal(env.t, held, env.gauge(p, "metalstack_replica_lease_held"), p.Name)
		assert.Equal(env.t, held, env.gauge(p, "metalstack_replica_failovers_total"), p.Name)
		assert.Equal(env.t, held, env.gauge(p, "metalstack_replica_failover_duration_seconds_count"), p.Name)
	}

	pods, err := env.Client().CoreV1().Pods(cluster.Namespace).List(env.context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=" + cluster.APIServer})
	require.NoError(env.t, err)
	for _, pod := range pods.Items {
		assert.True(env.t, podReady(&pod), "%s: also who stands by is ready, so that a rollout goes on", pod.Name)
	}
	slices, err := env.Client().DiscoveryV1().EndpointSlices(cluster.Namespace).List(env.context(), metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=" + cluster.APIServer})
	require.NoError(env.t, err)
	var targets []string
	for _, slice := range slices.Items {
		for _, endpoint := range slice.Endpoints {
			targets = append(targets, endpoint.TargetRef.Name)
		}
	}
	assert.Equal(env.t, []string{active.Name}, targets)
}

// stopUnderLoadFailsOnlyRetriedRequests: a stop under load fails no request that
// a client would not repeat.
func stopUnderLoadFailsOnlyRetriedRequests(env *environment) {
	active, standby := env.pair()
	l := traffic.Start(env.t, env.Cluster, traffic.Options{Namespace: team, Writers: 3, Readers: 2, Watchers: 2})
	l.AwaitWrites(20)
	began := time.Now()
	active.Terminate(env.t)
	<-active.Ended()
	env.t.Logf("the active server ended after %s", time.Since(began).Round(time.Millisecond))
	active.Pod.Delete(env.t)
	l.AwaitWrites(20)
	l.Stop()
	assert.Equal(env.t, 0, active.ExitCode())
	env.awaitActive(standby)
	l.RequireUnharmed()
}

func stopWaitsForAllocation(env *environment) {
	active, standby := env.pair()
	arrived := env.inject(simulator.Fault{Kind: simulator.FaultLatency, Latency: 2 * time.Second})
	claim, answer := env.allocate("stopped")
	<-arrived
	active.Terminate(env.t)
	require.NoError(env.t, <-answer)
	<-active.Ended()
	active.Pod.Delete(env.t)
	assert.Equal(env.t, 0, active.ExitCode())
	env.awaitActive(standby)
	env.requireAllocatedOnce(claim)
}

// killStandbyFinishesAllocation: after a kill the standby takes over when the
// Lease has expired, and finds what was being allocated.
func killStandbyFinishesAllocation(env *environment) {
	active, standby := env.pair()
	// The metal-api does what it was asked for after the failover, although who
	// asked is dead by then.
	arrived := env.inject(simulator.Fault{Kind: simulator.FaultCommitThenLate, Latency: leaseDuration + time.Second})
	claim, answer := env.allocate("killed")
	<-arrived
	killed := time.Now()
	active.Kill()
	active.Pod.SetReady(env.t, false)
	require.Error(env.t, <-answer)

	env.awaitActive(standby)
	took := env.Lease(env.t).Spec.AcquireTime.Sub(killed)
	env.t.Logf("the Lease was taken %s after the kill, and the Service led there %s after it", took.Round(time.Millisecond), time.Since(killed).Round(time.Millisecond))
	assert.Less(env.t, took, leaseDuration+grace)
	env.AwaitAvailable(env.t)
	machines := env.as(env.Admin()).MetalStackMachines(team)
	env.await("the machine to be found", func(ctx context.Context) error {
		m, err := machines.Get(ctx, "killed", metav1.GetOptions{})
		if err == nil && m.Status.Allocation.Phase != api.AllocationAllocated {
			err = fmt.Errorf("it is %s", m.Status.Allocation.Phase)
		}
		return err
	})
	_, err := machines.Allocate(env.context(), "killed", &api.Allocation{ClusterRef: &api.LocalReference{Name: "c"}}, metav1.CreateOptions{})
	require.NoError(env.t, err, "asked again, it answers the same")
	env.requireAllocatedOnce(claim)
	active.Pod.Delete(env.t)
}

// pausedServerWritesNothingAfterLeaseExpiry: a server that was paused for longer
// than its Lease begins no write any more.
func pausedServerWritesNothingAfterLeaseExpiry(env *environment) {
	active, standby := env.pair()
	paused := env.direct(active).MetalStackMachines(team)
	_, err := paused.Create(env.context(), objects.Machine("contested"), metav1.CreateOptions{})
	require.NoError(env.t, err)
	arrived := env.inject(simulator.Fault{Kind: simulator.FaultCommitThenLate, Latency: 2 * time.Second})
	claim, answer := env.allocate("paused")
	<-arrived
	active.Pause(env.t)

	// These wait in the paused server's sockets.
	ctx := env.context()
	late := map[string]chan error{}
	for name, request := range map[string]func() error{
		"create": func() error {
			_, err := paused.Create(ctx, objects.Machine("late"), metav1.CreateOptions{})
			return err
		},
		"delete": func() error { return paused.Delete(ctx, "contested", metav1.DeleteOptions{}) },
		"list": func() error {
			_, err := paused.List(ctx, metav1.ListOptions{})
			return err
		},
	} {
		answer := make(chan error, 1)
		late[name] = answer
		go func() { answer <- request() }()
	}

	env.awaitActive(standby)
	machines := env.direct(standby).MetalStackMachines(team)
	env.await("the machine to be found", func(ctx context.Context) error {
		m, err := machines.Get(ctx, "paused", metav1.GetOptions{})
		if err == nil && m.Status.Allocation.Phase != api.AllocationAllocated {
			err = fmt.Errorf("it is %s", m.Status.Allocation.Phase)
		}
		return err
	})
	contested, err := machines.Get(env.context(), "contested", metav1.GetOptions{})
	require.NoError(env.t, err)
	contested.Labels = map[string]string{"written": "by-the-successor"}
	_, err = machines.Update(env.context(), contested, metav1.UpdateOptions{})
	require.NoError(env.t, err)

	records, writes := env.records(), env.writes()
	active.Resume(env.t)
	<-active.Ended()
	assert.NotZero(env.t, active.ExitCode(), "it has to be started again")
	assert.Contains(env.t, active.Log(env.t), "lost the lease")
	for name, answer := range late {
		assert.Error(env.t, <-answer, "the paused server has answered a %s", name)
	}
	if err := <-answer; err != nil {
		env.t.Logf("the allocation was answered: %v", err)
	}
	assert.Equal(env.t, records, env.records(), "a record was written")
	assert.Equal(env.t, writes, env.writes(), "metal was changed")
	assert.Equal(env.t, standby.Name, env.Holder(env.t), "it gave its successor's Lease back")
	env.requireAllocatedOnce(claim)
	active.Pod.Delete(env.t)
}
