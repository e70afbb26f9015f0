// SPDX-License-Identifier: Apache-2.0

// Package metrics holds what the metrics of the packages under pkg/metal share.
package metrics

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Outcome is the value of a label outcome: OK, or the kind of a metal.Error.
func Outcome[K ~string](kind K) string {
	if kind == "" {
		return "OK"
	}
	return string(kind)
}

// Register registers c, or returns the collector that was registered before
// under its name: two clients of one process count together.
func Register[C prometheus.Collector](reg prometheus.Registerer, c C) C {
	if reg == nil {
		return c
	}
	if err := reg.Register(c); err != nil {
		if before, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
			if same, ok := before.ExistingCollector.(C); ok {
				return same
			}
		}
	}
	return c
}
