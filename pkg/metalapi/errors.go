// SPDX-License-Identifier: Apache-2.0

package metalapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// apiError is an error as the metal-api answers it.
type apiError struct {
	status  int
	message string
}

func (e *apiError) Error() string { return e.message }

// limitedError is an apiError of a request that may be repeated.
type limitedError struct {
	apiError

	retryAfter time.Duration
}

// notFound is what the metal-api says of what is not there; what others have is answered
// the same.
func notFound(kind, id string) error {
	return &apiError{http.StatusNotFound, fmt.Sprintf("NotFound no %s with id %q found", kind, id)}
}

// unknownProject is what the metal-api says of a project that is not there.
func unknownProject(id string) error {
	return &apiError{http.StatusNotFound, fmt.Sprintf("rpc error: code = NotFound desc = project with id:%s not found sql: no rows in result set", id)}
}

// statusOf is the status and message of an error. Those of the metal-api are passed on.
func statusOf(err error) (status int, message string) {
	var own *apiError
	if errors.As(err, &own) {
		return own.status, own.message
	}
	var limited *limitedError
	if errors.As(err, &limited) {
		return limited.status, limited.message
	}
	var e *metal.Error
	if !errors.As(err, &e) {
		return http.StatusInternalServerError, "internal error"
	}
	switch {
	case e.Kind == metal.Unavailable && (e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden):
		// It is about the server's credential, not about the client's.
		return http.StatusServiceUnavailable, "the metal-api is unavailable"
	case e.Status >= http.StatusBadRequest:
		return e.Status, e.Message
	case e.Kind == metal.NotFound:
		return http.StatusNotFound, e.Message
	case e.Kind == metal.Refused:
		return http.StatusUnprocessableEntity, e.Message
	case e.Kind == metal.Conflict:
		return http.StatusConflict, e.Message
	}
	return http.StatusServiceUnavailable, e.Message
}

// writeError writes an error in the form of the metal-api: JSON in a JSON string
// (docs/metal-api.md, Q15).
func writeError(w http.ResponseWriter, err error) {
	status, message := statusOf(err)
	inner, _ := json.Marshal(struct {
		StatusCode int    `json:"statuscode"`
		Message    string `json:"message"`
	}{status, message})
	outer, _ := json.Marshal(string(inner))
	var limited *limitedError
	if errors.As(err, &limited) {
		w.Header().Set("Retry-After", strconv.Itoa(int(limited.retryAfter/time.Second)+1))
	}
	write(w, status, outer)
}

func writeAnswer(w http.ResponseWriter, status int, answer any) {
	raw, err := json.Marshal(answer)
	if err != nil {
		writeError(w, err)
		return
	}
	write(w, status, raw)
}

func write(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
