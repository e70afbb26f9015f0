// SPDX-License-Identifier: Apache-2.0

package metal

import (
	"errors"
	"fmt"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

// Kind is what a failed call means for metal: not the HTTP status, which
// the metal-api uses for everything (422 is a refusal and an outage alike).
type Kind string

const (
	// Refused: the metal-api decided against it; nothing was changed.
	Refused Kind = "Refused"
	// NotFound: what was asked for is not known. For machines this proves
	// nothing (a machine without an event container answers it too).
	NotFound Kind = "NotFound"
	// Conflict: another client changed it, or holds it.
	Conflict Kind = "Conflict"
	// Busy: too much at once; nothing was changed; try again later.
	Busy Kind = "Busy"
	// Uncertain: it may have been done.
	Uncertain Kind = "Uncertain"
	// Unavailable: the metal-api or one of its backends does not answer, or it
	// does not accept this server's credential, and the call allocated or freed
	// nothing: it was a read, never arrived, or ended before that step.
	Unavailable Kind = "Unavailable"
)

// RequestField is a field of a request to allocate or to operate, as the types of the requests
// name it.
type RequestField string

// The fields that refusals name.
const (
	FieldID        RequestField = "ID"
	FieldProject   RequestField = "Project"
	FieldPartition RequestField = "Partition"
	FieldSize      RequestField = "Size"
	FieldImage     RequestField = "Image"
	FieldSSHKeys   RequestField = "SSHKeys"
	// FieldNetworks is the network of an address, too.
	FieldNetworks RequestField = "Networks"
	FieldRules    RequestField = "Rules"
	// FieldAddress is the address that a request asks for.
	FieldAddress RequestField = "Address"

	FieldDNSServers       RequestField = "DNSServers"
	FieldNTPServers       RequestField = "NTPServers"
	FieldFilesystemLayout RequestField = "FilesystemLayout"

	FieldLengths       RequestField = "Lengths"
	FieldAddressFamily RequestField = "AddressFamily"

	// FieldReason is why a console password is read.
	FieldReason RequestField = "Reason"
)

// Error is what every method of a Backend returns when it fails.
type Error struct {
	Kind Kind
	// Op is the operation, e.g. "machine allocate".
	Op string
	// Message is the metal-api's own words, or the transport's.
	Message string
	// Status is the HTTP status, 0 if there was no answer.
	Status int
	// Field is the field of the request that a refusal is about; empty if the
	// metal-api did not say.
	Field RequestField
	// NotSent is true if it is certain that no byte of the request was sent.
	NotSent bool
	// Err is the cause; it never holds a request's body.
	Err error
}

// MaxMessage is the most bytes of the metal-api's words that an Error holds.
const MaxMessage = 1 << 10

// Error implements error.
func (e *Error) Error() string {
	return oneline.Sanitize("metal-api: "+e.Op+": "+e.Message, 2*MaxMessage)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Unanswered reports whether the metal-api did not answer. An error that it
// answers with, such as that of a broken network or of a backend that is down, is
// an answer: other calls can succeed.
func (e *Error) Unanswered() bool {
	return e.Status == 0 || e.Status > 500 || e.Kind == Busy
}

// KindOf returns the kind of err; "" for nil, and Uncertain for an error that
// is not a Backend's: what is not understood must not be taken for a refusal.
func KindOf(err error) Kind {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Uncertain
}

// IsNotFound reports whether err says that it is not known; for a machine that proves
// nothing.
func IsNotFound(err error) bool { return KindOf(err) == NotFound }

// StaleError is what a refresh returns when its scope could not be observed in time:
// what is known of it is from Since, or from after it.
type StaleError struct {
	// Since is when the oldest fact of the scope was last observed; zero if
	// there was no observation yet.
	Since time.Time
	// Cause is why: the metal-api's error, ErrTimeout or ErrBudgetExceeded.
	Cause error
}

// Error implements error.
func (e *StaleError) Error() string {
	if e.Since.IsZero() {
		return oneline.Sanitize(fmt.Sprintf("metal was not observed since the server started: %v", e.Cause), 2*MaxMessage)
	}
	return oneline.Sanitize(fmt.Sprintf("metal was last observed at %s: %v", e.Since.UTC().Format(time.RFC3339), e.Cause), 2*MaxMessage)
}

// Unwrap returns the cause.
func (e *StaleError) Unwrap() error { return e.Cause }

// Causes of a StaleError read that are not the metal-api's fault.
var (
	// ErrTimeout: the observation was not finished within the refresh timeout.
	ErrTimeout = errors.New("the metal-api did not answer in time")
	// ErrBudgetExceeded: observing would exceed the polling budget.
	ErrBudgetExceeded = errors.New("the polling budget of the metal-api is exhausted")
)

// ErrHalfFreedNetwork is the cause of an Error that each read of a network answers that was freed
// halfway, and each list that includes it, for good (docs/metal-api.md, Q50).
var ErrHalfFreedNetwork = errors.New("a network was freed halfway")

// LookupLimitError says that something was not looked up in the catalogue, since
// its namespace has asked for too much, and when it can be tried again.
type LookupLimitError struct {
	Namespace string
	// Rate is how many lookups a namespace may make per second, Burst how many at
	// once.
	Rate, Burst int
	RetryAfter  time.Duration
}

// Error implements error.
func (e *LookupLimitError) Error() string {
	return fmt.Sprintf("too many lookups of networks, machines and addresses in namespace %q: the limit is %d per second, with a burst of %d",
		e.Namespace, e.Rate, e.Burst)
}
