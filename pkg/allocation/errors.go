// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

// errInterrupted: the server shuts down; the allocation or release is resumed from the record.
var errInterrupted = errors.New("the server is shutting down: the operation is resumed from its record")

// errNotStarted: the server shuts down, and an operation on metal that is allocated is not done,
// now or later.
var errNotStarted = errors.New("the server is shutting down: nothing was sent: retry")

// errNoPassword is errNotStarted of a console password, which may have been read.
var errNoPassword = errors.New("the server is shutting down: no password was given: retry")

// interruption is the error of what a verb does that ends with the server.
func interruption(verb string) error {
	switch {
	case verb == VerbConsolePassword:
		return errNoPassword
	case isOperation(verb):
		return errNotStarted
	}
	return errInterrupted
}

// isInterruption reports whether an error is that of what ends with the server.
func isInterruption(err error) bool {
	return errors.Is(err, errInterrupted) || errors.Is(err, errNotStarted) || errors.Is(err, errNoPassword)
}

// refusal is a definite no: nothing was allocated or released. It becomes the
// condition Allocated and the answer of the call.
type refusal struct {
	// code is the HTTP status of the answer.
	code int
	// message has the metal-api's message, or our own.
	message string
	// reason is that of the condition; empty: the one of the code.
	reason string
	// invalid is the field that is refused; of a refusal with code 422 only. kind is that of
	// the body that has it; empty: the object's, or an Allocation's.
	invalid *field.Error
	kind    string
	// busy: the metal-api decided, though the code is 503.
	busy bool
	// retryAfter is the shortest pause before the next attempt; 0: the usual backoff.
	retryAfter time.Duration
}

func (r *refusal) Error() string { return r.message }

func refuse(code int, format string, args ...any) *refusal {
	return &refusal{code: code, message: fmt.Sprintf(format, args...)}
}

// unavailableRetryAfter is the pause after the metal-api could not be reached.
const unavailableRetryAfter = 5 * time.Second

// refuseField refuses what a field of the object, or of the request, asks for.
func refuseField(invalid *field.Error) *refusal {
	return &refusal{code: http.StatusUnprocessableEntity, invalid: invalid, message: invalid.Error()}
}

// refusalOf returns the refusal that an error stands for that is not uncertain: of
// a call, or of records that cannot be read.
func refusalOf(err error) *refusal {
	var e *metal.Error
	if !errors.As(err, &e) {
		return &refusal{code: http.StatusServiceUnavailable, message: "failed to read metal and records: " + shortened(err.Error()), retryAfter: unavailableRetryAfter}
	}
	message := shortened(e.Message)
	switch e.Kind {
	case metal.Busy:
		return &refusal{
			code: http.StatusServiceUnavailable, busy: true,
			message: "the metal-api is busy: " + message,
		}
	case metal.Unavailable:
		// With a status it was reached, and one of its backends was not.
		if e.Status != 0 {
			message = "a backend of the metal-api is unavailable: " + message
		} else {
			message = "the metal-api cannot be reached: " + message
		}
		return &refusal{code: http.StatusServiceUnavailable, message: message, retryAfter: unavailableRetryAfter}
	case metal.Conflict:
		return refuse(http.StatusConflict, "conflict in the metal-api: %s", message)
	default:
		return refuse(http.StatusUnprocessableEntity, "refused by the metal-api: %s", message)
	}
}

// allocationRefusalOf is refusalOf for the call of an allocator: a refusal is about
// the field that the metal-api names.
func allocationRefusalOf(err error, specField func(metal.RequestField) (*field.Path, any)) *refusal {
	r := refusalOf(err)
	var e *metal.Error
	if r.code != http.StatusUnprocessableEntity || !errors.As(err, &e) {
		return r
	}
	if path, value := specField(e.Field); path != nil {
		return refuseField(field.Invalid(path, value, r.message))
	}
	return r
}

// releaseRefusalOf is refusalOf for what a release calls.
func releaseRefusalOf(err error) *refusal {
	r := refusalOf(err)
	if r.code == http.StatusUnprocessableEntity {
		r.invalid = field.Forbidden(allocationPath, r.message)
	}
	return r
}

