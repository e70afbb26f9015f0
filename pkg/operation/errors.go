// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"errors"
	"net/http"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/allocation"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

// lookupError is the error of a look-up in the catalogue.
func lookupError(err error) error {
	if tooMany, ok := errors.AsType[*metal.LookupLimitError](err); ok {
		return allocation.Refuse(http.StatusTooManyRequests, tooMany.RetryAfter, "%s", tooMany.Error())
	}
	if e, ok := errors.AsType[*metal.Error](err); ok {
		return allocation.Refuse(http.StatusServiceUnavailable, 0, "the metal-api cannot be asked: %s", oneline.Sanitize(e.Message, maxMessage))
	}
	return err
}

// callError is the error of a call that is recorded nowhere.
func callError(kind string, err error, uncertain string) error {
	if metal.KindOf(err) == metal.Uncertain {
		return allocation.Refuse(http.StatusGatewayTimeout, 0, "%s: %s", uncertain, allocation.CallMessage(err))
	}
	return allocation.RefuseCall(kind, err, nil)
}

// requireReason returns a reason as one line, or refuses an empty one.
func requireReason(kind, reason string) (string, error) {
	if reason = oneline.Sanitize(reason, maxReason); reason == "" {
		return "", allocation.RefuseField(kind, field.Required(field.NewPath("spec", "reason"), "must say why, in one line"))
	}
	return reason, nil
}
