// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"errors"
	"fmt"
	"net/http"
)

// kind is what the metal-api knows about an error. All it does not know is
// 422, the catch-all (docs/metal-api.md, Q15).
type kind int

const (
	kindOther kind = iota
	kindNotFound
	kindConflict
	kindInternal
)

// fault of a call, with the status that it gets unless a handler says otherwise.
type kindError struct {
	kind kind
	msg  string
}

func (e *kindError) Error() string { return e.msg }

func notFound(format string, args ...any) error {
	return &kindError{kindNotFound, "NotFound " + fmt.Sprintf(format, args...)}
}

func conflict(format string, args ...any) error {
	return &kindError{kindConflict, "Conflict " + fmt.Sprintf(format, args...)}
}

func internal(format string, args ...any) error {
	return &kindError{kindInternal, "Internal " + fmt.Sprintf(format, args...)}
}

// grpcError is an answer of masterdata.
func grpcError(k kind, code, format string, args ...any) error {
	return &kindError{k, fmt.Sprintf("rpc error: code = %s desc = ", code) + fmt.Sprintf(format, args...)}
}

// statusError is an error whose status a handler has chosen.
type statusError struct {
	status int
	err    error
}

func (e *statusError) Error() string { return e.err.Error() }
func (e *statusError) Unwrap() error { return e.err }

func badRequest(err error) error { return &statusError{http.StatusBadRequest, err} }

func withStatus(status int, err error) error { return &statusError{status, err} }

// statusOf is the status of an error that a handler returned.
func statusOf(err error) int {
	var se *statusError
	if errors.As(err, &se) {
		return se.status
	}
	var ke *kindError
	if errors.As(err, &ke) {
		switch ke.kind {
		case kindNotFound:
			return http.StatusNotFound
		case kindConflict:
			return http.StatusConflict
		case kindInternal:
			return http.StatusInternalServerError
		case kindOther:
		}
	}
	return http.StatusUnprocessableEntity
}

// Messages of backends that are down (372-408).
const (
	masterdataDown = `rpc error: code = Unavailable desc = connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:38443: connect: connection refused"`
	ipamDown       = "unavailable: dial tcp 127.0.0.1:39090: connect: connection refused"
	rethinkdbDown  = "rethinkdb: dial tcp 127.0.0.1:38015: connect: connection refused"
	nsqDown        = "dial tcp 127.0.0.1:34150: connect: connection refused"
)

const changedByAnother = "the entity was changed from another, please retry"
