// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"k8s.io/apiserver/pkg/endpoints/request"

	firewallv2 "metal-stack.io/infrastructure-apiserver/pkg/apis/firewall/v2"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// gated is a handler behind a gate, whose requests take as long as a test says.
type gated struct {
	*servingGate
	handler   http.Handler
	elsewhere bool
	finish    map[string]chan struct{} // by name
}

func newGated() *gated {
	g := &gated{finish: map[string]chan struct{}{"read": make(chan struct{}), "write": make(chan struct{})}}
	g.servingGate = newServingGate(func() (string, bool) { return "another server is the active one", g.elsewhere })
	g.handler = g.wrap(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if info, _ := request.RequestInfoFrom(req.Context()); info.Name != "" {
			<-g.finish[info.Name]
		}
		w.WriteHeader(http.StatusOK)
	}))
	return g
}

// ask makes a request in the background; the answer is there when it has one.
func (g *gated) ask(verb, name string) *httptest.ResponseRecorder {
	return g.askAbout(&request.RequestInfo{IsResourceRequest: true, APIGroup: infrastructure.GroupName, Verb: verb, Name: name})
}

func (g *gated) askAbout(info *request.RequestInfo) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	w.Code = 0
	req := httptest.NewRequest(http.MethodGet, "/", nil)
	go g.handler.ServeHTTP(w, req.WithContext(request.WithRequestInfo(req.Context(), info)))
	synctest.Wait()
	return w
}

func assertSentAway(t *testing.T, w *httptest.ResponseRecorder) {
	t.Helper()
	assert.Equal(t, http.StatusServiceUnavailable, w.Code)
	assert.Equal(t, "1", w.Header().Get("Retry-After"), "clients repeat it by themselves")
	assert.Contains(t, w.Body.String(), "another server is the active one")
}

func TestServingGate_UnreadyRefusesOnlyRequestsForObjects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated()
		for _, verb := range []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"} {
			w := g.ask(verb, "")
			assertSentAway(t, w)
			assert.Empty(t, w.Header().Get("Connection"), "there is nowhere else to go")
		}
		assertSentAway(t, g.askAbout(&request.RequestInfo{IsResourceRequest: true, APIGroup: firewallv2.GroupName, Verb: "list"}))
		discovery := &request.RequestInfo{Verb: "get", Path: "/apis/" + infrastructure.GroupName + "/v1alpha4"}
		assert.Equal(t, http.StatusOK, g.askAbout(discovery).Code)
		g.elsewhere = true
		assert.Equal(t, "close", g.ask("get", "").Header().Get("Connection"))
		w := g.askAbout(discovery)
		assert.Equal(t, http.StatusOK, w.Code)
		assert.Equal(t, "close", w.Header().Get("Connection"))
	})
}

func TestServingGate_PausedDelaysRequestsUntilTerminated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated()
		assert.True(t, g.advance(gateOpen))
		w := g.ask("get", "")
		assert.Equal(t, http.StatusOK, w.Code)
		assert.Empty(t, w.Header().Get("Connection"))

		assert.True(t, g.advance(gatePaused))
		waiting := []*httptest.ResponseRecorder{g.ask("get", ""), g.ask("watch", ""), g.ask("create", "")}
		time.Sleep(time.Second)
		synctest.Wait()
		for _, w := range waiting {
			assert.Zero(t, w.Code, "no answer yet")
		}
		assert.True(t, g.advance(gateTerminated))
		synctest.Wait()
		for _, w := range waiting {
			assertSentAway(t, w)
			assert.Equal(t, "close", w.Header().Get("Connection"), "the next connection leads elsewhere")
		}
		assert.False(t, g.advance(gateOpen), "it does not go back")
		assertSentAway(t, g.ask("get", ""))
	})
}

func TestServingGate_DrainWaitsForWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated()
		g.advance(gateOpen)
		assert.NoError(t, g.drain(t.Context()), "no request is in flight")
		read, watch, write := g.ask("list", "read"), g.ask("watch", "read"), g.ask("patch", "write")
		g.advance(gatePaused)
		limited, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		assert.ErrorIs(t, g.drain(limited), context.DeadlineExceeded)

		drained := errors.New("not yet")
		go func() { drained = g.drain(t.Context()) }()
		synctest.Wait()
		assert.Error(t, drained)
		close(g.finish["write"])
		synctest.Wait()
		assert.NoError(t, drained, "reads are not waited for")
		close(g.finish["read"])
		synctest.Wait()
		for _, w := range []*httptest.ResponseRecorder{read, watch, write} {
			assert.Equal(t, http.StatusOK, w.Code, "a request in flight is answered")
		}
	})
}

func TestServingGate_PausedRequestCanBeCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated()
		g.advance(gatePaused)
		ctx, cancel := context.WithCancel(t.Context())
		left := false
		go func() {
			_, _ = g.enter(ctx, "get")
			left = true
		}()
		synctest.Wait()
		assert.False(t, left)
		cancel()
		synctest.Wait()
		assert.True(t, left)
	})
}
