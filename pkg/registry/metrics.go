// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
)

// Outcomes of the garbage collector's requests.
const (
	outcomeAdmitted  = "admitted"
	outcomeRefused   = "refused"
	outcomeUndecided = "undecided"
)

var (
	garbageCollectorDeletes = metrics.NewCounterVec(&metrics.CounterOpts{
		Namespace: "metalstack", Subsystem: "registry", Name: "garbage_collector_deletes_total",
		Help:           "Delete requests of the garbage collector for kinds that hold metal, by outcome: admitted, refused, or undecided if the lookup of owners failed.",
		StabilityLevel: metrics.ALPHA,
	}, []string{"outcome"})

	registerOnce sync.Once
)

func registerMetrics() {
	registerOnce.Do(func() {
		legacyregistry.MustRegister(garbageCollectorDeletes)
		for _, outcome := range []string{outcomeAdmitted, outcomeRefused, outcomeUndecided} {
			garbageCollectorDeletes.WithLabelValues(outcome)
		}
	})
}

func recordGarbageCollectorDelete(err error) {
	outcome := outcomeAdmitted
	switch {
	case apierrors.IsForbidden(err):
		outcome = outcomeRefused
	case apierrors.IsNotFound(err):
		return
	case err != nil:
		outcome = outcomeUndecided
	}
	garbageCollectorDeletes.WithLabelValues(outcome).Inc()
}
