// SPDX-License-Identifier: Apache-2.0

package client

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/internal/metrics"
)

// The names of the client's metrics. The label operation is as in
// metal.Error.Op, outcome is OK or a metal.Kind.
const (
	MetricCalls         = "metalstack_metal_calls_total"
	MetricCallSeconds   = "metalstack_metal_call_duration_seconds"
	MetricCallsInFlight = "metalstack_metal_calls_in_flight"
)

// clientMetrics count calls.
type clientMetrics struct {
	calls    *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	inFlight *prometheus.GaugeVec
}

func newClientMetrics(reg prometheus.Registerer) *clientMetrics {
	return &clientMetrics{
		calls: metrics.Register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: MetricCalls, Help: "Number of calls of the metal-api, by operation and outcome: OK or an error kind.",
		}, []string{"operation", "outcome"})),
		seconds: metrics.Register(reg, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: MetricCallSeconds, Help: "Duration of calls of the metal-api until the last byte of the answer, in seconds.",
			Buckets: []float64{.002, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}, []string{"operation"})),
		inFlight: metrics.Register(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: MetricCallsInFlight, Help: "Number of calls of the metal-api in flight.",
		}, []string{"operation"})),
	}
}

// begin counts a call; the result is called when it has ended.
func (m *clientMetrics) begin(operation string) (end func(took time.Duration, kind metal.Kind)) {
	m.inFlight.WithLabelValues(operation).Inc()
	return func(took time.Duration, kind metal.Kind) {
		m.inFlight.WithLabelValues(operation).Dec()
		m.seconds.WithLabelValues(operation).Observe(took.Seconds())
		m.calls.WithLabelValues(operation, metrics.Outcome(kind)).Inc()
	}
}
