// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"fmt"
	"reflect"
	"strings"

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
