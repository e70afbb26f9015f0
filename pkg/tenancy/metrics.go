// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"sync"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
)

var abandonedNamespaces = metrics.NewGauge(&metrics.GaugeOpts{
	Namespace: "metalstack", Subsystem: "tenancy", Name: "abandoned_namespaces",
	Help:           "Deleted Namespaces whose records are still stored; their objects are hidden.",
	StabilityLevel: metrics.ALPHA,
})

var registerOnce sync.Once

// RegisterMetrics adds this package's metrics to those that the server shows.
func RegisterMetrics() {
	registerOnce.Do(func() { legacyregistry.MustRegister(abandonedNamespaces) })
}
