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

// updateUntilCertain repeats a compare-and-swap of which it is not known whether it was
// done, until it is. The swap must take a record that it changed before as it
// is; so a swap that begins an attempt is not repeated: it could take another
// server's attempt for its own. While the process shuts down it tries once.
func (p *Protocol) updateUntilCertain(ctx context.Context, swap func(ctx context.Context) error) error {
	for {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
		err := swap(limited)
		cancel()
		if err == nil || isDefinite(err) {
			return err
		}
		klog.FromContext(ctx).Info("Cannot record: trying again", "reason", err.Error())
		if p.pause(ctx, p.timing.PollInterval) != nil {
			return err
		}
	}
}

// updateOnce makes one compare-and-swap. If it is not known whether it was done, the
// record is taken up later as after a crash.
func (p *Protocol) updateOnce(ctx context.Context, swap func(ctx context.Context) error) error {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	if err := swap(limited); err != nil && !isDefinite(err) {
		return &refusal{code: http.StatusServiceUnavailable, message: "cannot record what is about to be done: " + shortened(err.Error()), retryAfter: unavailableRetryAfter}
	} else if err != nil {
		return err
	}
	return nil
}

// isDefinite is true for errors that say that nothing was recorded, nor will be.
func isDefinite(err error) bool {
	var r *refusal
	return errors.As(err, &r) || errors.Is(err, errDryRun) || apierrors.IsNotFound(err) || apierrors.IsForbidden(err) ||
		apierrors.IsInvalid(err) || apierrors.IsBadRequest(err)
}

// checkUID refuses to go on with an object that was deleted and made anew.
func checkUID(m *metav1.ObjectMeta, uid types.UID) error {
	if uid != "" && m.UID != uid {
		return refuse(http.StatusConflict, "the object that was asked for had the uid %s, and was deleted; this one is another", uid)
	}
	return nil
}

// checkAllocatable refuses states from which there is no way to an allocation.
func checkAllocatable(m *metav1.ObjectMeta, phase infrastructure.AllocationPhase) error {
	switch {
	case phase == infrastructure.AllocationReleasing, phase == infrastructure.AllocationReleased:
		return refuse(http.StatusConflict, "its metal was released; an object is allocated once: delete it and create another")
	case m.DeletionTimestamp != nil:
		return refuse(http.StatusConflict, "it is being deleted")
	}
	return nil
}

// checkBackoff refuses an attempt during the pause after a refusal.
func (p *Protocol) checkBackoff(a *infrastructure.AllocationState, conditions []metav1.Condition) error {
	if a.NotBefore == nil {
		return nil
	}
	wait := a.NotBefore.Sub(p.clock.Now())
	if wait <= 0 {
		return nil
	}
	r := refuse(http.StatusConflict, "it pauses after a refusal")
	if c := meta.FindStatusCondition(conditions, infrastructure.ConditionAllocated); c != nil && c.Status != metav1.ConditionTrue {
		r.message += ": " + c.Message
		r.reason = c.Reason
	}
	r.retryAfter = wait
	return r
}

// inFlightUntil is when no call to allocate can be at work any more that the record
// tells of, and that this process did not make; zero if the record says that
// none is open. A release that was begun does not say what it came upon.
func (p *Protocol) inFlightUntil(a *infrastructure.AllocationState) time.Time {
	if a.Phase != infrastructure.AllocationAllocating && a.Phase != infrastructure.AllocationReleasing {
		return time.Time{}
	}
	return p.startTimePlus(a, p.timing.allocateInFlight())
}

// freeInFlightUntil is openUntil for a call that frees.
func (p *Protocol) freeInFlightUntil(a *infrastructure.AllocationState) time.Time {
	if a.Phase != infrastructure.AllocationReleasing {
		return time.Time{}
	}
	return p.startTimePlus(a, p.timing.freeInFlight())
}

func (p *Protocol) startTimePlus(a *infrastructure.AllocationState, open time.Duration) time.Time {
	if a.StartTime == nil {
		return time.Time{}
	}
	began := p.clock.Now()
	if a.StartTime.Time.Before(began) {
		began = a.StartTime.Time
	}
	return began.Add(open)
}

// recordTime is the time as records keep it.
func (p *Protocol) recordTime() *metav1.Time {
	t := metav1.NewTime(p.clock.Now().UTC().Truncate(time.Second))
	return &t
}

