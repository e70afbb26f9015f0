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

// recordLimit is how long one write to the ledger may take.
const recordLimit = 30 * time.Second

// persist repeats a compare-and-swap of which it is not known whether it was
// done, until it is. The swap must take a record that it changed before as it
// is; so a swap that begins an attempt is not repeated: it could take another
// server's attempt for its own. While the process shuts down it tries once.
func (p *Protocol) persist(ctx context.Context, swap func(ctx context.Context) error) error {
	for {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordLimit)
		err := swap(limited)
		cancel()
		if err == nil || definite(err) {
			return err
		}
		klog.FromContext(ctx).Info("Cannot record: trying again", "reason", err.Error())
		if p.pause(ctx, p.timing.Look) != nil {
			return err
		}
	}
}

// once makes one compare-and-swap. If it is not known whether it was done, the
// record is taken up later as after a crash.
func (p *Protocol) once(ctx context.Context, swap func(ctx context.Context) error) error {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordLimit)
	defer cancel()
	if err := swap(limited); err != nil && !definite(err) {
		return &refusal{code: http.StatusServiceUnavailable, words: "cannot record what is about to be done: " + capped(err.Error()), after: unreachable}
	} else if err != nil {
		return err
	}
	return nil
}

// definite is true for errors that say that nothing was recorded, nor will be.
func definite(err error) bool {
	var r *refusal
	return errors.As(err, &r) || errors.Is(err, errDryRun) || apierrors.IsNotFound(err) || apierrors.IsForbidden(err) ||
		apierrors.IsInvalid(err) || apierrors.IsBadRequest(err)
}

// sameObject refuses to go on with an object that was deleted and made anew.
func sameObject(m *metav1.ObjectMeta, uid types.UID) error {
	if uid != "" && m.UID != uid {
		return refuse(http.StatusConflict, "the object that was asked for had the uid %s, and was deleted; this one is another", uid)
	}
	return nil
}

// allocatable refuses states from which there is no way to an allocation.
func allocatable(m *metav1.ObjectMeta, phase infrastructure.AllocationPhase) error {
	switch {
	case phase == infrastructure.AllocationReleasing, phase == infrastructure.AllocationReleased:
		return refuse(http.StatusConflict, "its metal was released; an object is allocated once: delete it and create another")
	case m.DeletionTimestamp != nil:
		return refuse(http.StatusConflict, "it is being deleted")
	}
	return nil
}

// notBefore refuses an attempt during the pause after a refusal.
func (p *Protocol) notBefore(a *infrastructure.AllocationState, conditions []metav1.Condition) error {
	if a.NotBefore == nil {
		return nil
	}
	wait := a.NotBefore.Sub(p.clock.Now())
	if wait <= 0 {
		return nil
	}
	r := refuse(http.StatusConflict, "it pauses after a refusal")
	if c := meta.FindStatusCondition(conditions, infrastructure.ConditionAllocated); c != nil && c.Status != metav1.ConditionTrue {
		r.words += ": " + c.Message
		r.reason = c.Reason
	}
	r.after = wait
	return r
}

// openUntil is when no call to allocate can be at work any more that the record
// tells of, and that this process did not make; zero if the record says that
// none is open. A release that was begun does not say what it came upon.
func (p *Protocol) openUntil(a *infrastructure.AllocationState) time.Time {
	if a.Phase != infrastructure.AllocationAllocating && a.Phase != infrastructure.AllocationReleasing {
		return time.Time{}
	}
	return p.sinceStart(a, p.timing.open())
}

// freeOpenUntil is openUntil for a call that frees.
func (p *Protocol) freeOpenUntil(a *infrastructure.AllocationState) time.Time {
	if a.Phase != infrastructure.AllocationReleasing {
		return time.Time{}
	}
	return p.sinceStart(a, p.timing.openFree())
}

func (p *Protocol) sinceStart(a *infrastructure.AllocationState, open time.Duration) time.Time {
	if a.StartTime == nil {
		return time.Time{}
	}
	began := p.clock.Now()
	if a.StartTime.Time.Before(began) {
		began = a.StartTime.Time
	}
	return began.Add(open)
}

