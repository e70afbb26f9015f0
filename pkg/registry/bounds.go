// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

// What an answer repeats at most of what is wrong with a request. The generic
// server joins errors in a time that grows with the square of their number.
const (
	maxErrors     = 20
	maxErrorValue = 256
	maxErrorText  = 1024
)

// LimitErrors returns the first errors, each of bounded length; the last one says
// how many there are besides.
func LimitErrors(errs field.ErrorList) field.ErrorList {
	more := len(errs) - maxErrors
	bounded := make(field.ErrorList, 0, min(len(errs), maxErrors))
	for _, err := range errs[:min(len(errs), maxErrors)] {
		e := *err
		e.Field, e.Detail = oneline.Sanitize(e.Field, maxErrorText), oneline.Sanitize(e.Detail, maxErrorText)
		e.BadValue = limitValue(e.BadValue)
		bounded = append(bounded, &e)
	}
	if more > 0 {
		last := bounded[maxErrors-1]
		last.Detail = strings.TrimPrefix(fmt.Sprintf("%s (and %d more errors)", last.Detail, more), " ")
	}
	return bounded
}

// limitValue is the value, or the beginning of its text if that is long.
func limitValue(value any) any {
	v := reflect.ValueOf(value)
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.String:
		if v.Len() > maxErrorValue {
			return oneline.Sanitize(v.String(), maxErrorValue)
		}
	case reflect.Slice, reflect.Map, reflect.Struct:
		if text := fmt.Sprintf("%v", v.Interface()); len(text) > maxErrorText {
			return oneline.Sanitize(text, maxErrorText)
		}
	}
	return value
}

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

// RejectTooManyRequests has a request that is being validated, and for which validation
// then returns an error, answered with 429 and when to come again.
func RejectTooManyRequests(ctx context.Context, message string, retryAfter time.Duration) {
	if r, ok := ctx.Value(responseOverrideKey{}).(*responseOverride); ok {
		r.err = apierrors.NewTooManyRequests(message, max(1, int(math.Ceil(retryAfter.Seconds()))))
	}
}
