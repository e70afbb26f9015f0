// SPDX-License-Identifier: Apache-2.0

package replica

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
)

const namespace = "metal-stack-system"

// fakeCluster is a cluster with a Pod for each replica.
type fakeCluster struct {
	t      *testing.T
	client *fake.Clientset

	mu   sync.Mutex
	fail func(verb, holder string) error
}

// failing lets requests about the Lease fail for which fail returns an error;
// holder is the holder of the Lease.
func (c *fakeCluster) failing(fail func(verb, holder string) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail = fail
}

func (c *fakeCluster) react(action clienttesting.Action) (bool, runtime.Object, error) {
	holder := ""
	if update, ok := action.(clienttesting.UpdateAction); ok {
		holder = ptr.Deref(update.GetObject().(*coordinationv1.Lease).Spec.HolderIdentity, "")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.fail(action.GetVerb(), holder)
	return err != nil, nil, err
}

func newFakeCluster(t *testing.T, pods ...string) *fakeCluster {
	w := &fakeCluster{t: t, client: fake.NewClientset(), fail: func(string, string) error { return nil }}
	w.client.PrependReactor("*", "leases", w.react)
	for _, name := range pods {
		_, err := w.client.CoreV1().Pods(namespace).Create(t.Context(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
			Status:     corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	return w
}

// running is a replica that runs.
type running struct {
	*Replica
	won  chan struct{} // closed when it has won
	lost chan error    // what Run returned
	kill context.CancelFunc
}

func (c *fakeCluster) run(pod string) *running {
	c.t.Helper()
	return c.start(pod, func(*Replica) {})
}

// start runs a replica that configure has changed.
func (c *fakeCluster) start(pod string, configure func(*Replica)) *running {
	c.t.Helper()
	r, err := newReplica(Options{
		Client: c.client, Namespace: namespace, Lease: "metalstack-apiserver", Pod: pod,
		LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second,
	}, clock.RealClock{})
	require.NoError(c.t, err)
	configure(r)
	ctx, cancel := context.WithCancel(c.t.Context())
	run := &running{Replica: r, won: make(chan struct{}), lost: make(chan error, 1), kill: cancel}
	go func() {
		run.lost <- r.Run(ctx, func(ctx context.Context) {
			close(run.won)
			r.MaintainLabels(ctx)
		})
	}()
	synctest.Wait()
	return run
}

func (r *running) hasWon() bool {
	synctest.Wait()
	select {
	case <-r.won:
		return true
	default:
		return false
	}
}

func (c *fakeCluster) holder() string {
	lease, err := c.client.CoordinationV1().Leases(namespace).Get(c.t.Context(), "metalstack-apiserver", metav1.GetOptions{})
	require.NoError(c.t, err)
	return ptr.Deref(lease.Spec.HolderIdentity, "")
}

func (c *fakeCluster) labels() map[string]string {
	pods, err := c.client.CoreV1().Pods(namespace).List(c.t.Context(), metav1.ListOptions{})
	require.NoError(c.t, err)
	labels := map[string]string{}
	for _, pod := range pods.Items {
		labels[pod.Name] = pod.Labels[ActiveLabel]
	}
	return labels
}

// inCluster runs a test in a bubble with replicas a and b, of which a is active.
func inCluster(t *testing.T, test func(t *testing.T, w *fakeCluster, a, b *running)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newFakeCluster(t, "a", "b")
		a := w.run("a")
		require.True(t, a.hasWon())
		b := w.run("b")
		defer func() {
			a.kill()
			b.kill()
			time.Sleep(time.Minute) // what is in flight ends
		}()
		time.Sleep(5 * time.Second)
		require.False(t, b.hasWon())
		test(t, w, a, b)
	})
}

func TestReplica_OneIsActiveAndSelectedByTheService(t *testing.T) {
	inCluster(t, func(t *testing.T, w *fakeCluster, a, b *running) {
		assert.Equal(t, map[string]string{"a": ActiveValue, "b": StandbyValue}, w.labels())
		time.Sleep(10 * time.Minute)
		assert.False(t, b.hasWon())
		assert.NoError(t, a.Fence().Check())
		assert.ErrorContains(t, b.Fence().Check(), "this server is not active: the active server is \"a\"")
		assert.True(t, b.IsStandby())
		assert.False(t, a.IsStandby())
	})
}

func TestReplica_AcquiresReleasedLeaseAtOnce(t *testing.T) {
	inCluster(t, func(t *testing.T, w *fakeCluster, a, b *running) {
		began := time.Now()
		a.Resign(t.Context())
		assert.Error(t, a.Fence().Check())
		require.True(t, b.hasWon())
		assert.Less(t, time.Since(began), 100*time.Millisecond)
		assert.NoError(t, <-a.lost)
		assert.True(t, a.AwaitSuccessor(t.Context()))
		synctest.Wait()
		assert.Equal(t, map[string]string{"a": StandbyValue, "b": ActiveValue}, w.labels())
	})
}

func TestReplica_AcquiresLeaseOfDeadServerWhenItExpires(t *testing.T) {
	inCluster(t, func(t *testing.T, w *fakeCluster, a, b *running) {
		// It does not renew any more, and does not know.
		w.failing(func(verb, holder string) error {
			if verb == "update" && holder != "b" {
				return errors.New("dead")
			}
			return nil
		})
		time.Sleep(12 * time.Second)
		assert.False(t, b.hasWon())
		time.Sleep(3*time.Second + 2*lapseMargin)
		assert.True(t, b.hasWon())
		assert.Equal(t, "b", w.holder())
		assert.Equal(t, map[string]string{"a": StandbyValue, "b": ActiveValue}, w.labels())
	})
}

func TestReplica_LosesBeforeAnotherCanWin(t *testing.T) {
	inCluster(t, func(t *testing.T, w *fakeCluster, a, b *running) {
		w.failing(func(string, string) error { return errors.New("kube-apiserver unavailable") })
		time.Sleep(10 * time.Second)
		synctest.Wait()
		assert.ErrorIs(t, a.Fence().Check(), errNoLongerActive)
		assert.False(t, b.hasWon())
		select {
		case err := <-a.lost:
			assert.ErrorIs(t, err, ErrLost)
		default:
			t.Error("it goes on")
		}
	})
}

func TestReplica_DoesNotReleaseSuccessorsLeaseAfterSleep(t *testing.T) {
	inCluster(t, func(t *testing.T, w *fakeCluster, a, b *running) {
		leases := w.client.CoordinationV1().Leases(namespace)
		lease, err := leases.Get(t.Context(), "metalstack-apiserver", metav1.GetOptions{})
		require.NoError(t, err)
		lease.Spec.HolderIdentity = ptr.To("c")
		_, err = leases.Update(t.Context(), lease, metav1.UpdateOptions{})
		require.NoError(t, err)
		w.failing(func(verb, holder string) error {
			if verb == "update" && holder == "a" {
				return errors.New("conflict")
			}
			return nil
		})
		a.Resign(t.Context())
		assert.Equal(t, "c", w.holder())
	})
}

func TestReplica_WaitsForNoSuccessorWithoutStandby(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeCluster(t, "a", "other")
		a := w.run("a")
		require.True(t, a.hasWon())
		a.Resign(t.Context())
		began := time.Now()
		assert.False(t, a.AwaitSuccessor(t.Context()))
		assert.Zero(t, time.Since(began))
		assert.Equal(t, ActiveValue, w.labels()["a"], "rather there than nowhere")
		time.Sleep(time.Minute)
	})
}

