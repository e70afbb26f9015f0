// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

// What an answer repeats at most of what is wrong with a request. The generic
// server joins errors in a time that grows with the square of their number.
const (
	maxErrors     = 20
	maxErrorValue = 256
	maxErrorText  = 1024
	// maxPatchError is from which length on the generic server's answer to a patch is shortened.
	maxPatchError = 8 << 10
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

// limitPatchError returns the error of an update, or in its place a bounded one if it is the
// generic server's answer to a patch of which no object can be made: that quotes the whole object,
// and an error that quotes the object, twice each.
func limitPatchError(err error) error {
	status, ok := errors.AsType[*apierrors.StatusError](err)
	if !ok || !apierrors.IsInvalid(status) || status.ErrStatus.Details == nil || len(status.ErrStatus.Message) <= maxPatchError {
		return err
	}
	causes := status.ErrStatus.Details.Causes
	if status.ErrStatus.Details.Kind != "" || len(causes) != 1 || causes[0].Field != patchPath.String() {
		return err
	}
	value, detail := "", causes[0].Message
	if rest, ok := strings.CutPrefix(detail, field.ErrorTypeInvalid.String()+": "); ok {
		if quoted, err := strconv.QuotedPrefix(rest); err == nil {
			value, _ = strconv.Unquote(quoted)
			detail = strings.TrimPrefix(rest[len(quoted):], ": ")
		}
	}
	return apierrors.NewInvalid(schema.GroupKind{}, "", LimitErrors(field.ErrorList{field.Invalid(patchPath, value, detail)}))
}

// patchPath is what the generic server calls a patch in errors.
var patchPath = field.NewPath("patch")