// maxMessage is the longest message of the metal-api that is passed on: a
// condition's message is for people.
const maxMessage = 1024

func shortened(message string) string { return oneline.Sanitize(message, maxMessage) }

// statusError returns a refusal as an API status.
func (ref objectRef) statusError(r *refusal) *apierrors.StatusError {
	status := ref.statusOf(r)
	// Clients retry a 5xx with Retry-After by themselves, for minutes, instead of
	// showing its message.
	if r.retryAfter > 0 && r.code < http.StatusInternalServerError {
		status.ErrStatus.Details.RetryAfterSeconds = int32(min((r.retryAfter+time.Second-1)/time.Second, 3600))
	}
	return status
}

func (ref objectRef) statusOf(r *refusal) *apierrors.StatusError {
	if r.code == http.StatusUnprocessableEntity {
		return ref.invalidStatus(r)
	}
	reason := map[int]metav1.StatusReason{
		http.StatusConflict:           metav1.StatusReasonConflict,
		http.StatusForbidden:          metav1.StatusReasonForbidden,
		http.StatusTooManyRequests:    metav1.StatusReasonTooManyRequests,
		http.StatusServiceUnavailable: metav1.StatusReasonServiceUnavailable,
		http.StatusGatewayTimeout:     metav1.StatusReasonTimeout,
	}[r.code]
	details := &metav1.StatusDetails{Group: ref.resource.Group, Kind: ref.resource.Resource, Name: ref.name}
	// The controller that asked for the operation sets a condition with the reason.
	if reason := r.reasonOrDefault(""); reason == infrastructure.ReasonMetalAPIUnavailable || reason == infrastructure.ReasonInUse {
		details.Causes = []metav1.StatusCause{{Type: metav1.CauseType(reason), Message: r.message}}
	}
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: int32(r.code), Reason: reason, Details: details,
		Message: fmt.Sprintf("%s %q: %s", ref.resource.String(), ref.name, r.message),
	}}
}

// invalidStatus is the status of a refusal with code 422: as a validation answers,
// with the field that is refused as its cause.
func (ref objectRef) invalidStatus(r *refusal) *apierrors.StatusError {
	invalid := r.invalid
	if invalid == nil {
		invalid = field.Forbidden(specPath, r.message)
	}
	kind := ref.kind()
	switch invalid.Field {
	case clusterRefPath.String(), userDataPath.String():
		kind = "Allocation"
	}
	kind = cmp.Or(r.kind, kind)
	status := apierrors.NewInvalid(infrastructure.Kind(kind), ref.name, field.ErrorList{invalid})
	if r.reason != "" {
		// The controller that asked for the operation sets a condition with the reason.
		status.ErrStatus.Details.Causes[0].Type = metav1.CauseType(r.reason)
		status.ErrStatus.Details.Causes[0].Message = r.message
	}
	return status
}

// isUnavailable reports whether an error is a refusal that says to come again later.
func isUnavailable(err error) bool {
	r, ok := errors.AsType[*refusal](err)
	return ok && r.code == http.StatusServiceUnavailable
}

// orNotWritable returns the error of an operation or, in place of a refusal that says to come
// again later, why no record can be written any more: what was refused then was refused for
// that, whatever it says, and clients come again by themselves.
func (p *Protocol) orNotWritable(verb string, err error) error {
	if isUnavailable(err) {
		if notWritable := p.checkWritable(verb); notWritable != nil {
			return notWritable
		}
	}
	return err
}

// apiError returns the error of an operation as an API status.
func (ref objectRef) apiError(err error) error {
	var r *refusal
	var status apierrors.APIStatus
	switch {
	case err == nil:
		return nil
	case errors.As(err, &r):
		return ref.statusError(r)
	case errors.As(err, &status):
		return err
	case isInterruption(err):
		interrupted := ref.statusError(&refusal{code: http.StatusServiceUnavailable, message: err.Error()})
		// By then another replica is active, and clients retry this by themselves.
		interrupted.ErrStatus.Details.RetryAfterSeconds = 1
		return interrupted
	default:
		return apierrors.NewInternalError(fmt.Errorf("%s: %w", ref, err))
	}
}
