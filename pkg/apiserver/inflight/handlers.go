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

// errRequestEnded is why nobody is authenticated whose request has ended.
var errRequestEnded = errors.New("the client has gone away")

// Authenticator returns next with the request's slot held until next has
// answered. A TokenReview goes on when its request is cancelled, so next is not
// told of that. Who is accepted by a token is a known client from then on, also
// while no tokens can be reviewed.
func (l *Limiter) Authenticator(next authenticator.Request) authenticator.Request {
	return authenticator.RequestFunc(func(req *http.Request) (*authenticator.Response, bool, error) {
		t, limited := req.Context().Value(reservationKey{}).(*reservation)
		if !limited {
			return next.AuthenticateRequest(req)
		}
		if !t.retain() {
			return nil, false, errRequestEnded
		}
		defer t.release()
		token := bearerToken(req)
		wasKnown := l.tokens.known(token)
		// The copy shares the headers, from which authenticators remove credentials.
		response, ok, err := next.AuthenticateRequest(req.WithContext(context.WithoutCancel(req.Context())))
		switch {
		case token == "":
		case !ok && !isReviewFailure(err):
			l.tokens.forget(token)
		case ok && !l.Verified(req):
			l.tokens.remember(token)
			if !wasKnown {
				t.transfer(func() func() { give, _ := l.acquireKnown(req, token); return give })
			}
		}
		return response, ok, err
	})
}

// isReviewFailure tells whether an error says nothing of the token, but that it could
// not be reviewed.
func isReviewFailure(err error) bool {
	var all utilerrors.Aggregate // It has no Unwrap.
	if errors.As(err, &all) {
		return slices.ContainsFunc(all.Errors(), isReviewFailure)
	}
	var status apierrors.APIStatus
	var network net.Error // also a context's deadline
	return errors.As(err, &status) || errors.As(err, &network) || errors.Is(err, context.Canceled)
}

// WithRetainedSlot returns next with the request's slot held until next has returned.
func (l *Limiter) WithRetainedSlot(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		t, limited := req.Context().Value(reservationKey{}).(*reservation)
		switch {
		case !limited:
		case !t.retain():
			return
		default:
			defer t.release()
			if t.isRejected() {
				reject(w, "known")
				return
			}
		}
		next.ServeHTTP(w, req)
	})
}
