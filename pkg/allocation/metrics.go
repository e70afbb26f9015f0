package allocation

import (
	"errors"
	"strconv"
	"sync"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/utils/clock"
)

var (
	inFlightGauge = metrics.NewGaugeVec(&metrics.GaugeOpts{
		Namespace: "metalstack", Subsystem: "allocation", Name: "in_flight",
		Help:           "Operations under way, by resource and verb.",
		StabilityLevel: metrics.ALPHA,
	}, []string{"resource", "verb"})
	outcomesCounter = metrics.NewCounterVec(&metrics.CounterOpts{
		Namespace: "metalstack", Subsystem: "allocation", Name: "operations_total",
		Help:           "Operations that ended, by resource, verb and outcome: done, interrupted, error, or the HTTP status of the refusal.",
		StabilityLevel: metrics.ALPHA,
	}, []string{"resource", "verb", "outcome"})
	durationsHistogram = metrics.NewHistogramVec(&metrics.HistogramOpts{
		Namespace: "metalstack", Subsystem: "allocation", Name: "duration_seconds",
		Help:           "How long operations took, looks for lost answers included, by resource and verb.",
		Buckets:        []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600},
		StabilityLevel: metrics.ALPHA,
	}, []string{"resource", "verb"})
	duplicatesCounter = metrics.NewCounterVec(&metrics.CounterOpts{
		Namespace: "metalstack", Subsystem: "allocation", Name: "duplicates_total",
		Help:           "Machines that carried the identity of an object whose record names another, by what became of them: released or held.",
		StabilityLevel: metrics.ALPHA,
	}, []string{"outcome"})
	waitingGauge = metrics.NewGaugeVec(&metrics.GaugeOpts{
		Namespace: "metalstack", Subsystem: "allocation", Name: "held",
		Help:           "Records that wait, by resource and what for: Allocating, Releasing, Refused (and not asked for again yet), Deleted (deleted, and nobody has asked for the release yet).",
		StabilityLevel: metrics.ALPHA,
	}, []string{"resource", "phase"})
	longestWaitGauge = metrics.NewGaugeVec(&metrics.GaugeOpts{
		Namespace: "metalstack", Subsystem: "allocation", Name: "longest_wait_seconds",
		Help:           "For how long the record that waits longest has waited, by resource and what for, as in metalstack_allocation_held.",
		StabilityLevel: metrics.ALPHA,
	}, []string{"resource", "phase"})
	unrecordedGauge = metrics.NewGaugeVec(&metrics.GaugeOpts{
		Namespace: "metalstack", Subsystem: "allocation", Name: "unrecorded",
		Help:           "Metal that carries an identity of this management cluster and that no record names, by kind: machine, firewall, network or address.",
		StabilityLevel: metrics.ALPHA,
	}, []string{"kind"})

	registerOnce sync.Once
)

// RegisterMetrics adds this package's metrics to those that the server shows.
func RegisterMetrics() {
	registerOnce.Do(func() {
		legacyregistry.MustRegister(inFlightGauge, outcomesCounter, durationsHistogram, duplicatesCounter, waitingGauge, longestWaitGauge, unrecordedGauge)
		// A counter that appears with its first event hides that event from
		// whoever asks for its increase.
		for _, outcome := range []string{duplicateReleased, duplicateHeld} {
			duplicatesCounter.WithLabelValues(outcome)
		}
		clearWaitingMetrics()
		clearUnrecordedMetrics()
		for _, resource := range []schema.GroupResource{machineResource, firewallResource, clusterResource} {
			for _, verb := range []string{verbAllocate, verbRelease} {
				inFlightGauge.WithLabelValues(resource.Resource, verb)
			}
		}
	})
}

// observeOperation counts an operation that begins; what it returns counts its end.
func observeOperation(s objectRef, verb string, clock clock.PassiveClock) func(error) {
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
	case errors.Is(err, errInterrupted):
		return "interrupted"
	case errors.As(err, &r):
		return strconv.Itoa(r.code)
	}
	return "error"
}

// What becomes of a duplicate.
const (
	duplicateReleased = "released"
	duplicateHeld     = "held"
)

// clearUnrecordedMetrics is what a server shows that does not count: another one does.
func clearUnrecordedMetrics() {
	for _, kind := range metalKinds {
		unrecordedGauge.WithLabelValues(kind).Set(0)
	}
}
