// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"net/http"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/endpoints/request"

	firewallv2 "metal-stack.io/infrastructure-apiserver/pkg/apis/firewall/v2"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/scheme"
)

// retryAfterSeconds is the Retry-After of refused requests.
const retryAfterSeconds = 1

// gateState decides what happens to requests for objects.
type gateState int

const (
	// gateUnready: they are refused, because the view of the objects is incomplete,
	// and clients would take an empty list for the truth.
	gateUnready gateState = iota
	// gateOpen: they are served.
	gateOpen
	// gatePaused: they wait, because another server is about to become active.
	gatePaused
	// gateTerminated: they are refused for good, and connections are closed, so that
	// clients connect to another server.
	gateTerminated
)

// servingGate is in front of the handlers of objects. Its state only advances, and
// can skip states.
type servingGate struct {
	// reason says why it is not open, and whether another server is the active one.
	reason func() (text string, elsewhere bool)

	mu      sync.Mutex
	state   gateState
	changed chan struct{} // closed, and replaced, when the state changes
	writes  int           // requests in flight that may write
	idle    chan struct{} // closed when there are none; nil if nothing waits for it
}

func newServingGate(reason func() (string, bool)) *servingGate {
	return &servingGate{reason: reason, state: gateUnready, changed: make(chan struct{})}
}

// advance changes the state; it returns false if the gate is in that state already,
// or beyond it.
func (g *servingGate) advance(next gateState) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if next <= g.state {
		return false
	}
	g.state = next
	close(g.changed)
	g.changed = make(chan struct{})
	return true
}

func (g *servingGate) isOpen() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.state == gateOpen
}

// drain waits until no request is in flight that may write.
func (g *servingGate) drain(ctx context.Context) error {
	g.mu.Lock()
	if g.writes == 0 {
		g.mu.Unlock()
		return nil
	}
	if g.idle == nil {
		g.idle = make(chan struct{})
	}
	idle := g.idle
	g.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// writeVerbs are those of requests that may write.
var writeVerbs = sets.New("create", "update", "patch", "delete", "deletecollection")

// enter waits while the gate is paused. It returns the state in which the request
// found it, and the function that ends the request if it is open.
func (g *servingGate) enter(ctx context.Context, verb string) (state gateState, leave func()) {
	for {
		g.mu.Lock()
		state, changed := g.state, g.changed
		switch {
		case state == gateOpen && writeVerbs.Has(verb):
			g.writes++
			g.mu.Unlock()
			return state, g.leave
		case state != gatePaused:
			g.mu.Unlock()
			return state, func() {}
		}
		g.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return gateTerminated, nil
		}
	}
}

func (g *servingGate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.writes--; g.writes == 0 && g.idle != nil {
		close(g.idle)
		g.idle = nil
	}
}

// gatedGroups are the groups whose objects are made from metal and records.
var gatedGroups = sets.New(infrastructure.GroupName, firewallv2.GroupName)

// wrap returns next behind the gate. Only requests for objects of these groups pass
// through it: discovery and health are served in any state.
func (g *servingGate) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		info, ok := request.RequestInfoFrom(req.Context())
		if !ok || !info.IsResourceRequest || !gatedGroups.Has(info.APIGroup) {
			if _, elsewhere := g.unavailable(); elsewhere {
				closeConnection(w)
			}
			next.ServeHTTP(w, req)
			return
		}
		state, leave := g.enter(req.Context(), info.Verb)
		if state == gateOpen {
			defer leave()
			next.ServeHTTP(w, req)
			return
		}
		text, elsewhere := g.unavailable()
		if elsewhere {
			closeConnection(w)
		}
		err := apierrors.NewServiceUnavailable(text)
		err.ErrStatus.Details = &metav1.StatusDetails{RetryAfterSeconds: retryAfterSeconds}
		responsewriters.ErrorNegotiated(err, scheme.Codecs, scheme.StorageVersion, w, req)
	})
}

// unavailable returns why requests are refused, and whether another server serves
// them; an empty reason if they are not refused.
func (g *servingGate) unavailable() (text string, elsewhere bool) {
	g.mu.Lock()
	state := g.state
	g.mu.Unlock()
	if state == gateOpen || state == gatePaused {
		return "", false
	}
	text, elsewhere = g.reason()
	return text, elsewhere || state == gateTerminated
}

// closeConnection makes the client, which is the kube-apiserver, open another
// connection for its next request, which the Service routes to another server. With
// HTTP/2 it becomes a GOAWAY, and requests in flight complete.
func closeConnection(w http.ResponseWriter) { w.Header().Set("Connection", "close") }
