// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"math"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

type responseOverrideKey struct{}

// responseOverride is an answer that validation wants in place of its errors.
type responseOverride struct{ err *apierrors.StatusError }

func withResponseOverride(ctx context.Context) (context.Context, *responseOverride) {
	r := &responseOverride{}
	return context.WithValue(ctx, responseOverrideKey{}, r), r
}

// orElse returns the answer that validation wanted, if the request failed.
func (r *responseOverride) orElse(err error) error {
	if err != nil && r.err != nil {
		return r.err
	}
	return err
}

// RejectUnavailable makes 503 with Retry-After the answer to the request that is being
// validated. Validation must then return an error.
func RejectUnavailable(ctx context.Context, message string, retryAfter time.Duration) {
	if r, ok := ctx.Value(responseOverrideKey{}).(*responseOverride); ok {
		r.err = apierrors.NewServiceUnavailable(message)
		r.err.ErrStatus.Details = &metav1.StatusDetails{RetryAfterSeconds: seconds(retryAfter)}
	}
}

// RejectTooManyRequests makes 429 with Retry-After the answer to the request that is
// being validated. Validation must then return an error.
func RejectTooManyRequests(ctx context.Context, message string, retryAfter time.Duration) {
	if r, ok := ctx.Value(responseOverrideKey{}).(*responseOverride); ok {
		r.err = apierrors.NewTooManyRequests(message, int(seconds(retryAfter)))
	}
}

func seconds(d time.Duration) int32 { return max(1, int32(math.Ceil(d.Seconds()))) }
