package metal

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// observerMetrics tell how well and at what cost an Observer looks.
type observerMetrics struct {
	looks         *prometheus.CounterVec
	busy          *prometheus.CounterVec
	unconfirmed   prometheus.Counter
	sweepSeconds  prometheus.Gauge
	sweepInterval prometheus.Gauge
}

func newObserverMetrics(reg prometheus.Registerer, o *Observer) *observerMetrics {
	gauge := func(name, help string, f func() float64) {
		register(reg, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f))
	}
	gauge(MetricStaleness, "How long ago the last complete sweep began.", func() float64 { return o.Staleness().Seconds() })
	gauge(MetricBudgetBalance, "How much busyness of the metal-api reads and focus have saved.", func() float64 {
		live, _, _ := o.budget.balances()
		return live.Seconds()
	})
	gauge(MetricMachines, "Machines that are known: allocated, or named by a record.", func() float64 {
		known, _ := o.facts.count()
		return float64(known)
	})
	gauge(MetricSuspects, "Machines that a look did not show as they are known, and that wait for a second look.", func() float64 {
		_, doubtful := o.facts.count()
		return float64(doubtful)
	})
	return &observerMetrics{
		looks: register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: MetricLooks, Help: "Looks at the metal-api by what for.",
		}, []string{"look"})),
		busy: register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: MetricBusySeconds, Help: "Durations of the calls of looks; the budget limits their rate.",
		}, []string{"look"})),
		unconfirmed: register(reg, prometheus.NewCounter(prometheus.CounterOpts{
			Name: MetricUnconfirmed, Help: "Reads that were answered with a state that was not looked at again.",
		})),
		sweepSeconds: register(reg, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: MetricSweepSeconds, Help: "How long the last complete sweep took.",
		})),
		sweepInterval: register(reg, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: MetricSweepInterval, Help: "Time between the beginnings of the last two complete sweeps.",
		})),
	}
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
