// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/utils/clock"
)

var (
	abandonedNamespaces = metrics.NewGauge(&metrics.GaugeOpts{
		Namespace: "metalstack", Subsystem: "tenancy", Name: "abandoned_namespaces",
		Help:           "Deleted Namespaces whose records are still stored; their objects are hidden.",
		StabilityLevel: metrics.ALPHA,
	})
	namespaceReads = metrics.NewHistogramVec(&metrics.HistogramOpts{
		Namespace: "metalstack", Subsystem: "tenancy", Name: "namespace_read_duration_seconds",
		Help:           "Duration of live reads of Namespaces for their bindings, by verb (get before a create in a Namespace that the watch does not show, list before the first decision of an active server) and outcome: found, not_found or error.",
		Buckets:        []float64{.005, .01, .05, .1, .5, 1, 3, 10},
		StabilityLevel: metrics.ALPHA,
	}, []string{"verb", "outcome"})
)

var registerOnce sync.Once

// RegisterMetrics adds this package's metrics to those that the server shows.
func RegisterMetrics() {
	registerOnce.Do(func() { legacyregistry.MustRegister(abandonedNamespaces, namespaceReads) })
}

// timeRead makes a live read of Namespaces.
func timeRead[T any](c clock.PassiveClock, verb string, read func() (T, error)) (T, error) {
	began := c.Now()
	answer, err := read()
	outcome := "found"
	switch {
	case apierrors.IsNotFound(err):
		outcome = "not_found"
	case err != nil:
		outcome = "error"
	}
	namespaceReads.WithLabelValues(verb, outcome).Observe(c.Since(began).Seconds())
	return answer, err
}
