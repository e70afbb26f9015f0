// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/internal/metrics"
)

// The names of the observer's metrics. The label purpose is focus, read or sweep,
// account is reads, focus or sweep, cause is budget, slow or unanswered, issue is a
// metal.IssueKind.
const (
	MetricStaleness            = "metalstack_metal_staleness_seconds"
	MetricSweepSeconds         = "metalstack_metal_sweep_duration_seconds"
	MetricSweepInterval        = "metalstack_metal_sweep_interval_seconds"
	MetricObservations         = "metalstack_metal_observations_total"
	MetricBusySeconds          = "metalstack_metal_busy_seconds_total"
	MetricBudgetBalance        = "metalstack_metal_budget_balance_seconds"
	MetricMachines             = "metalstack_metal_machines"
	MetricPendingVerifications = "metalstack_metal_pending_verifications"
	MetricStaleReads           = "metalstack_metal_stale_reads_total"
	MetricMachineIssues        = "metalstack_metal_machine_issues"
)

// observerMetrics measure how well and at what cost an Observer works.
type observerMetrics struct {
	observations  *prometheus.CounterVec
	busy          *prometheus.CounterVec
	stale         *prometheus.CounterVec
	sweepSeconds  prometheus.Gauge
	sweepInterval prometheus.Gauge
}

func newObserverMetrics(reg prometheus.Registerer, o *Observer) *observerMetrics {
	gauge := func(name, help string, f func() float64) {
		metrics.Register(reg, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f))
	}
	gauge(MetricStaleness, "Time since the last complete sweep of the metal-api began, in seconds.", func() float64 { return o.Staleness().Seconds() })
	balance := func(account string, f func() time.Duration) {
		metrics.Register(reg, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: MetricBudgetBalance, Help: "Balance of a polling budget account, in seconds of the metal-api's time; negative while it is overdrawn.",
			ConstLabels: prometheus.Labels{"account": account},
		}, func() float64 { return f().Seconds() }))
	}
	for p := range numAccounts {
		balance(p.String(), func() time.Duration { return o.budget.balance(p) })
	}
	balance("sweep", func() time.Duration {
		_, sweep, _ := o.budget.balances()
		return sweep
	})
	gauge(MetricMachines, "Number of machines that are allocated or referenced by a record.", func() float64 {
		known, _ := o.facts.count()
		return float64(known)
	})
	gauge(MetricPendingVerifications, "Number of machines that an observation contradicted and that wait for a second observation.", func() float64 {
		_, pending := o.facts.count()
		return float64(pending)
	})
	metrics.Register(reg, prometheus.Collector(issueCollector{o, prometheus.NewDesc(MetricMachineIssues,
		"Number of machines and firewalls of bound projects that have an issue, by issue, as the condition MetalIssues has it.", []string{"issue"}, nil)}))
	m := &observerMetrics{
		observations: metrics.Register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: MetricObservations, Help: "Number of observations of the metal-api, by purpose: focus, read or sweep.",
		}, []string{"purpose"})),
		busy: metrics.Register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: MetricBusySeconds, Help: "Time that the metal-api spent on observations, in seconds, by purpose. The polling budget limits its rate.",
		}, []string{"purpose"})),
		stale: metrics.Register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: MetricStaleReads, Help: "Number of refreshes that did not complete, so that the read was stale, by cause: budget, slow or unanswered.",
		}, []string{"cause"})),
		sweepSeconds: metrics.Register(reg, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: MetricSweepSeconds, Help: "Duration of the last complete sweep, in seconds.",
		})),
		sweepInterval: metrics.Register(reg, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: MetricSweepInterval, Help: "Time between the starts of the last two complete sweeps, in seconds.",
		})),
	}
	for _, err := range []error{metal.ErrBudgetExceeded, metal.ErrTimeout, nil} {
		m.stale.WithLabelValues(staleCause(err))
	}
	return m
}

// issueCollector counts issues when metrics are read.
type issueCollector struct {
	observer *Observer
	issues   *prometheus.Desc
}

func (c issueCollector) Describe(descriptions chan<- *prometheus.Desc) { descriptions <- c.issues }

func (c issueCollector) Collect(collected chan<- prometheus.Metric) {
	for issue, n := range c.observer.countIssues() {
		collected <- prometheus.MustNewConstMetric(c.issues, prometheus.GaugeValue, float64(n), string(issue))
	}
}

// staleCause is the label of a StaleError's cause.
func staleCause(cause error) string {
	switch {
	case errors.Is(cause, metal.ErrBudgetExceeded):
		return "budget"
	case errors.Is(cause, metal.ErrTimeout):
		return "slow"
	}
	return "unanswered"
}

func (m *observerMetrics) recordObservation(what string, took time.Duration) {
	m.observations.WithLabelValues(what).Inc()
	m.busy.WithLabelValues(what).Add(took.Seconds())
}

func (m *observerMetrics) recordSweep(took time.Duration, before, began time.Time) {
	m.sweepSeconds.Set(took.Seconds())
	if !before.IsZero() {
		m.sweepInterval.Set(began.Sub(before).Seconds())
	}
}

func (f *facts) count() (known, pending int) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	for _, h := range f.machines.entries {
		if h.fact != nil {
			known++
		}
		if h.pendingSeq != 0 {
			pending++
		}
	}
	return known, pending
}
