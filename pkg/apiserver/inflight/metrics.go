// SPDX-License-Identifier: Apache-2.0

package inflight

import (
	"sync"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
)

var (
	rejectedTotal = metrics.NewCounterVec(&metrics.CounterOpts{
		Subsystem: "metalstack_apiserver", Name: "direct_requests_refused_total", StabilityLevel: metrics.ALPHA,
		Help: "Requests that did not come through the kube-apiserver and were rejected with 429 before authentication, by the share whose limit was reached.",
	}, []string{"share"})
	closedConnections = metrics.NewCounter(&metrics.CounterOpts{
		Subsystem: "metalstack_apiserver", Name: "direct_connections_closed_total", StabilityLevel: metrics.ALPHA,
		Help: "Connections that were closed because the limit of connections without a request of the kube-apiserver was reached.",
	})
)

var registerMetrics = sync.OnceFunc(func() {
	legacyregistry.MustRegister(rejectedTotal, closedConnections)
	for _, share := range []string{"probes", "address", "unknown", "tokens", "known", "watches", "metrics"} {
		rejectedTotal.WithLabelValues(share)
	}
})
