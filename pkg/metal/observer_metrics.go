package metal

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// observerMetrics tell how well and at what cost an Observer looks.
type observerMetrics struct {
	looks         *prometheus.CounterVec
	busy          *prometheus.CounterVec
	unconfirmed   *prometheus.CounterVec
	sweepSeconds  prometheus.Gauge
	sweepInterval prometheus.Gauge
}

func newObserverMetrics(reg prometheus.Registerer, o *Observer) *observerMetrics {
	gauge := func(name, help string, f func() float64) {
		register(reg, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f))
	}
	gauge(MetricStaleness, "How long ago the last complete sweep began.", func() float64 { return o.Staleness().Seconds() })
	balance := func(account string, f func() time.Duration) {
		register(reg, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: MetricBudgetBalance, Help: "Balance of a budget account in seconds of metal-api time; negative while it is overdrawn.",
			ConstLabels: prometheus.Labels{"account": account},
		}, func() float64 { return f().Seconds() }))
	}
	for p := range purses {
		balance(p.String(), func() time.Duration { return o.budget.spare(p) })
	}
	balance("sweep", func() time.Duration {
		_, sweep, _ := o.budget.balances()
		return sweep
	})
	gauge(MetricMachines, "Machines that are known: allocated, or named by a record.", func() float64 {
		known, _ := o.facts.count()
		return float64(known)
	})
	gauge(MetricSuspects, "Machines that a look did not show as they are known, and that wait for a second look.", func() float64 {
		_, doubtful := o.facts.count()
		return float64(doubtful)
	})
	m := &observerMetrics{
		looks: register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: MetricLooks, Help: "Looks at the metal-api by what for.",
		}, []string{"look"})),
		busy: register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: MetricBusySeconds, Help: "Durations of the calls of looks; the budget limits their rate.",
		}, []string{"look"})),
		unconfirmed: register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: MetricUnconfirmed, Help: "Reads answered without a fresh look at the metal-api, by cause: budget, slow or unanswered.",
		}, []string{"cause"})),
		sweepSeconds: register(reg, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: MetricSweepSeconds, Help: "How long the last complete sweep took.",
		})),
		sweepInterval: register(reg, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: MetricSweepInterval, Help: "Time between the beginnings of the last two complete sweeps.",
		})),
	}
	for _, err := range []error{ErrOverBudget, ErrTooSlow, nil} {
		m.unconfirmed.WithLabelValues(unconfirmedBy(err))
	}
	return m
}

// unconfirmedBy is the label of an Unconfirmed's cause.
func unconfirmedBy(cause error) string {
	switch {
	case errors.Is(cause, ErrOverBudget):
		return "budget"
	case errors.Is(cause, ErrTooSlow):
		return "slow"
	}
	return "unanswered"
}

func (m *observerMetrics) looked(what string, took time.Duration) {
	m.looks.WithLabelValues(what).Inc()
	m.busy.WithLabelValues(what).Add(took.Seconds())
}

func (m *observerMetrics) sweptIn(took time.Duration, before, began time.Time) {
	m.sweepSeconds.Set(took.Seconds())
	if !before.IsZero() {
		m.sweepInterval.Set(began.Sub(before).Seconds())
	}
}

func (f *facts) count() (known, doubtful int) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	for _, h := range f.machines.held {
		if h.fact != nil {
			known++
		}
		if h.doubted != 0 {
			doubtful++
		}
	}
	return known, doubtful
}
