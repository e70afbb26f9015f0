// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"errors"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

// recordTimeout is how long one write to the ledger may take.
const recordTimeout = 30 * time.Second

// operation is one allocation or release, of an object of whatever kind. Its
// methods are the compare-and-swaps of the object's record, between which the
// metal-api is called.
type operation[R record] struct {
	p       *Protocol
	records recordStore[R]
	traits  *operationTraits
	ref     objectRef
	// uid is that of the object, identity what its metal carries.
	uid      types.UID
	identity identity
	// clusterName is the cluster that a machine is allocated for.
	clusterName string
	// attempt is the last one that is recorded.
	attempt int32
	// inFlightUntil is until when the call of an attempt that an earlier operation recorded
	// may be in flight. Zero if there is none, if its outcome is known, or if this operation
	// has recorded another attempt.
	inFlightUntil time.Time
	// observed is the record as a release read or wrote it last.
	observed observedState
	// freeInFlightUntil is until when a call that frees, which an earlier operation
	// recorded, may be in flight, whichever of several things it is about. Until then its
	// start stays in the record. Zero if it is about the thing that is freed first, of
	// which nothing is refused or recorded before.
	freeInFlightUntil time.Time
	// dryRun: nothing is written.
	dryRun bool
	// sameSpec reports whether the spec is what the operation read. It is nil where the
	// outcome is the same whatever it is.
	sameSpec func(R) bool
}

// operationTraits is what differs between the operations on machines and clusters.
type operationTraits struct {
	// step begins the names of the crash points.
	step string
	// allocating and releasing are the messages of the condition Allocated.
	allocating, releasing string
	// recordsEarlyRefusals: refusals before the first attempt are recorded, too.
	recordsEarlyRefusals bool
}

var (
	machineLikeOperations = &operationTraits{
		step:       "machine",
		allocating: "Allocating a machine from the metal-api.",
		releasing:  "Releasing the machine to the metal-api.",
	}
	clusterOperations = &operationTraits{
		step:                 "cluster",
		allocating:           "Allocating the private network and the control plane address from the metal-api.",
		releasing:            "Releasing the network and the address to the metal-api.",
		recordsEarlyRefusals: true,
	}
	// hostedClusterOperations are those on a cluster whose control plane's provider
	// brings the endpoint.
	hostedClusterOperations = &operationTraits{
		step:                 "cluster",
		allocating:           "Allocating the private network from the metal-api.",
		releasing:            "Releasing the network to the metal-api.",
		recordsEarlyRefusals: true,
	}
)

// update changes the record by compare-and-swap. It is repeated while it is
// uncertain whether it was done, so change must take a record that it changed
// before as it is; what begins an attempt is not repeated: it could take another
// server's attempt for its own. While the process shuts down it is tried once.
func (o *operation[R]) update(ctx context.Context, change func(R) error) (R, error) {
	for {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
		r, err := o.tryUpdate(limited, change)
		cancel()
		if err == nil || isDefinite(err) || o.p.notWritable() != nil {
			return r, err
		}
		klog.FromContext(ctx).Info("Failed to update the record: retrying", "err", err)
		if o.p.pause(ctx, o.p.timing.PollInterval) != nil {
			return r, err
		}
	}
}

// updateOnce makes one compare-and-swap. If it is uncertain whether it was done,
// the record is recovered later as after a crash.
func (o *operation[R]) updateOnce(ctx context.Context, change func(R) error) error {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	_, err := o.tryUpdate(limited, change)
	if err != nil && !isDefinite(err) {
		return &refusal{code: http.StatusServiceUnavailable, message: "failed to update the record: " + shortened(err.Error()), retryAfter: unavailableRetryAfter}
	}
	return err
}

func (o *operation[R]) tryUpdate(ctx context.Context, change func(R) error) (R, error) {
	return o.records.update(ctx, o.ref.namespace, o.ref.name, func(r R) error {
		if err := checkUID(r.objectMeta(), o.uid); err != nil {
			return err
		}
		r.initAllocation()
		if err := change(r); err != nil || !o.dryRun {
			return err
		}
		return errDryRun
	})
}

