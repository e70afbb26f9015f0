// SPDX-License-Identifier: Apache-2.0

// Package framework holds what tests of running programs share. Its packages
// run them: controlplane a Kubernetes control plane, cluster our installation
// in one, standalone a server without one. build builds our programs, and
// objects are what tests create.
package framework

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	// minPollInterval and maxPollInterval limit how long Eventually waits between
	// two calls of its condition.
	minPollInterval = 50 * time.Millisecond
	maxPollInterval = time.Second
	// pollFraction is the part of the time since the first call that Eventually
	// waits: requests that are made twenty times a second cost more processor time
	// than what is waited for.
	pollFraction = 20
	// requestTimeout ends one call of EventuallyRetrying.
	requestTimeout = 5 * time.Second
)

// Eventually calls condition until it returns no error. After timeout the test
// fails with the last error, and with message, if it is there.
func Eventually(t testing.TB, timeout time.Duration, condition func(context.Context) error, message ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	began := time.Now()
	last := context.DeadlineExceeded
	for {
		err := condition(ctx)
		if err == nil {
			return
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-time.After(min(max(time.Since(began)/pollFraction, minPollInterval), maxPollInterval)):
		case <-ctx.Done():
			require.NoError(t, last, message...)
		}
	}
}

// EventuallyRetrying is Eventually for requests of which any one may get no
// answer: each call ends after some seconds.
func EventuallyRetrying(t testing.TB, timeout time.Duration, condition func(context.Context) error, message ...any) {
	t.Helper()
	Eventually(t, timeout, func(ctx context.Context) error {
		attempt, cancel := context.WithTimeout(ctx, requestTimeout)
		defer cancel()
		return condition(attempt)
	}, message...)
}
