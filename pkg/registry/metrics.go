package registry

import (
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
)

// What becomes of the garbage collector's requests.
const (
	collectionAdmitted  = "admitted"
	collectionRefused   = "refused"
	collectionUndecided = "undecided"
)

var (
	collections = metrics.NewCounterVec(&metrics.CounterOpts{
		Namespace: "metalstack", Subsystem: "registry", Name: "garbage_collector_deletes_total",
		Help:           "Requests of the garbage collector to delete objects of a kind that holds metal, by outcome: admitted, refused, or undecided if owners could not be looked up.",
		StabilityLevel: metrics.ALPHA,
	}, []string{"outcome"})

	registerOnce sync.Once
)

func registerMetrics() {
	registerOnce.Do(func() {
		legacyregistry.MustRegister(collections)
		for _, outcome := range []string{collectionAdmitted, collectionRefused, collectionUndecided} {
			collections.WithLabelValues(outcome)
		}
	})
}

func countCollection(err error) {
	outcome := collectionAdmitted
	switch {
	case apierrors.IsForbidden(err):
		outcome = collectionRefused
	case apierrors.IsNotFound(err):
		return
	case err != nil:
		outcome = collectionUndecided
	}
	collections.WithLabelValues(outcome).Inc()
}
