// SPDX-License-Identifier: Apache-2.0

package replica

import (
	"sync"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
)

var (
	leaseHeld = metrics.NewGauge(&metrics.GaugeOpts{
		Namespace: "metalstack", Subsystem: "replica", Name: "lease_held",
		Help:           "Whether this server holds the Lease and may write: 1 for the active server, 0 for all others.",
		StabilityLevel: metrics.ALPHA,
	})
	failovers = metrics.NewCounter(&metrics.CounterOpts{
		Namespace: "metalstack", Subsystem: "replica", Name: "failovers_total",
		Help:           "Number of times that this process became the active server, which is at most one. The sum over all processes is the number of failovers.",
		StabilityLevel: metrics.ALPHA,
	})
	failoverSeconds = metrics.NewHistogram(&metrics.HistogramOpts{
		Namespace: "metalstack", Subsystem: "replica", Name: "failover_duration_seconds",
		Help:           "Duration from acquiring the Lease until requests are served.",
		Buckets:        []float64{.05, .1, .25, .5, 1, 2, 5, 10, 30},
		StabilityLevel: metrics.ALPHA,
	})
	handoverSeconds = metrics.NewHistogram(&metrics.HistogramOpts{
		Namespace: "metalstack", Subsystem: "replica", Name: "handover_duration_seconds",
		Help:           "Duration for which requests were paused at a stop, until another server was active or it was known that none would be.",
		Buckets:        []float64{.05, .1, .25, .5, 1, 2, 5, 10, 30},
		StabilityLevel: metrics.ALPHA,
	})

	registerOnce sync.Once
)

func registerMetrics() {
	registerOnce.Do(func() { legacyregistry.MustRegister(leaseHeld, failovers, failoverSeconds, handoverSeconds) })
}
