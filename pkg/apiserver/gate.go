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

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/scheme"
)

// retryAfterSeconds is when clients shall come again that the gate sends away.
const retryAfterSeconds = 1

// gateState is what becomes of requests for objects.
type gateState int

const (
	// gateClosed: they are sent away, because there is no whole view of the
	// objects yet: an empty list would be believed.
	gateClosed gateState = iota
	// gateOpen: they are answered.
	gateOpen
	// gateHeld: they wait, because another server is about to answer.
	gateHeld
	// gateShut: they are sent away for good, and connections are closed, so that
	// the next one leads elsewhere.
	gateShut
)

// gate stands before the objects. It only goes on: from closed to open, held
// and shut, where some of them may be left out.
type gate struct {
	// reason says why it is closed, and whether another server is the active one.
	reason func() (text string, elsewhere bool)

	mu      sync.Mutex
	state   gateState
	changed chan struct{} // closed, and replaced, when the state changes
	writes  int           // requests inside that may write
	idle    chan struct{} // closed when there are none; nil if nobody waits
}

func newGate(reason func() (string, bool)) *gate {
	return &gate{reason: reason, state: gateClosed, changed: make(chan struct{})}
}

// become changes the state; it is false if the gate is beyond it.
func (g *gate) become(next gateState) bool {
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

func (g *gate) isOpen() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.state == gateOpen
}

// drain waits until no request is inside any more that may write.
func (g *gate) drain(ctx context.Context) error {
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

// enter waits as long as the gate is held. It returns the state in which the
// request found it, and for an open one the function that leaves it.
func (g *gate) enter(ctx context.Context, verb string) (state gateState, leave func()) {
	for {
		g.mu.Lock()
		state, changed := g.state, g.changed
		switch {
		case state == gateOpen && writeVerbs.Has(verb):
			g.writes++
			g.mu.Unlock()
			return state, g.leave
		case state != gateHeld:
			g.mu.Unlock()
			return state, func() {}
		}
		g.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return gateShut, nil
		}
	}
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.writes--; g.writes == 0 && g.idle != nil {
		close(g.idle)
		g.idle = nil
	}
}

// before puts the gate before a handler. Only requests for objects of the group
// meet it: discovery and health are answered in any case.
func (g *gate) before(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		info, ok := request.RequestInfoFrom(req.Context())
		if !ok || !info.IsResourceRequest || info.APIGroup != infrastructure.GroupName {
			if _, elsewhere := g.why(); elsewhere {
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
		text, elsewhere := g.why()
		if elsewhere {
			closeConnection(w)
		}
		err := apierrors.NewServiceUnavailable(text)
		err.ErrStatus.Details = &metav1.StatusDetails{RetryAfterSeconds: retryAfterSeconds}
		responsewriters.ErrorNegotiated(err, scheme.Codecs, scheme.StorageVersion, w, req)
	})
}

// why is why requests are sent away, and whether they are answered elsewhere.
func (g *gate) why() (text string, elsewhere bool) {
	g.mu.Lock()
	state := g.state
	g.mu.Unlock()
	if state == gateOpen || state == gateHeld {
		return "", false
	}
	text, elsewhere = g.reason()
	return text, elsewhere || state == gateShut
}

// closeConnection lets the client, which is the kube-apiserver, make another
// connection for its next request: the Service leads that one elsewhere. With
// HTTP/2 it becomes a GOAWAY, and what is under way comes to its end.
func closeConnection(w http.ResponseWriter) { w.Header().Set("Connection", "close") }
