// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"errors"
	"strconv"
	"sync"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/utils/clock"
)

var (
	inFlightGauge = metrics.NewGaugeVec(&metrics.GaugeOpts{
		Namespace: "metalstack", Subsystem: "allocation", Name: "in_flight",
		Help:           "Operations in flight, by resource and verb.",
		StabilityLevel: metrics.ALPHA,
	}, []string{"resource", "verb"})
	outcomesCounter = metrics.NewCounterVec(&metrics.CounterOpts{
		Namespace: "metalstack", Subsystem: "allocation", Name: "operations_total",
		Help:           "Operations that ended, by resource, verb and outcome: done, interrupted, error, or the HTTP status of the refusal.",
		StabilityLevel: metrics.ALPHA,
	}, []string{"resource", "verb", "outcome"})
	durationsHistogram = metrics.NewHistogramVec(&metrics.HistogramOpts{
		Namespace: "metalstack", Subsystem: "allocation", Name: "duration_seconds",
		Help:           "Duration of operations, by resource and verb. Includes the time to reconcile uncertain calls.",
		Buckets:        []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600},
		StabilityLevel: metrics.ALPHA,
	}, []string{"resource", "verb"})
	duplicatesCounter = metrics.NewCounterVec(&metrics.CounterOpts{
		Namespace: "metalstack", Subsystem: "allocation", Name: "duplicates_total",
		Help:           "Machines that carried the identity of an object whose record names another machine, by outcome: released, or held if that failed.",
		StabilityLevel: metrics.ALPHA,
	}, []string{"outcome"})
	waitingGauge = metrics.NewGaugeVec(&metrics.GaugeOpts{
		Namespace: "metalstack", Subsystem: "allocation", Name: "waiting_records",
		Help:           "Records that wait, by resource and phase: Allocating, Releasing, Refused (backing off after a refusal), Deleted (deleted, but the release has not been requested yet).",
		StabilityLevel: metrics.ALPHA,
	}, []string{"resource", "phase"})
	longestWaitGauge = metrics.NewGaugeVec(&metrics.GaugeOpts{
		Namespace: "metalstack", Subsystem: "allocation", Name: "longest_wait_seconds",
		Help:           "Longest time that a record has waited, by resource and phase, as in metalstack_allocation_waiting_records.",
		StabilityLevel: metrics.ALPHA,
	}, []string{"resource", "phase"})
	unrecordedGauge = metrics.NewGaugeVec(&metrics.GaugeOpts{
		Namespace: "metalstack", Subsystem: "allocation", Name: "unrecorded_metal",
		Help:           "Metal that carries an identity of this management cluster and that no record names, by kind: machine, firewall, network or address.",
		StabilityLevel: metrics.ALPHA,
	}, []string{"kind"})

	registerOnce sync.Once
)

// RegisterMetrics registers the metrics of this package.
func RegisterMetrics() {
	registerOnce.Do(func() {
		legacyregistry.MustRegister(inFlightGauge, outcomesCounter, durationsHistogram, duplicatesCounter, waitingGauge, longestWaitGauge, unrecordedGauge)
		// A counter that appears with its first event hides that event from
		// queries for its increase.
		for _, outcome := range []string{duplicateReleased, duplicateHeld} {
			duplicatesCounter.WithLabelValues(outcome)
		}
		clearWaitingMetrics()
		clearUnrecordedMetrics()
		for _, resource := range metalResources {
			for _, verb := range []string{verbAllocate, verbRelease} {
				inFlightGauge.WithLabelValues(resource.Resource, verb)
			}
		}
	})
}

// observeOperation counts an operation that begins; what it returns counts its end.
// Operations on metal that is allocated have metrics of their own (pkg/operation).
func observeOperation(s objectRef, verb string, clock clock.PassiveClock) func(error) {
	if isOperation(verb) {
		return func(error) {}
	}
	began := clock.Now()
	inFlightGauge.WithLabelValues(s.resource.Resource, verb).Inc()
	return func(err error) {
		inFlightGauge.WithLabelValues(s.resource.Resource, verb).Dec()
		outcomesCounter.WithLabelValues(s.resource.Resource, verb, outcomeOf(err)).Inc()
		durationsHistogram.WithLabelValues(s.resource.Resource, verb).Observe(clock.Since(began).Seconds())
	}
}

func outcomeOf(err error) string {
	var r *refusal
	switch {
	case err == nil:
		return "done"
	case isInterruption(err):
		return "interrupted"
	case errors.As(err, &r):
		return strconv.Itoa(r.code)
	}
	return "error"
}

// The outcomes of duplicates.
const (
	duplicateReleased = "released"
	duplicateHeld     = "held"
)

// clearUnrecordedMetrics is for replicas that do not count: the active one does.
func clearUnrecordedMetrics() {
	for _, kind := range metalKinds {
		unrecordedGauge.WithLabelValues(kind).Set(0)
	}
}
