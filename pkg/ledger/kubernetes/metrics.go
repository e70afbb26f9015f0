package kubernetes

import (
	"sync"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
)

var (
	damaged = metrics.NewGaugeVec(&metrics.GaugeOpts{
		Namespace: "metalstack", Subsystem: "ledger", Name: "damaged_configmaps",
		Help:           "ConfigMaps with the label of records that are damaged, by what is: their value, their key (then the ledger cannot be read), or that they are no records and are ignored.",
		StabilityLevel: metrics.ALPHA,
	}, []string{"damage"})
	recovered = metrics.NewCounterVec(&metrics.CounterOpts{
		Namespace: "metalstack", Subsystem: "ledger", Name: "recovered_writes_total",
		Help:           "Writes that were refused because they had been done: their first answer was lost.",
		StabilityLevel: metrics.ALPHA,
	}, []string{"verb"})
	repeats = metrics.NewCounterVec(&metrics.CounterOpts{
		Namespace: "metalstack", Subsystem: "ledger", Name: "repeated_requests_total",
		Help:           "Requests of writes that were sent again, by verb and whether the one before was certainly without effect.",
		StabilityLevel: metrics.ALPHA,
	}, []string{"verb", "certain"})

	registerOnce sync.Once
)

func registerMetrics() {
	registerOnce.Do(func() { legacyregistry.MustRegister(damaged, recovered, repeats) })
}
