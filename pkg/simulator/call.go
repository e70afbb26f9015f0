// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// call is one request on its way through the simulator.
type call struct {
	s      *Simulator
	r      *http.Request
	ctx    context.Context
	name   string
	user   user
	params []string
	given  any // a body that needs no decoding, of calls from inside
	faults []*activeFault
	left   bool // a fault made the caller go away
	busy   time.Duration
	worked bool // phases have accounted for the cost
	inner  bool // made by the simulator itself: costs nothing
}

// serve answers one HTTP request.
func (s *Simulator) serve(w http.ResponseWriter, r *http.Request) {
	c := &call{s: s, r: r, ctx: r.Context()}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))

	rt, params, failure := s.routes.find(r)
	c.name = "unknown"
	if rt != nil {
		c.name, c.params = rt.name, params
	}
	c.faults = s.faults.take(c.name, r)

	var status int
	var answer any
	user, err := s.authenticate(r)
	switch {
	case c.refused():
		s.stats.count(c.name, 0, true)
		panic(http.ErrAbortHandler)
	case c.hung():
		s.stats.count(c.name, 0, true)
		panic(http.ErrAbortHandler)
	case err != nil:
	case failure != 0:
		err = withStatus(failure, errors.New(strconv.Itoa(failure)+": "+routerText(failure)))
	case !user.may(rt.access):
		err = forbidden(rt.access)
	default:
		c.user = user
		status, answer, err = c.run(rt)
	}
	if err != nil {
		status = statusOf(err)
	}
	s.stats.count(c.name, c.busy, status >= 400)

	for _, f := range c.faults {
		if f.Kind == FaultCommitThenLose {
			panic(http.ErrAbortHandler)
		}
	}
	if c.left {
		panic(http.ErrAbortHandler)
	}
	var b []byte
	if err != nil {
		b = encodeError(status, err)
	} else {
		b = encode(c.truncate(answer), s.cfg.Compact)
	}
	if f, ok := c.has(FaultLateAnswer); ok {
		s.sleep(f.Latency)
	}
	w.Header().Set("Content-Type", "application/json")
	if c.cut() {
		w.Header().Set("Content-Length", strconv.Itoa(len(b)))
		w.WriteHeader(status)
		_, _ = w.Write(b[:len(b)/2])
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(status)
	_, _ = w.Write(b)
}

// run does the call with the faults around it.
func (c *call) run(rt *route) (status int, answer any, err error) {
	for _, f := range c.faults {
		switch f.Kind {
		case FaultLatency:
			if f.Phase == "" {
				c.s.sleep(f.Latency)
			}
		case FaultStatus:
			status := f.Status
			if status == 0 {
				status = http.StatusServiceUnavailable
			}
			return 0, nil, withStatus(status, errors.New(f.Message))
		case FaultCommitThenLose, FaultLateAnswer:
			c.ctx = context.WithoutCancel(c.ctx)
		case FaultCommitThenLate:
			c.ctx = context.WithoutCancel(c.ctx)
			c.s.sleep(f.Latency)
		}
	}
	status, answer, err = rt.handle(c)
	if !c.worked {
		c.spend(flatCost(rt.name))
	}
	return status, answer, err
}

// spend lets the call take time: counted always, waited for with Costs.
// A client that goes away does not end it, as in reality.
func (c *call) spend(d time.Duration) {
	c.worked = true
	if c.inner {
		return
	}
	costs, slowdown := c.s.withCosts()
	d = time.Duration(float64(d) * slowdown)
	c.busy += d
	if costs {
		c.s.sleep(d)
	}
}

func (s *Simulator) withCosts() (on bool, slowdown float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.costs, s.slowdown
}

// phase is a part of a call that faults can single out: it takes its time,
// and a caller may leave in it.
func (c *call) phase(name string, cost time.Duration) {
	for _, f := range c.faults {
		if f.Phase != name {
			continue
		}
		switch f.Kind {
		case FaultLatency:
			c.s.sleep(f.Latency)
		case FaultClientGone:
			c.left = true
		}
	}
	c.spend(cost)
}

// gone says whether the caller has gone away. Only some steps of the
// metal-api ask: those that hand the request's context to a backend.
func (c *call) gone() bool { return c.left || c.ctx.Err() != nil }

var errCanceled = errors.New("context canceled")

func (c *call) param(i int) string {
	if i < len(c.params) {
		return c.params[i]
	}
	return ""
}

func (c *call) query(name string) string {
	if c.r == nil || c.r.URL == nil {
		return ""
	}
	return c.r.URL.Query().Get(name)
}

func routerText(status int) string {
	switch status {
	case http.StatusNotFound:
		return "Page Not Found"
	default:
		return http.StatusText(status)
	}
}

// inside is a call that the simulator makes itself, with the Admin's rights.
func (s *Simulator) inside(name string, body any, params ...string) *call {
	return &call{
		s: s, ctx: context.Background(), name: name, given: body, params: params, inner: true,
		user: user{name: "simulator", email: "somebody@metal-stack.io", access: accessAdmin, tenant: providerTenant},
		r:    &http.Request{Header: http.Header{}, Body: io.NopCloser(strings.NewReader("{}"))},
	}
}
