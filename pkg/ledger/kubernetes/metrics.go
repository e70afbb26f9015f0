// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"sync"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
)

var (
	damaged = metrics.NewGaugeVec(&metrics.GaugeOpts{
		Namespace: "metalstack", Subsystem: "ledger", Name: "damaged_configmaps",
		Help:           "Damaged ConfigMaps with the record label, by damage: value; key, which makes the ledger unreadable; no-record, which is ignored.",
		StabilityLevel: metrics.ALPHA,
	}, []string{"damage"})
	recovered = metrics.NewCounterVec(&metrics.CounterOpts{
		Namespace: "metalstack", Subsystem: "ledger", Name: "recovered_writes_total",
		Help:           "Writes that were refused because an earlier attempt, whose answer was lost, had succeeded.",
		StabilityLevel: metrics.ALPHA,
	}, []string{"verb"})
	repeats = metrics.NewCounterVec(&metrics.CounterOpts{
		Namespace: "metalstack", Subsystem: "ledger", Name: "repeated_requests_total",
		Help:           "Write requests that were retried, by verb and whether the previous attempt certainly had no effect.",
		StabilityLevel: metrics.ALPHA,
	}, []string{"verb", "certain"})

	registerOnce sync.Once
)

func registerMetrics() {
	registerOnce.Do(func() { legacyregistry.MustRegister(damaged, recovered, repeats) })
}
