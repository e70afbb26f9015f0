package metal

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The names of the port's metrics. The label operation is as in Error.Op,
// outcome is OK or a Kind, look is focus, read or sweep, account is reads, focus
// or sweep, cause is budget, slow or unanswered.
const (
	MetricCalls          = "metalstack_metal_calls_total"
	MetricCallSeconds    = "metalstack_metal_call_duration_seconds"
	MetricCallsInFlight  = "metalstack_metal_calls_in_flight"
	MetricStaleness      = "metalstack_metal_staleness_seconds"
	MetricSweepSeconds   = "metalstack_metal_sweep_duration_seconds"
	MetricSweepInterval  = "metalstack_metal_sweep_interval_seconds"
	MetricLooks          = "metalstack_metal_looks_total"
	MetricBusySeconds    = "metalstack_metal_busy_seconds_total"
	MetricBudgetBalance  = "metalstack_metal_budget_balance_seconds"
	MetricMachines       = "metalstack_metal_machines"
	MetricSuspects       = "metalstack_metal_suspects"
	MetricUnconfirmed    = "metalstack_metal_reads_unconfirmed_total"
	MetricCatalogueLoads = "metalstack_metal_catalogue_loads_total"
)

// clientMetrics count calls.
type clientMetrics struct {
	calls    *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	inFlight *prometheus.GaugeVec
}

func newClientMetrics(reg prometheus.Registerer) *clientMetrics {
	return &clientMetrics{
		calls: register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: MetricCalls, Help: "Calls of the metal-api by what became of them.",
		}, []string{"operation", "outcome"})),
		seconds: register(reg, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: MetricCallSeconds, Help: "How long the metal-api took to answer, until the last byte.",
			Buckets: []float64{.002, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}, []string{"operation"})),
		inFlight: register(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: MetricCallsInFlight, Help: "Calls of the metal-api that are under way.",
		}, []string{"operation"})),
	}
}

// begin counts a call; the result is called when it has ended.
func (m *clientMetrics) begin(operation string) (end func(took time.Duration, kind Kind)) {
	m.inFlight.WithLabelValues(operation).Inc()
	return func(took time.Duration, kind Kind) {
		m.inFlight.WithLabelValues(operation).Dec()
		m.seconds.WithLabelValues(operation).Observe(took.Seconds())
		m.calls.WithLabelValues(operation, outcome(kind)).Inc()
	}
}

func outcome(kind Kind) string {
	if kind == "" {
		return "OK"
	}
	return string(kind)
}

func outcomeOf(err error) string { return outcome(KindOf(err)) }

// register registers c, or returns the collector that was registered before
// under its name: two clients of one process count together.
func register[C prometheus.Collector](reg prometheus.Registerer, c C) C {
	if reg == nil {
		return c
	}
	if err := reg.Register(c); err != nil {
		if before, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
			if same, ok := before.ExistingCollector.(C); ok {
				return same
			}
		}
	}
	return c
}
