package allocation

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

// errInterrupted: the server shuts down; the record says what is open.
var errInterrupted = errors.New("the server is shutting down: the operation is resumed from its record")

// refusal is a definite no: nothing was allocated or released. It becomes the
// condition Allocated and the answer of the call.
type refusal struct {
	// code is the HTTP status of the answer.
	code int
	// message are the metal-api's, or our own.
	message string
	// reason is that of the condition; empty: what the code stands for.
	reason string
	// busy: the metal-api decided, though the code is 503.
	busy bool
	// retryAfter is the least pause before the next attempt; 0: the usual back-off.
	retryAfter time.Duration
}

func (r *refusal) Error() string { return r.message }

func refuse(code int, format string, args ...any) *refusal {
	return &refusal{code: code, message: fmt.Sprintf(format, args...)}
}

// unavailableRetryAfter is the pause after the metal-api could not be asked.
const unavailableRetryAfter = 5 * time.Second

// refuseSpec refuses what the spec asks for.
func refuseSpec(format string, args ...any) *refusal {
	return refuse(http.StatusUnprocessableEntity, format, args...)
}

// refusalOf returns what an error that is not uncertain means: a call's, or of
// records that cannot be read.
func refusalOf(err error) *refusal {
	var e *metal.Error
	if !errors.As(err, &e) {
		return &refusal{code: http.StatusServiceUnavailable, message: "failed to read metal and records: " + shortened(err.Error()), retryAfter: unavailableRetryAfter}
	}
	words := shortened(e.Message)
	switch e.Kind {
	case metal.Busy:
		return &refusal{
			code: http.StatusServiceUnavailable, busy: true,
			message: "the metal-api is busy: " + words,
		}
	case metal.Unavailable:
		// With a status it was reached, and one of its backends was not.
		if e.Status != 0 {
			words = "a backend of the metal-api is unavailable: " + words
		} else {
			words = "the metal-api cannot be reached: " + words
		}
		return &refusal{code: http.StatusServiceUnavailable, message: words, retryAfter: unavailableRetryAfter}
	case metal.Conflict:
		return refuse(http.StatusConflict, "conflict in the metal-api: %s", words)
	default:
		return refuse(http.StatusUnprocessableEntity, "refused by the metal-api: %s", words)
	}
}

// maxMessage is the length of an answer that is passed on: a condition's message
// is for people.
const maxMessage = 1024

func shortened(words string) string { return oneline.Sanitize(words, maxMessage) }

// statusError makes an answer of a refusal.
func (s objectRef) statusError(r *refusal) *apierrors.StatusError {
	reason := map[int]metav1.StatusReason{
		http.StatusConflict:            metav1.StatusReasonConflict,
		http.StatusForbidden:           metav1.StatusReasonForbidden,
		http.StatusUnprocessableEntity: metav1.StatusReasonInvalid,
		http.StatusServiceUnavailable:  metav1.StatusReasonServiceUnavailable,
		http.StatusGatewayTimeout:      metav1.StatusReasonTimeout,
	}[r.code]
	details := &metav1.StatusDetails{Group: s.resource.Group, Kind: s.resource.Resource, Name: s.name}
	// The controller that asked for the operation sets a condition with the reason.
	switch reason := r.reasonOrDefault(""); reason {
	case infrastructure.ReasonMetalAPIUnavailable, infrastructure.ReasonMarkedBeforeTakeover:
		details.Causes = []metav1.StatusCause{{Type: metav1.CauseType(reason), Message: r.message}}
	}
	// Clients repeat a 5xx that says when by themselves, for minutes, instead of
	// telling its words.
	if r.retryAfter > 0 && r.code < http.StatusInternalServerError {
		details.RetryAfterSeconds = int32(min((r.retryAfter+time.Second-1)/time.Second, 3600))
	}
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: int32(r.code), Reason: reason, Details: details,
		Message: fmt.Sprintf("%s %q: %s", s.resource.String(), s.name, r.message),
	}}
}

// apiError makes an answer of what ended an operation.
func (s objectRef) apiError(err error) error {
	var r *refusal
	var status apierrors.APIStatus
	switch {
	case err == nil:
		return nil
	case errors.As(err, &r):
		return s.statusError(r)
	case errors.As(err, &status):
		return err
	case errors.Is(err, errInterrupted):
		interrupted := s.statusError(&refusal{code: http.StatusServiceUnavailable, message: err.Error()})
		// By then another server answers, and clients repeat this by themselves.
		interrupted.ErrStatus.Details.RetryAfterSeconds = 1
		return interrupted
	default:
		return apierrors.NewInternalError(fmt.Errorf("%s: %w", s, err))
	}
}