func TestReplica_RestartedContainerContinuesItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeCluster(t, "a")
		first := w.run("a")
		require.True(t, first.hasWon())
		w.failing(func(verb, holder string) error {
			if verb == "update" && holder == "" {
				return errors.New("it was killed")
			}
			return nil
		})
		first.kill()
		synctest.Wait()
		require.Equal(t, "a", w.holder())
		second := w.run("a")
		assert.True(t, second.hasWon())
		second.kill()
		time.Sleep(time.Minute)
	})
}

// The write that acquires the Lease is in flight when the server leaves the election.
func TestReplica_ReleasesLeaseThatItAcquiredAfterResigning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeCluster(t, "a")
		w.failing(func(verb, _ string) error {
			if verb == "create" {
				return errors.New("try again")
			}
			return nil
		})
		a := w.run("a")
		require.False(t, a.hasWon())
		arrived := false
		w.failing(func(verb, _ string) error {
			if verb == "create" {
				arrived = true
				a.kill()
			}
			return nil
		})
		time.Sleep(10 * time.Second)
		require.True(t, arrived)
		require.NoError(t, <-a.lost)
		assert.False(t, a.hasWon())
		assert.Empty(t, w.holder())
	})
}

// slowLock needs a second for a create. One whose request is cancelled arrives even later.
type slowLock struct{ resourcelock.Interface }

func (l slowLock) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	select {
	case <-ctx.Done():
		go func() {
			time.Sleep(time.Second)
			_ = l.Interface.Create(context.WithoutCancel(ctx), record)
		}()
		return ctx.Err()
	case <-time.After(time.Second):
		return l.Interface.Create(ctx, record)
	}
}

func TestReplica_AwaitsWriteThatAcquiresTheLeaseWhenItResigns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeCluster(t, "a")
		a := w.start("a", func(r *Replica) { r.lock.Interface = slowLock{r.lock.Interface} })
		time.Sleep(500 * time.Millisecond)
		a.Resign(t.Context())
		require.NoError(t, <-a.lost)
		assert.False(t, a.hasWon())
		time.Sleep(5 * time.Second)
		assert.Empty(t, w.holder())
	})
}
