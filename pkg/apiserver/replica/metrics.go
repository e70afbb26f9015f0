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
	takeovers = metrics.NewCounter(&metrics.CounterOpts{
		Namespace: "metalstack", Subsystem: "replica", Name: "takeovers_total",
		Help:           "How often this process became the active server: once at most. The sum over all processes is that of the changes.",
		StabilityLevel: metrics.ALPHA,
	})
	takeoverSeconds = metrics.NewHistogram(&metrics.HistogramOpts{
		Namespace: "metalstack", Subsystem: "replica", Name: "takeover_duration_seconds",
		Help:           "How long it took from winning the Lease until the first request could be answered.",
		Buckets:        []float64{.05, .1, .25, .5, 1, 2, 5, 10, 30},
		StabilityLevel: metrics.ALPHA,
	})
	handoverSeconds = metrics.NewHistogram(&metrics.HistogramOpts{
		Namespace: "metalstack", Subsystem: "replica", Name: "handover_duration_seconds",
		Help:           "For how long requests were held at a stop, until another server answered or it was known that none would.",
		Buckets:        []float64{.05, .1, .25, .5, 1, 2, 5, 10, 30},
		StabilityLevel: metrics.ALPHA,
	})

	registerOnce sync.Once
)

func registerMetrics() {
	registerOnce.Do(func() { legacyregistry.MustRegister(leaseHeld, takeovers, takeoverSeconds, handoverSeconds) })
}
