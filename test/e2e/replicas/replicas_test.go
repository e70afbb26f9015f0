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
)

// TestReplicas takes one server after the other away. The rules share a control
// plane, and each makes sure that there are two servers.
func TestReplicas(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, rule := range []struct {
		name string
		test func(*world)
	}{
		{"only the active one answers, and the Service leads to it", onlyOneAnswers},
		{"a stop under load fails no request that a client would not repeat", aStopUnderLoad},
		{"a stop lets an allocation end", aStopDuringAnAllocation},
		{"after a kill the other takes over when the Lease lapses, and finds what was being allocated", aKillDuringAnAllocation},
		{"one that was paused for longer than its Lease starts no write any more", aPauseDuringWrites},
	} {
		t.Run(rule.name, func(t *testing.T) {
			rule.test(&world{Cluster: w.Cluster, t: t, whole: w.whole})
		})
	}
}

func onlyOneAnswers(w *world) {
	active, standby := w.pair()
	machines := w.direct(active).MetalStackMachines(team)
	_, err := machines.List(w.context(), metav1.ListOptions{})
	require.NoError(w.t, err)

	// One attempt, to see what client-go would repeat.
	refused := w.direct(standby).RESTClient().Get().Namespace(team).Resource("metalstackmachines").MaxRetries(0).Do(w.context())
	require.True(w.t, apierrors.IsServiceUnavailable(refused.Error()), "%v", refused.Error())
	seconds, told := apierrors.SuggestsClientDelay(refused.Error())
	assert.True(w.t, told && seconds == 1, "%v", refused.Error())
	assert.ErrorContains(w.t, refused.Error(), "this server is not active: the active server is \""+active.Name+"\"")
	_, err = w.direct(standby).RESTClient().Get().AbsPath("/apis/" + api.SchemeGroupVersion.String()).DoRaw(w.context())
	require.NoError(w.t, err, "discovery is the same everywhere")

	for p, held := range map[*cluster.Program]string{active: "1", standby: "0"} {
		assert.Equal(w.t, held, w.gauge(p, "metalstack_replica_lease_held"), p.Name)
		assert.Equal(w.t, held, w.gauge(p, "metalstack_replica_takeovers_total"), p.Name)
		assert.Equal(w.t, held, w.gauge(p, "metalstack_replica_takeover_duration_seconds_count"), p.Name)
	}

	pods, err := w.Client().CoreV1().Pods(cluster.Namespace).List(w.context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=" + cluster.APIServer})
	require.NoError(w.t, err)
	for _, pod := range pods.Items {
		assert.True(w.t, podReady(&pod), "%s: also who stands by is ready, so that a rollout goes on", pod.Name)
	}
	slices, err := w.Client().DiscoveryV1().EndpointSlices(cluster.Namespace).List(w.context(), metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=" + cluster.APIServer})
	require.NoError(w.t, err)
	var targets []string
	for _, slice := range slices.Items {
		for _, endpoint := range slice.Endpoints {
			targets = append(targets, endpoint.TargetRef.Name)
		}
	}
	assert.Equal(w.t, []string{active.Name}, targets)
}

func aStopUnderLoad(w *world) {
	active, standby := w.pair()
	l := w.load(3, 2, 2)
	l.awaitWrites(20)
	began := time.Now()
	active.Terminate(w.t)
	<-active.Ended()
	w.t.Logf("the active server ended after %s", time.Since(began).Round(time.Millisecond))
	active.Pod.Delete(w.t)
	l.awaitWrites(20)
	l.rest()
	assert.Equal(w.t, 0, active.ExitCode())
	w.awaitActive(standby)
	l.requireUnharmed()
}

func aStopDuringAnAllocation(w *world) {
	active, standby := w.pair()
	arrived := w.inject(simulator.Fault{Kind: simulator.FaultLatency, Latency: 2 * time.Second})
	claim, answer := w.allocate("stopped")
	<-arrived
	active.Terminate(w.t)
	require.NoError(w.t, <-answer)
	<-active.Ended()
	active.Pod.Delete(w.t)
	assert.Equal(w.t, 0, active.ExitCode())
	w.awaitActive(standby)
	w.requireAllocatedOnce(claim)
}

func aKillDuringAnAllocation(w *world) {
	active, standby := w.pair()
	// The metal-api does what it was asked for after the takeover, although who
	// asked is dead by then.
	arrived := w.inject(simulator.Fault{Kind: simulator.FaultCommitThenLate, Latency: leaseDuration + time.Second})
	claim, answer := w.allocate("killed")
	<-arrived
	killed := time.Now()
	active.Kill()
	active.Pod.SetReady(w.t, false)
	require.Error(w.t, <-answer)

	w.awaitActive(standby)
	took := w.lease().Spec.AcquireTime.Sub(killed)
	w.t.Logf("the Lease was taken %s after the kill, and the Service led there %s after it", took.Round(time.Millisecond), time.Since(killed).Round(time.Millisecond))
	assert.Less(w.t, took, leaseDuration+grace)
	w.AwaitAvailable(w.t)
	machines := w.as(w.Admin()).MetalStackMachines(team)
	w.await("the machine to be found", func(ctx context.Context) error {
		m, err := machines.Get(ctx, "killed", metav1.GetOptions{})
		if err == nil && m.Status.Allocation.Phase != api.AllocationAllocated {
			err = fmt.Errorf("it is %s", m.Status.Allocation.Phase)
		}
		return err
	})
	_, err := machines.Allocate(w.context(), "killed", &api.Allocation{ClusterRef: &api.LocalReference{Name: "c"}}, metav1.CreateOptions{})
	require.NoError(w.t, err, "asked again, it answers the same")
	w.requireAllocatedOnce(claim)
	active.Pod.Delete(w.t)
}

func aPauseDuringWrites(w *world) {
	active, standby := w.pair()
	paused := w.direct(active).MetalStackMachines(team)
	_, err := paused.Create(w.context(), objects.Machine("contested"), metav1.CreateOptions{})
	require.NoError(w.t, err)
	arrived := w.inject(simulator.Fault{Kind: simulator.FaultCommitThenLate, Latency: 2 * time.Second})
	claim, answer := w.allocate("paused")
	<-arrived
	active.Pause(w.t)

	// These wait in the paused server's sockets.
	ctx := w.context()
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

	w.awaitActive(standby)
	machines := w.direct(standby).MetalStackMachines(team)
	w.await("the machine to be found", func(ctx context.Context) error {
		m, err := machines.Get(ctx, "paused", metav1.GetOptions{})
		if err == nil && m.Status.Allocation.Phase != api.AllocationAllocated {
			err = fmt.Errorf("it is %s", m.Status.Allocation.Phase)
		}
		return err
	})
	contested, err := machines.Get(w.context(), "contested", metav1.GetOptions{})
	require.NoError(w.t, err)
	contested.Labels = map[string]string{"written": "by-the-successor"}
	_, err = machines.Update(w.context(), contested, metav1.UpdateOptions{})
	require.NoError(w.t, err)

	records, writes := w.records(), w.writes()
	active.Resume(w.t)
	<-active.Ended()
	assert.NotZero(w.t, active.ExitCode(), "it has to be started again")
	assert.Contains(w.t, active.Log(w.t), "lost the lease")
	for name, answer := range late {
		assert.Error(w.t, <-answer, "the paused server has answered a %s", name)
	}
	if err := <-answer; err != nil {
		w.t.Logf("the allocation was answered: %v", err)
	}
	assert.Equal(w.t, records, w.records(), "a record was written")
	assert.Equal(w.t, writes, w.writes(), "metal was changed")
	assert.Equal(w.t, standby.Name, w.holder(), "it gave its successor's Lease back")
	w.requireAllocatedOnce(claim)
	active.Pod.Delete(w.t)
}
