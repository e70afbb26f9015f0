// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"errors"
	"strconv"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
)

var (
	requestsCounter = metrics.NewCounterVec(&metrics.CounterOpts{
		Namespace: "metalstack", Subsystem: "operation", Name: "requests_total",
		Help:           "Requests to operate metal, by operation and result: done, or the HTTP status of the error. Those that were answered from a record count, too.",
		StabilityLevel: metrics.ALPHA,
	}, []string{"operation", "result"})
	durationsHistogram = metrics.NewHistogramVec(&metrics.HistogramOpts{
		Namespace: "metalstack", Subsystem: "operation", Name: "duration_seconds",
		Help:           "Duration of requests to operate metal, by operation and whether they were done (result: done or failed).",
		Buckets:        []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		StabilityLevel: metrics.ALPHA,
	}, []string{"operation", "result"})

	registerOnce sync.Once
)

// The operations, as metrics name them.
const (
	verbPower           = "power"
	verbPowerState      = "power_state"
	verbIdentify        = "identify"
	verbConsolePassword = "console_password" //nolint:gosec // not a password
	verbLog             = "log"
	verbReinstall       = "reinstall"
	verbLockState       = "lock_state"
	verbLock            = "lock"
	verbUnlock          = "unlock"
)

const (
	resultDone   = "done"
	resultFailed = "failed"
)

// RegisterMetrics registers the metrics of this package.
func RegisterMetrics() {
	registerOnce.Do(func() {
		legacyregistry.MustRegister(requestsCounter, durationsHistogram)
		// A counter that appears with its first request hides that from queries for its increase.
		for _, verb := range []string{verbPower, verbPowerState, verbIdentify, verbConsolePassword, verbLog, verbReinstall, verbLockState, verbLock, verbUnlock} {
			requestsCounter.WithLabelValues(verb, resultDone)
			durationsHistogram.WithLabelValues(verb, resultDone)
		}
	})
}

// observe counts an operation that begins; what it returns counts its end.
func (o *Operator) observe(verb string) func(*error) {
	began := o.clock.Now()
	return func(err *error) {
		result, ended := resultDone, resultDone
		if *err != nil {
			result, ended = "error", resultFailed
			var status apierrors.APIStatus
			if errors.As(*err, &status) {
				result = strconv.Itoa(int(status.Status().Code))
			}
		}
		requestsCounter.WithLabelValues(verb, result).Inc()
		durationsHistogram.WithLabelValues(verb, ended).Observe(o.clock.Since(began).Seconds())
	}
}