// beginAttempt records that a call that allocates is about to be made. It is
// refused if another attempt was begun since the record was read.
func (o *operation[R]) beginAttempt(ctx context.Context) error {
	err := o.updateOnce(ctx, func(r R) error {
		a := r.state()
		if err := checkAllocatable(r.objectMeta(), a.Phase); err != nil {
			return err
		}
		if a.Attempt != o.attempt || (a.Phase != "" && a.Phase != infrastructure.AllocationAllocating) {
			return refuse(http.StatusConflict, "another allocation is in progress: retry")
		}
		if o.sameSpec != nil && !o.sameSpec(r) {
			return refuse(http.StatusConflict, "the spec was changed since it was read: retry")
		}
		a.Phase, a.Attempt, a.StartTime, a.NotBefore = infrastructure.AllocationAllocating, o.attempt+1, o.p.recordTime(), nil
		a.UID, a.ClusterName = o.identity.uid, o.clusterName
		o.setAllocatedCondition(r, infrastructure.ReasonAllocating, o.traits.allocating)
		return nil
	})
	if err != nil {
		return &notBegun{err}
	}
	o.attempt++
	o.inFlightUntil = time.Time{}
	return nil
}

// dryRunAttempt makes the checks of beginAttempt.
func (o *operation[R]) dryRunAttempt(ctx context.Context) error {
	err := o.beginAttempt(ctx)
	var early *notBegun
	if errors.As(err, &early) {
		err = early.error
	}
	return ignoreDryRun(err)
}

// notBegun is why an attempt was not recorded; the record is left as it is.
type notBegun struct{ error }

func (e *notBegun) Unwrap() error { return e.error }

// recordRefusal records how an attempt ended without metal: the record is a
// claim again. What was recorded on the way stays, and so does the number of
// attempts, with which the pause before the next one grows. While the call of an
// earlier attempt may be in flight, nothing is recorded: a check that failed says
// nothing of that attempt.
func (o *operation[R]) recordRefusal(ctx context.Context, err error) error {
	var early *notBegun
	if errors.As(err, &early) {
		return early.error
	}
	var r *refusal
	if !errors.As(err, &r) || o.p.clock.Now().Before(o.inFlightUntil) {
		return err
	}
	_, err = o.update(ctx, func(rec R) error {
		a := rec.state()
		switch {
		case a.Phase == infrastructure.AllocationAllocating && a.Attempt == o.attempt:
			if r.retryAfter == 0 {
				r.retryAfter = exponential(o.p.timing.Backoff, int(a.Attempt), o.p.timing.MaxBackoff)
			}
			a.Phase, a.StartTime, a.NotBefore = "", nil, o.p.recordTimeAfter(r.retryAfter)
			a.UID = o.identity.uid
		case a.Phase != "" || !o.traits.recordsEarlyRefusals:
			return nil
		}
		o.setAllocatedCondition(rec, allocationReason(r), r.message)
		return nil
	})
	o.p.crashPoint(o.traits.step + "/refused")
	if ignoreDryRun(err) != nil && !apierrors.IsNotFound(err) {
		klog.FromContext(ctx).Error(err, "Failed to record refusal: retrying on recovery")
	}
	return r
}

// recordUncertain records why an allocation takes so long.
func (o *operation[R]) recordUncertain(ctx context.Context, message string) {
	if _, err := o.update(ctx, func(r R) error {
		if a := r.state(); a.Phase == infrastructure.AllocationAllocating && a.Attempt == o.attempt {
			o.setAllocatedCondition(r, infrastructure.ReasonAllocationUncertain,
				"Allocation outcome unknown: reconciling before the next attempt: "+message)
		}
		return nil
	}); err != nil {
		klog.FromContext(ctx).Info("Failed to record that an outcome is unknown", "err", err)
	}
}

