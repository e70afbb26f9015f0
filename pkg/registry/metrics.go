package registry

import (
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
)

// What becomes of the garbage collector's requests.
const (
	outcomeAdmitted  = "admitted"
	outcomeRefused   = "refused"
	outcomeUndecided = "undecided"
)

var (
	garbageCollectorDeletes = metrics.NewCounterVec(&metrics.CounterOpts{
		Namespace: "metalstack", Subsystem: "registry", Name: "garbage_collector_deletes_total",
		Help:           "Requests of the garbage collector to delete objects of a kind that holds metal, by outcome: admitted, refused, or undecided if owners could not be looked up.",
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
