// SPDX-License-Identifier: Apache-2.0

package replica

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
)

// leaseLock is the elector's interface to the Lease. It notifies the fence of every
// renewal, and ends a round of the elector when the next one can acquire the Lease at
// once: by itself, the elector would retry only after the retry period, or twice that.
type leaseLock struct {
	resourcelock.Interface
	fence *Fence
	clock clock.WithDelayedExecution
	// timeout is how long a request may take.
	timeout time.Duration

	mu     sync.Mutex
	wrote  bool // tried to acquire
	won    bool
	end    context.CancelFunc // ends the round
	round  context.Context
	raw    []byte // the record as it was read last
	holder string
	lapse  clock.Timer
}

// lapseMargin is how much later than by the elector's own clock the Lease is taken for
// expired.
const lapseMargin = 20 * time.Millisecond

var (
	errRoundEnded = errors.New("lease was acquired in a round that had ended: it is acquired again in the next one")
	errTooLate    = errors.New("lease was renewed after the renew deadline")
	errNotHolder  = errors.New("lease may have another holder: it is not released")
)

// beginRound begins a round.
func (l *leaseLock) beginRound(parent context.Context) context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.round, l.end = context.WithCancel(parent)
	return l.round
}

// wakeElector ends the round, so that the next one begins at once, unless the Lease has
// been acquired.
func (l *leaseLock) wakeElector() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.won && l.end != nil {
		l.end()
	}
}

func (l *leaseLock) hasWon() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.won
}

// heldBy is the holder of the Lease when it was read last.
func (l *leaseLock) heldBy() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.holder
}

// Get implements resourcelock.Interface.
func (l *leaseLock) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	record, raw, err := l.Interface.Get(ctx)
	if err != nil {
		return nil, nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if bytes.Equal(raw, l.raw) {
		return record, raw, nil
	}
	l.raw, l.holder = raw, record.HolderIdentity
	if l.lapse != nil {
		l.lapse.Stop()
	}
	if l.holder != "" && l.holder != l.Identity() {
		// From now on the elector counts the duration of the Lease.
		l.lapse = l.clock.AfterFunc(time.Duration(record.LeaseDurationSeconds)*time.Second+lapseMargin, l.wakeElector)
	}
	return record, raw, nil
}

// Create implements resourcelock.Interface.
func (l *leaseLock) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return l.acquire(ctx, record, l.Interface.Create)
}

// Update implements resourcelock.Interface. The elector releases the
// Lease without checking its holder; here it is not taken from a successor.
func (l *leaseLock) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	if record.HolderIdentity == l.Identity() {
		return l.acquire(ctx, record, l.Interface.Update)
	}
	l.fence.Shut()
	if !l.fence.isExclusive() || l.heldBy() != l.Identity() {
		return errNotHolder
	}
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	return l.Interface.Update(ctx, record)
}

// acquire makes a write that acquires or renews the Lease.
func (l *leaseLock) acquire(ctx context.Context, record resourcelock.LeaderElectionRecord, write func(context.Context, resourcelock.LeaderElectionRecord) error) error {
	l.mu.Lock()
	l.wrote = true
	if !l.won {
		// A write that is cancelled may still arrive, and even after releaseUnwon has read the Lease.
		ctx = context.WithoutCancel(ctx)
	}
	l.mu.Unlock()
	began := l.clock.Now()
	limited, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	if err := write(limited, record); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.won && l.round.Err() != nil {
		return errRoundEnded
	}
	if !l.fence.renew(began) {
		return errTooLate
	}
	l.won, l.holder = true, l.Identity()
	return nil
}

// releaseUnwon is called after the last round. A write that arrived after its round had
// ended, or whose answer was lost, may have acquired the Lease: it is released, so that no
// other server waits until it expires.
func (l *leaseLock) releaseUnwon(ctx context.Context) {
	l.mu.Lock()
	done := l.won || !l.wrote
	l.mu.Unlock()
	if done {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.timeout)
	defer cancel()
	record, _, err := l.Interface.Get(ctx)
	if err == nil && record.HolderIdentity == l.Identity() {
		now := metav1.NewTime(l.clock.Now())
		err = l.Interface.Update(ctx, resourcelock.LeaderElectionRecord{
			LeaderTransitions: record.LeaderTransitions, LeaseDurationSeconds: 1, AcquireTime: now, RenewTime: now,
		})
	}
	if err != nil && !apierrors.IsNotFound(err) {
		klog.FromContext(ctx).Info("Failed to release the Lease: it expires", "lease", l.Describe(), "err", err)
	}
}