// beginRelease records that a call that frees is about to be made. It is the
// fence for later operations: they free what is still there only after start and
// the time that a call may take; at once if start is nil. It is refused if the
// record is not as it was observed: an attempt that was begun meanwhile may
// allocate what this release would not look for.
func (o *operation[R]) beginRelease(ctx context.Context, start *metav1.Time) error {
	err := o.updateOnce(ctx, func(r R) error {
		a := r.state()
		if a.Phase == infrastructure.AllocationReleased || !o.observed.matches(a) {
			return refuse(http.StatusConflict, "the record was changed by another operation: retry")
		}
		a.Phase, a.StartTime, a.NotBefore = infrastructure.AllocationReleasing, start, nil
		if a.UID == "" {
			a.UID = o.identity.uid
		}
		o.setAllocatedCondition(r, infrastructure.ReasonReleasing, o.traits.releasing)
		return nil
	})
	if err == nil {
		o.observed.phase, o.observed.start = infrastructure.AllocationReleasing, start
	}
	return err
}

// mayBeInFlight reports whether a call that frees, of before the operation, may be in
// flight.
func (o *operation[R]) mayBeInFlight() bool { return o.p.clock.Now().Before(o.freeInFlightUntil) }

// recordReleaseRefusal records why a release was refused, that no call of it
// is in flight, and when the next may be. A release that another operation has
// begun since is left as it is: its call may be in flight.
func (o *operation[R]) recordReleaseRefusal(ctx context.Context, err error) error {
	var r *refusal
	if !errors.As(err, &r) {
		return err
	}
	if _, err := o.update(ctx, func(rec R) error {
		a := rec.state()
		if a.Phase != infrastructure.AllocationReleasing || !o.observed.matches(a) {
			return nil
		}
		if r.retryAfter == 0 {
			r.retryAfter = o.p.timing.Backoff
		}
		if !o.mayBeInFlight() {
			a.StartTime = nil
		}
		a.NotBefore = o.p.recordTimeAfter(r.retryAfter)
		o.setAllocatedCondition(rec, releaseReason(r), r.message)
		return nil
	}); err != nil {
		klog.FromContext(ctx).Info("Failed to record why a release was refused", "err", err)
	}
	o.p.crashPoint(o.traits.step + "/release-refused")
	return r
}

// recordReleaseUncertain records why a release takes so long.
func (o *operation[R]) recordReleaseUncertain(ctx context.Context, message string) {
	if _, err := o.update(ctx, func(r R) error {
		if a := r.state(); a.Phase == infrastructure.AllocationReleasing && o.observed.matches(a) {
			o.setAllocatedCondition(r, infrastructure.ReasonReleaseUncertain,
				"Release outcome unknown: reconciling before the next attempt: "+message)
		}
		return nil
	}); err != nil {
		klog.FromContext(ctx).Info("Failed to record that an outcome is unknown", "err", err)
	}
}

// recordReleased records that the object holds nothing any more.
func (o *operation[R]) recordReleased(ctx context.Context, reason, message string) (R, error) {
	r, err := o.update(ctx, func(r R) error {
		a := r.state()
		if a.Phase == infrastructure.AllocationReleased {
			return nil
		}
		a.Phase, a.StartTime, a.NotBefore = infrastructure.AllocationReleased, o.p.recordTime(), nil
		o.setAllocatedCondition(r, reason, message)
		return nil
	})
	o.p.crashPoint(o.traits.step + "/released")
	return r, err
}

// setAllocatedCondition makes the condition Allocated False.
func (o *operation[R]) setAllocatedCondition(r R, reason, message string) {
	meta.SetStatusCondition(r.conditions(), metav1.Condition{
		Type: infrastructure.ConditionAllocated, Status: metav1.ConditionFalse, Reason: reason, Message: oneline.Sanitize(message, oneline.MaxMessage),
		ObservedGeneration: r.objectMeta().Generation, LastTransitionTime: *o.p.recordTime(),
	})
}
