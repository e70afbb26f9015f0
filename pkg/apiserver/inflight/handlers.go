// SPDX-License-Identifier: Apache-2.0

package inflight

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apiserver/pkg/authentication/authenticator"
)

// errRequestEnded is the authentication error of requests that have ended.
var errRequestEnded = errors.New("client has disconnected")

// Authenticator returns next with the request's slot retained until next has
// answered. A TokenReview continues when its request is cancelled, so next does not
// get the cancellation. A client whose token is accepted is a known client from then
// on, also while tokens cannot be reviewed.
func (l *Limiter) Authenticator(next authenticator.Request) authenticator.Request {
	return authenticator.RequestFunc(func(req *http.Request) (*authenticator.Response, bool, error) {
		r, limited := req.Context().Value(reservationKey{}).(*reservation)
		if !limited {
			return next.AuthenticateRequest(req)
		}
		if !r.retain() {
			return nil, false, errRequestEnded
		}
		defer r.release()
		token := bearerToken(req)
		wasKnown := l.tokens.known(token)
		// The copy shares the headers, from which authenticators remove credentials.
		response, ok, err := next.AuthenticateRequest(req.WithContext(context.WithoutCancel(req.Context())))
		switch {
		case token == "":
		case !ok && !isReviewFailure(err):
			l.tokens.forget(token)
		case ok && !l.HasClientCertificate(req):
			l.tokens.remember(token)
			if !wasKnown {
				r.transfer(func() func() { release, _ := l.acquireKnown(req, token); return release })
			}
		}
		return response, ok, err
	})
}

// isReviewFailure returns whether an error says that the token could not be reviewed,
// and not that it is invalid.
func isReviewFailure(err error) bool {
	var all utilerrors.Aggregate // It has no Unwrap.
	if errors.As(err, &all) {
		return slices.ContainsFunc(all.Errors(), isReviewFailure)
	}
	var status apierrors.APIStatus
	var network net.Error // also a context's deadline
	return errors.As(err, &status) || errors.As(err, &network) || errors.Is(err, context.Canceled)
}

// WithRetainedSlot returns next with the request's slot retained until next has returned.
func (l *Limiter) WithRetainedSlot(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r, limited := req.Context().Value(reservationKey{}).(*reservation)
		switch {
		case !limited:
		case !r.retain():
			return
		default:
			defer r.release()
			if r.isRejected() {
				reject(w, "known")
				return
			}
		}
		next.ServeHTTP(w, req)
	})
}
