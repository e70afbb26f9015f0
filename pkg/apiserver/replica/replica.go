// SPDX-License-Identifier: Apache-2.0

// Package replica elects the active one of several servers: the one that holds a
// Lease. It notifies this server when it has become active, fences its writes off when
// the Lease is no longer certain (Fence), and labels Pods so that the Service selects
// the active server.
//
// It must never take the Lease from a server that may still rely on it, nor release it
// when another server may hold it.
package replica

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
)

// Options identify the replicas, and configure their election.
type Options struct {
	Client kubernetes.Interface
	// Namespace and Lease name the Lease.
	Namespace, Lease string
	// Pod is the server's own, in Namespace; empty if it runs in none.
	Pod string
	// LeaseDuration is how long the Lease is respected without a renewal, a whole
	// number of seconds; RenewDeadline, after how long without one the holder
	// stops; RetryPeriod, how often it is renewed.
	LeaseDuration, RenewDeadline, RetryPeriod time.Duration
	// Events records Events.
	Events events.EventRecorder
}

// ErrLost is the error with which a server exits that has lost the Lease.
var ErrLost = errors.New("lost the lease: it was not renewed in time, or another server acquired it; this server exits and must be restarted")

// ReasonBecameActive is the reason of an Event about the Lease.
const ReasonBecameActive = "BecameActive"

// Replica is this server's part in the election. It can run once.
type Replica struct {
	Options
	clock     clock.WithTickerAndDelayedExecution
	lock      *leaseLock
	fence     *Fence
	elector   *leaderelection.LeaderElector
	onElected func(context.Context)
	logger    klog.Logger
	began     time.Time // when the Lease was acquired
	expired   chan struct{}
	// stopStandbyLabel ends the attempts to label the Pod as standby, and
	// standbyLabelled is closed after the last of them.
	stopStandbyLabel context.CancelFunc
	standbyLabelled  chan struct{}

	mu       sync.Mutex
	cancel   context.CancelFunc
	ended    chan struct{}
	resigned bool
	holder   string // as the watch says
}

// New returns a replica that does nothing until it runs.
func New(o Options) (*Replica, error) {
	return newReplica(o, clock.RealClock{})
}

func newReplica(o Options, clock clock.WithTickerAndDelayedExecution) (*Replica, error) {
	identity, err := identityOf(o.Pod)
	if err != nil {
		return nil, err
	}
	registerMetrics()
	r := &Replica{Options: o, clock: clock, expired: make(chan struct{}), standbyLabelled: make(chan struct{})}
	r.fence = &Fence{clock: clock, renewDeadline: o.RenewDeadline, leaseDuration: o.LeaseDuration, active: r.otherHolder}
	r.lock = &leaseLock{
		Interface: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: o.Namespace, Name: o.Lease},
			Client:     o.Client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: identity},
		},
		fence: r.fence, clock: clock, timeout: max(o.RenewDeadline/2, time.Second),
	}
	r.elector, err = leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: r.lock, Name: o.Lease, ReleaseOnCancel: true,
		LeaseDuration: o.LeaseDuration, RenewDeadline: o.RenewDeadline, RetryPeriod: o.RetryPeriod,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: r.started,
			OnStoppedLeading: func() {},
		},
	})
	return r, err
}

// identityOf returns the holder identity. A Pod's name is enough: one process of it runs
// at a time, so one that was restarted continues with the Lease at once.
func identityOf(pod string) (string, error) {
	if pod != "" {
		return pod, nil
	}
	host, err := os.Hostname()
	if err != nil {
		return "", err
	}
	return host + "_" + uuid.NewString(), nil
}

// Fence returns the fence, which is open while this server is active.
func (r *Replica) Fence() *Fence { return r.fence }