// now is the time as records keep it.
func (p *Protocol) now() *metav1.Time {
	t := metav1.NewTime(p.clock.Now().UTC().Truncate(time.Second))
	return &t
}

// begin records that a call of an attempt is about to be made. Somebody else
// who began another attempt since the last one that we saw has won.
func (p *Protocol) begin(a *infrastructure.AllocationState, last int32) error {
	if a.Attempt != last || (a.Phase != "" && a.Phase != infrastructure.AllocationAllocating) {
		return refuse(http.StatusConflict, "another allocation is under way")
	}
	a.Phase, a.Attempt, a.StartTime, a.NotBefore = infrastructure.AllocationAllocating, last+1, p.now(), nil
	return nil
}

// noneOpen records that the outcome of an attempt's call is known, so that
// whoever comes after a crash need not wait for it.
func noneOpen(a *infrastructure.AllocationState) {
	if a.Phase == infrastructure.AllocationAllocating {
		a.StartTime = nil
	}
}

// beginFree records that a call that frees is about to be made. It is the
// fence for whoever comes later: what is still there is freed by somebody else
// only after start and the time that a call may take; at once if start is nil.
// It is refused if the record is not as we saw it last: an attempt that was
// begun meanwhile may allocate what this release would not look for.
func (p *Protocol) beginFree(a *infrastructure.AllocationState, saw sighting, start *metav1.Time) error {
	if a.Phase == infrastructure.AllocationReleased || !saw.still(a) {
		return refuse(http.StatusConflict, "another operation is under way, or was faster")
	}
	a.Phase, a.StartTime, a.NotBefore = infrastructure.AllocationReleasing, start, nil
	return nil
}

// sighting is what tells the operation on a record that we saw, or began, from
// any other.
type sighting struct {
	phase   infrastructure.AllocationPhase
	attempt int32
	// start is nil if no call is open.
	start *metav1.Time
}

func sightingOf(a *infrastructure.AllocationState) sighting {
	return sighting{phase: a.Phase, attempt: a.Attempt, start: a.StartTime}
}

// still tells whether a record is as it was seen.
func (s sighting) still(a *infrastructure.AllocationState) bool {
	return a.Phase == s.phase && a.Attempt == s.attempt &&
		(a.Phase != infrastructure.AllocationReleasing || a.StartTime.Equal(s.start))
}

// heldBack records that no call of a release is open, and when the next may be.
func (p *Protocol) heldBack(a *infrastructure.AllocationState, r *refusal) {
	if r.after == 0 {
		r.after = p.timing.Backoff
	}
	notBefore := metav1.NewTime(p.now().Add(r.after))
	a.StartTime, a.NotBefore = nil, &notBefore
}

// refused makes a claim of the record again. It keeps the number of attempts,
// with which the pause before the next one grows.
func (p *Protocol) refused(a *infrastructure.AllocationState, r *refusal) {
	if r.after == 0 {
		r.after = doubled(p.timing.Backoff, int(a.Attempt), p.timing.MaxBackoff)
	}
	notBefore := metav1.NewTime(p.now().Add(r.after))
	a.Phase, a.StartTime, a.NotBefore = "", nil, &notBefore
}

// setAllocated sets the condition Allocated.
func (p *Protocol) setAllocated(conditions *[]metav1.Condition, generation int64, status metav1.ConditionStatus, reason, message string) {
	meta.SetStatusCondition(conditions, metav1.Condition{
		Type: infrastructure.ConditionAllocated, Status: status, Reason: reason, Message: oneline.Of(message, oneline.MaxMessage),
		ObservedGeneration: generation, LastTransitionTime: *p.now(),
	})
}

// reasonOf is the reason of Allocated for a refused allocation.
func reasonOf(r *refusal) string { return r.reasonOr(infrastructure.ReasonAllocationRefused) }

// releaseReasonOf is the reason of Allocated for a release that is held back.
func releaseReasonOf(r *refusal) string { return r.reasonOr(infrastructure.ReasonReleaseRefused) }

func (r *refusal) reasonOr(refused string) string {
	switch {
	case r.reason != "":
		return r.reason
	case r.code == http.StatusServiceUnavailable && !r.busy:
		return infrastructure.ReasonMetalAPIUnavailable
	}
	return refused
}