// begin records that a call of an attempt is about to be made. Somebody else
// who began another attempt since the last one that we saw has won.
func (p *Protocol) begin(a *infrastructure.AllocationState, last int32) error {
	if a.Attempt != last || (a.Phase != "" && a.Phase != infrastructure.AllocationAllocating) {
		return refuse(http.StatusConflict, "another allocation is under way")
	}
	a.Phase, a.Attempt, a.StartTime, a.NotBefore = infrastructure.AllocationAllocating, last+1, p.recordTime(), nil
	return nil
}

// clearInFlight records that the outcome of an attempt's call is known, so that
// whoever comes after a crash need not wait for it.
func clearInFlight(a *infrastructure.AllocationState) {
	if a.Phase == infrastructure.AllocationAllocating {
		a.StartTime = nil
	}
}

// beginFree records that a call that frees is about to be made. It is the
// fence for whoever comes later: what is still there is freed by somebody else
// only after start and the time that a call may take; at once if start is nil.
// It is refused if the record is not as we saw it last: an attempt that was
// begun meanwhile may allocate what this release would not look for.
func (p *Protocol) beginFree(a *infrastructure.AllocationState, saw observedState, start *metav1.Time) error {
	if a.Phase == infrastructure.AllocationReleased || !saw.matches(a) {
		return refuse(http.StatusConflict, "another operation is under way, or was faster")
	}
	a.Phase, a.StartTime, a.NotBefore = infrastructure.AllocationReleasing, start, nil
	return nil
}

// observedState is what tells the operation on a record that we saw, or began, from
// any other.
type observedState struct {
	phase   infrastructure.AllocationPhase
	attempt int32
	// start is nil if no call is open.
	start *metav1.Time
}

func observedStateOf(a *infrastructure.AllocationState) observedState {
	return observedState{phase: a.Phase, attempt: a.Attempt, start: a.StartTime}
}

// matches tells whether a record is as it was seen.
func (s observedState) matches(a *infrastructure.AllocationState) bool {
	return a.Phase == s.phase && a.Attempt == s.attempt &&
		(a.Phase != infrastructure.AllocationReleasing || a.StartTime.Equal(s.start))
}

// backOffRelease records that no call of a release is open, and when the next may be.
func (p *Protocol) backOffRelease(a *infrastructure.AllocationState, r *refusal) {
	if r.retryAfter == 0 {
		r.retryAfter = p.timing.Backoff
	}
	notBefore := metav1.NewTime(p.recordTime().Add(r.retryAfter))
	a.StartTime, a.NotBefore = nil, &notBefore
}

// backOffAllocation makes a claim of the record again. It keeps the number of attempts,
// with which the pause before the next one grows.
func (p *Protocol) backOffAllocation(a *infrastructure.AllocationState, r *refusal) {
	if r.retryAfter == 0 {
		r.retryAfter = exponential(p.timing.Backoff, int(a.Attempt), p.timing.MaxBackoff)
	}
	notBefore := metav1.NewTime(p.recordTime().Add(r.retryAfter))
	a.Phase, a.StartTime, a.NotBefore = "", nil, &notBefore
}

// setAllocatedCondition sets the condition Allocated.
func (p *Protocol) setAllocatedCondition(conditions *[]metav1.Condition, generation int64, status metav1.ConditionStatus, reason, message string) {
	meta.SetStatusCondition(conditions, metav1.Condition{
		Type: infrastructure.ConditionAllocated, Status: status, Reason: reason, Message: oneline.Sanitize(message, oneline.MaxMessage),
		ObservedGeneration: generation, LastTransitionTime: *p.recordTime(),
	})
}

// allocationReason is the reason of Allocated for a refused allocation.
func allocationReason(r *refusal) string {
	return r.reasonOrDefault(infrastructure.ReasonAllocationRefused)
}

// releaseReason is the reason of Allocated for a release that is held back.
func releaseReason(r *refusal) string { return r.reasonOrDefault(infrastructure.ReasonReleaseRefused) }

func (r *refusal) reasonOrDefault(refused string) string {
	switch {
	case r.reason != "":
		return r.reason
	case r.code == http.StatusServiceUnavailable && !r.busy:
		return infrastructure.ReasonMetalAPIUnavailable
	}
	return refused
}