// Run acquires the Lease, and renews it from then on. Once it is acquired, Run calls
// won, which may take long; its context ends when the Lease is released or lost. Run
// returns nil after ctx ended or Resign was called, and otherwise ErrLost, without
// waiting for won.
func (r *Replica) Run(ctx context.Context, won func(context.Context)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.mu.Lock()
	if r.resigned {
		r.mu.Unlock()
		return nil
	}
	r.onElected, r.cancel, r.ended = won, cancel, make(chan struct{})
	ended := r.ended
	r.mu.Unlock()
	if err := r.watch(ctx); err != nil {
		close(ended)
		return err
	}
	r.logger = klog.FromContext(ctx)
	standing, leave := context.WithCancel(ctx)
	r.stopStandbyLabel = leave
	go func() {
		defer close(r.standbyLabelled)
		r.labelStandby(standing)
	}()
	go func() {
		defer close(ended)
		// The elector logs every attempt.
		quiet := klog.NewContext(ctx, r.logger.V(4))
		for ctx.Err() == nil && !r.lock.hasWon() {
			r.elector.Run(r.lock.beginRound(quiet))
		}
		r.lock.releaseUnwon(ctx)
	}()
	select {
	case <-ended:
	case <-r.expired:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if ctx.Err() != nil || r.resigned {
		return nil
	}
	return ErrLost
}

// started is called by the elector.
func (r *Replica) started(ctx context.Context) {
	r.stopStandbyLabel()
	r.began = r.clock.Now()
	failovers.Inc()
	r.logger.Info("Became the active server", "lease", r.lock.Describe(), "identity", r.lock.Identity())
	if r.Events != nil {
		about := &corev1.ObjectReference{APIVersion: coordinationv1.SchemeGroupVersion.String(), Kind: "Lease", Namespace: r.Namespace, Name: r.Lease}
		r.Events.Eventf(about, nil, corev1.EventTypeNormal, ReasonBecameActive, "Failover", "%s became the active server", r.lock.Identity())
	}
	go r.watchExpiry()
	r.onElected(klog.NewContext(ctx, r.logger))
}

// watchExpiry closes expired when the Lease has expired, whatever the elector does.
func (r *Replica) watchExpiry() {
	for {
		left := r.fence.remaining()
		if left <= 0 {
			leaseHeld.Set(0)
			close(r.expired)
			return
		}
		<-r.clock.After(left)
	}
}

// RecordFailover records the duration of the failover: requests are served now.
func (r *Replica) RecordFailover() { failoverSeconds.Observe(r.clock.Since(r.began).Seconds()) }

// RecordHandover records the duration of a handover: requests, paused since then, are
// no longer paused.
func (r *Replica) RecordHandover(since time.Time) {
	handoverSeconds.Observe(r.clock.Since(since).Seconds())
}

// Resign shuts the fence, and releases the Lease if this server holds it. It returns
// when that is done, or ctx ends.
func (r *Replica) Resign(ctx context.Context) {
	r.mu.Lock()
	r.resigned = true
	cancel, ended := r.cancel, r.ended
	r.mu.Unlock()
	r.fence.Shut()
	if cancel == nil {
		return
	}
	cancel()
	select {
	case <-ended:
	case <-ctx.Done():
	}
}

// watch updates holder, and wakes the elector when the Lease changes.
func (r *Replica) watch(ctx context.Context) error {
	factory := informers.NewSharedInformerFactoryWithOptions(r.Client, 0, informers.WithNamespace(r.Namespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, r.Lease).String()
		}))
	informer := factory.Coordination().V1().Leases().Informer()
	changed := func(obj any) {
		if lease, ok := obj.(*coordinationv1.Lease); ok {
			r.holderChanged(ptr.Deref(lease.Spec.HolderIdentity, ""))
		}
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: changed, UpdateFunc: func(_, obj any) { changed(obj) }, DeleteFunc: func(any) { r.holderChanged("") },
	})
	if err != nil {
		return fmt.Errorf("failed to watch Lease %s: %w", r.lock.Describe(), err)
	}
	factory.Start(ctx.Done())
	return nil
}

func (r *Replica) holderChanged(by string) {
	r.mu.Lock()
	r.holder = by
	r.mu.Unlock()
	if by != r.lock.Identity() {
		r.lock.wakeElector()
	}
}

// otherHolder returns the holder of the Lease, or "" if it is this server.
func (r *Replica) otherHolder() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.holder == r.lock.Identity() {
		return ""
	}
	return r.holder
}

// IsStandby returns whether another server is the active one.
func (r *Replica) IsStandby() bool { return r.otherHolder() != "" }
