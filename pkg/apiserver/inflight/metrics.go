package inflight

import (
	"sync"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
)

var (
	rejectedTotal = metrics.NewCounterVec(&metrics.CounterOpts{
		Subsystem: "metalstack_apiserver", Name: "direct_requests_refused_total", StabilityLevel: metrics.ALPHA,
		Help: "Requests that did not come through the kube-apiserver and were answered 429 before they were authenticated, by the share that had no room.",
	}, []string{"share"})
	closedConnections = metrics.NewCounter(&metrics.CounterOpts{
		Subsystem: "metalstack_apiserver", Name: "direct_connections_closed_total", StabilityLevel: metrics.ALPHA,
		Help: "Connections that were closed because there were too many that had not carried a request of the kube-apiserver.",
	})
)

var registerMetrics = sync.OnceFunc(func() {
	legacyregistry.MustRegister(rejectedTotal, closedConnections)
	for _, share := range []string{"probes", "address", "unknown", "tokens", "known", "watches", "metrics"} {
		rejectedTotal.WithLabelValues(share)
	}
})
