// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/ptr"

	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/replica"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/memory"
	"metal-stack.io/infrastructure-apiserver/pkg/recordformat"
	"metal-stack.io/infrastructure-apiserver/pkg/storage"
)

const replicaNamespace = "metal-stack-system"

// formatFixture is a replica, the Pod "old", over a ledger to which newer servers write.
type formatFixture struct {
	*Server
	ledger     ledger.Ledger
	client     *fake.Clientset
	events     *events.FakeRecorder
	terminated error
}

func newFormatFixture(t *testing.T) *formatFixture {
	t.Helper()
	return newFormatFixtureOver(t, func(l ledger.Ledger) ledger.Ledger { return l })
}

// newFormatFixtureOver is newFormatFixture with a wrapped ledger.
func newFormatFixtureOver(t *testing.T, wrap func(ledger.Ledger) ledger.Ledger) *formatFixture {
	t.Helper()
	f := &formatFixture{ledger: memory.New(), client: fake.NewClientset(), events: events.NewFakeRecorder(10)}
	f.addPod(t, "old", corev1.ConditionFalse, "")
	r, err := replica.New(replica.Options{
		Client: f.client, Namespace: replicaNamespace, Lease: "lease", Pod: "old", Events: f.events,
		LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second,
	})
	require.NoError(t, err)
	guarded := ledger.Guard(wrap(f.ledger))
	backend, err := storage.NewBackend(t.Context(), storage.Options{Ledger: guarded, Fence: r.Fence()})
	require.NoError(t, err)
	f.Server = &Server{
		extra: &ExtraConfig{Replica: r}, records: guarded, ledger: guarded, backend: backend, ready: &readiness{}, preloaded: make(chan struct{}),
		terminateRun: func(err error) { f.terminated = err },
	}
	f.ready.done.Store(true)
	f.active, f.stopActive = context.WithCancel(t.Context())
	f.gate = newServingGate(f.unavailableReason)
	return f
}

func (f *formatFixture) addPod(t *testing.T, name string, ready corev1.ConditionStatus, label string) {
	t.Helper()
	_, err := f.client.CoreV1().Pods(replicaNamespace).Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: replicaNamespace, Labels: map[string]string{replica.ActiveLabel: label}},
		Status:     corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
}

func (f *formatFixture) writeNewer(t *testing.T) {
	t.Helper()
	_, err := f.ledger.Create(t.Context(), "_meta/revision", []byte(`{"format":2,"writtenBy":"v9.0.0","reserved":5}`))
	require.NoError(t, err)
}

// holder is the holder of the Lease, "" for none.
func (f *formatFixture) holder(t *testing.T) string {
	t.Helper()
	leases, err := f.client.CoordinationV1().Leases(replicaNamespace).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	if len(leases.Items) == 0 {
		return ""
	}
	return ptr.Deref(leases.Items[0].Spec.HolderIdentity, "")
}

func TestNewerRecords_ReplicaThatStartsDoesNotBecomeActive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFormatFixture(t)
		f.writeNewer(t)
		before, err := f.ledger.List(t.Context())
		require.NoError(t, err)
		go f.handleNewerRecords(t.Context())
		go f.runLeaderElection(t.Context())
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		require.NoError(t, f.terminated, "it goes on, and says what is wrong")
		assert.Empty(t, f.holder(t))
		require.Error(t, f.extra.Replica.Fence().Check())
		require.ErrorContains(t, f.recordFormatCheck().Check(&http.Request{}), "written by v9.0.0")
		text, elsewhere := f.unavailableReason()
		assert.Contains(t, text, "upgrade the server")
		assert.True(t, elsewhere, "connections are closed: this server never will serve")
		assert.Contains(t, <-f.events.Events, ReasonRecordsNewer)
		<-f.preloaded // or the observer would wait for ever
		after, err := f.ledger.List(t.Context())
		require.NoError(t, err)
		assert.Equal(t, before, after)
	})
}

// A standby that meets them leaves the election, and the Lease to others.
func TestNewerRecords_StandbyLeavesElection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFormatFixture(t)
		other, err := replica.New(replica.Options{
			Client: f.client, Namespace: replicaNamespace, Lease: "lease", Pod: "new",
			LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second,
		})
		require.NoError(t, err)
		life, kill := context.WithCancel(t.Context())
		go func() { _ = other.Run(life, func(context.Context) {}) }()
		time.Sleep(3 * time.Second)
		require.Equal(t, "new", f.holder(t))
		go f.handleNewerRecords(t.Context())
		go f.runLeaderElection(t.Context())
		time.Sleep(preloadInterval / 2)
		require.NoError(t, f.recordFormatCheck().Check(&http.Request{}))
		f.writeNewer(t)
		time.Sleep(preloadInterval)
		require.Error(t, f.recordFormatCheck().Check(&http.Request{}))
		kill()
		time.Sleep(5 * time.Minute)
		assert.NotEqual(t, "old", f.holder(t))
		require.NoError(t, f.terminated)
	})
}

// fakeRecoverer says whether it runs.
type fakeRecoverer struct{ runs atomic.Bool }

func (r *fakeRecoverer) Run(ctx context.Context) {
	r.runs.Store(true)
	<-ctx.Done()
	r.runs.Store(false)
}

func TestNewerRecords_ActiveServerHandsOverToReadyStandby(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFormatFixture(t)
		f.gate.advance(gateOpen)
		f.addPod(t, "old-standby", corev1.ConditionTrue, replica.StandbyValue)
		recovery := &fakeRecoverer{}
		f.recoverer = recovery
		f.runActive(t.Context())
		go f.handleNewerRecords(t.Context())
		synctest.Wait()
		require.True(t, recovery.runs.Load())
		f.writeNewer(t)
		_, err := f.records.List(t.Context())
		require.True(t, recordformat.IsNewer(err))
		synctest.Wait()
		require.False(t, recovery.runs.Load(), "what only the active server runs has stopped")

		// The standby of the same version notices, and is not ready any more.
		time.Sleep(preloadInterval + 10*time.Second)
		require.NoError(t, f.terminated)
		require.NoError(t, f.client.CoreV1().Pods(replicaNamespace).Delete(t.Context(), "old-standby", metav1.DeleteOptions{}))
		f.addPod(t, "old-standby", corev1.ConditionFalse, replica.StandbyValue)
		time.Sleep(10 * time.Minute)
		require.NoError(t, f.terminated, "no standby could follow")
		assert.True(t, f.gate.isOpen(), "reads are answered")

		f.addPod(t, "new", corev1.ConditionTrue, replica.StandbyValue)
		time.Sleep(standbyPollInterval)
		synctest.Wait()
		require.True(t, recordformat.IsNewer(f.terminated), "%v", f.terminated)
	})
}
