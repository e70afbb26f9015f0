// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// What records wait for, besides the phases Allocating and Releasing.
const (
	// waitingRefused: the allocation was refused, and backs off.
	waitingRefused = "Refused"
	// waitingDeleted: the object was deleted, and its release has not been
	// requested yet: the controller manager waits for something, or is down.
	waitingDeleted = "Deleted"
)

var waitingFor = []string{string(infrastructure.AllocationAllocating), string(infrastructure.AllocationReleasing), waitingRefused, waitingDeleted}

// waitingRecords sums up the records of a resource that wait, by what for.
type waitingRecords map[string]waitingSum

type waitingSum struct {
	records int
	longest time.Duration
}

// add counts a record, if it waits, and reports whether it does.
func (w waitingRecords) add(p *Protocol, r record) bool {
	what, since := p.waitsFor(r)
	if what == "" {
		return false
	}
	sum := w[what]
	sum.records++
	sum.longest = max(sum.longest, p.clock.Since(since))
	w[what] = sum
	return true
}

// setMetrics sets the metrics.
func (w waitingRecords) setMetrics(resource string) {
	for _, what := range waitingFor {
		waitingGauge.WithLabelValues(resource, what).Set(float64(w[what].records))
		longestWaitGauge.WithLabelValues(resource, what).Set(w[what].longest.Seconds())
	}
}

// clearWaitingMetrics is for replicas that do not reconcile: the active one does.
func clearWaitingMetrics() {
	for _, resource := range metalResources {
		waitingRecords{}.setMetrics(resource.Resource)
	}
}

// waitsFor says what a record waits for, and since when, in times that are
// recorded; "" if it does not.
func (p *Protocol) waitsFor(r record) (what string, since time.Time) {
	m, a := r.objectMeta(), r.state()
	switch {
	case m.DeletionTimestamp != nil && a.Phase == infrastructure.AllocationAllocated:
		return waitingDeleted, m.DeletionTimestamp.Time
	case a.Phase == infrastructure.AllocationReleasing && m.DeletionTimestamp != nil:
		return string(a.Phase), m.DeletionTimestamp.Time
	case a.Phase == infrastructure.AllocationAllocating, a.Phase == infrastructure.AllocationReleasing:
		what = string(a.Phase)
	case a.Phase == "" && a.NotBefore != nil:
		what = waitingRefused
	default:
		return "", time.Time{}
	}
	// It has been False since the first attempt, or longer: since a controller
	// recorded what the attempt waits for.
	if c := meta.FindStatusCondition(*r.conditions(), infrastructure.ConditionAllocated); c != nil {
		return what, c.LastTransitionTime.Time
	}
	return what, p.clock.Now()
}
