// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"errors"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// Refuse returns the error of work that is refused with an HTTP status. retryAfter is when to
// ask again; zero if that is not known.
func Refuse(code int, retryAfter time.Duration, format string, args ...any) error {
	r := refuse(code, format, args...)
	r.retryAfter = retryAfter
	return r
}

// RefuseField returns the error of work that is refused because of a field of a body of that
// kind.
func RefuseField(kind string, invalid *field.Error) error {
	r := refuseField(invalid)
	r.kind = kind
	return r
}

// BodyFields returns the path and the value of a body's field that stands for one of a request to
// the metal-api; a nil path if none does.
type BodyFields func(field metal.RequestField) (path *field.Path, value any)

// RefuseCall returns the error of work that stands for that of a call of the metal-api, which is
// not Uncertain. kind is that of the body that asked for it; a refusal that is about a field of
// the request names that of the body. fields may be nil.
func RefuseCall(kind string, err error, fields BodyFields) error {
	r := refusalOf(err)
	if fields != nil {
		r = allocationRefusalOf(err, fields)
	}
	r.kind = kind
	return r
}

// CallMessage is what the metal-api said about a call that failed, in one line.
func CallMessage(err error) string {
	if e, ok := errors.AsType[*metal.Error](err); ok {
		return shortened(e.Message)
	}
	return shortened(err.Error())
}
