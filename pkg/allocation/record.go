// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"errors"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// isDefinite is true for errors after which it is certain that nothing was, or
// will be, recorded.
func isDefinite(err error) bool {
	var r *refusal
	return errors.As(err, &r) || errors.Is(err, errDryRun) || apierrors.IsNotFound(err) || apierrors.IsForbidden(err) ||
		apierrors.IsInvalid(err) || apierrors.IsBadRequest(err)
}

// checkUID refuses to go on with an object that was deleted and created again.
func checkUID(m *metav1.ObjectMeta, uid types.UID) error {
	if uid != "" && m.UID != uid {
		return refuse(http.StatusConflict, "UID precondition failed: expected %s, found %s", uid, m.UID)
	}
	return nil
}

// checkAllocatable refuses states from which there is no way to an allocation.
func checkAllocatable(m *metav1.ObjectMeta, phase infrastructure.AllocationPhase) error {
	switch {
	case phase == infrastructure.AllocationReleasing:
		return refuse(http.StatusConflict, "being released: delete and recreate the object to allocate again")
	case phase == infrastructure.AllocationReleased:
		return refuse(http.StatusConflict, "already released: delete and recreate the object to allocate again")
	case m.DeletionTimestamp != nil:
		return refuse(http.StatusConflict, "the object is being deleted")
	}
	return nil
}

// checkBackoff refuses an attempt during the pause after a refusal.
func (p *Protocol) checkBackoff(rec record) error {
	a := rec.state()
	if a.NotBefore == nil {
		return nil
	}
	wait := a.NotBefore.Sub(p.clock.Now())
	if wait <= 0 {
		return nil
	}
	r := refuse(http.StatusConflict, "backing off after a refusal")
	if c := meta.FindStatusCondition(*rec.conditions(), infrastructure.ConditionAllocated); c != nil && c.Status != metav1.ConditionTrue {
		r.message += ": " + c.Message
		r.reason = c.Reason
	}
	r.retryAfter = wait
	return r
}

// inFlightUntil is the time until which an allocate call that this process did not
// make may be in flight, according to the record; zero if none can be. A record in
// Releasing counts, too: it does not show whether an allocation was in progress when
// the release began.
func (p *Protocol) inFlightUntil(a *infrastructure.AllocationState) time.Time {
	if a.Phase != infrastructure.AllocationAllocating && a.Phase != infrastructure.AllocationReleasing {
		return time.Time{}
	}
	return p.startTimePlus(a, p.timing.allocateInFlight())
}

// freeInFlightUntil is inFlightUntil for a call that frees.
func (p *Protocol) freeInFlightUntil(a *infrastructure.AllocationState) time.Time {
	if a.Phase != infrastructure.AllocationReleasing {
		return time.Time{}
	}
	return p.startTimePlus(a, p.timing.freeInFlight())
}

func (p *Protocol) startTimePlus(a *infrastructure.AllocationState, d time.Duration) time.Time {
	if a.StartTime == nil {
		return time.Time{}
	}
	began := p.clock.Now()
	if a.StartTime.Time.Before(began) {
		began = a.StartTime.Time
	}
	return began.Add(d)
}

// recordTime is the time as records keep it.
func (p *Protocol) recordTime() *metav1.Time {
	t := metav1.NewTime(p.clock.Now().UTC().Truncate(time.Second))
	return &t
}

// recordTimeAfter is the time d from now, as records keep it.
func (p *Protocol) recordTimeAfter(d time.Duration) *metav1.Time {
	t := metav1.NewTime(p.recordTime().Add(d))
	return &t
}

// clearInFlight records that the outcome of an attempt's call is known, so that
// no recovery after a crash waits for it.
func clearInFlight(a *infrastructure.AllocationState) {
	if a.Phase == infrastructure.AllocationAllocating {
		a.StartTime = nil
	}
}

// observedState is what distinguishes the operation on a record that we read, or began,
// from any other.
type observedState struct {
	phase   infrastructure.AllocationPhase
	attempt int32
	// start is nil if no call is in flight.
	start *metav1.Time
}

func observedStateOf(a *infrastructure.AllocationState) observedState {
	return observedState{phase: a.Phase, attempt: a.Attempt, start: a.StartTime}
}

// matches reports whether a record is as it was observed.
func (s observedState) matches(a *infrastructure.AllocationState) bool {
	return a.Phase == s.phase && a.Attempt == s.attempt &&
		(a.Phase != infrastructure.AllocationReleasing || a.StartTime.Equal(s.start))
}

// allocationReason is the reason of Allocated for a refused allocation.
func allocationReason(r *refusal) string {
	return r.reasonOrDefault(infrastructure.ReasonAllocationRefused)
}

// releaseReason is the reason of Allocated for a refused release.
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
