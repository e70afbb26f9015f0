// SPDX-License-Identifier: Apache-2.0

package client

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	metalapi "github.com/metal-stack/metal-go/api/client"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// Options configure a Client.
type Options struct {
	// URL is the metal-api's, with its base path, e.g. https://api.example/metal.
	URL string
	// HMAC is the shared secret; AuthType its role: AuthEdit (the default) or
	// AuthAdmin.
	HMAC     string
	AuthType string
	// Timeouts are the deadlines of calls; zero fields get DefaultTimeouts'.
	Timeouts Timeouts
	// Clock is the source of time; default the real one. Deadlines are always
	// of real time.
	Clock clock.WithTicker
	// Transport is the HTTP transport; default a pooled one of its own.
	Transport http.RoundTripper
	// Registerer gets the metrics; nil: none does.
	Registerer prometheus.Registerer
	// Fence is asked last before a write, which is not begun if it returns an
	// error; nil: all are.
	Fence func() error
}

// The technical users of the metal-api. Edit is enough for all that this
// project does.
const (
	AuthAdmin = "Metal-Admin"
	AuthEdit  = "Metal-Edit"
)

// Timeouts are the deadlines of calls by what they cost.
type Timeouts struct {
	// Get is for one entity by its id, Find for a query, List for a fleet.
	Get, Find, List time.Duration
	// Allocate is for allocations and Free for frees. They do not end with
	// their caller.
	Allocate, Free time.Duration
	// Operate is for power requests, reinstallations, states and console passwords.
	Operate time.Duration
}

// DefaultTimeouts leave room for a metal-api that is ten times as slow as the
// measured one (docs/metal-api.md, Q63). An allocation that waits for a
// partition's lock takes up to 40 s before the metal-api answers.
var DefaultTimeouts = Timeouts{
	Get:      5 * time.Second,
	Find:     15 * time.Second,
	List:     60 * time.Second,
	Allocate: metal.AllocateTimeout,
	Free:     metal.FreeTimeout,
	Operate:  metal.OperateTimeout,
}

// Client is the metal.Backend that calls the metal-api. Its methods return
// *metal.Error and nothing else. Reads end with their context. Writes do not: a
// caller whose context ends gets an Uncertain error at once, while the call goes on to its own
// deadline, because the metal-api does half of what it was asked when its
// client goes away (docs/metal-api.md, Q33 and Q34).
type Client struct {
	transport *transport
	api       *metalapi.MetalAPI
	fence     func() error

	mu sync.Mutex
	// listeners are called with the answers of writes, also of those whose caller no
	// longer waits.
	listeners []metal.WriteListener
}

var _ metal.Backend = &Client{}

// New returns a client; it does not call.
func New(opts Options) (*Client, error) {
	if opts.HMAC == "" {
		return nil, errors.New("HMAC key is required")
	}
	opts.AuthType = cmp.Or(opts.AuthType, AuthEdit)
	opts.Timeouts = opts.Timeouts.orDefault()
	if opts.Clock == nil {
		opts.Clock = clock.RealClock{}
	}
	w, err := newMetalTransport(opts.URL, opts)
	if err != nil {
		return nil, err
	}
	w.metrics = newClientMetrics(opts.Registerer)
	w.setHMAC(opts.HMAC, opts.AuthType)
	if opts.Fence == nil {
		opts.Fence = func() error { return nil }
	}
	return &Client{transport: w, api: metalapi.New(w, nil), fence: opts.Fence}, nil
}

// maxIdleConns is how many connections are kept: twice as many as observations
// make calls concurrently (observation.DefaultMaxConcurrent).
const maxIdleConns = 200

func newHTTPTransport() http.RoundTripper {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   maxIdleConns,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   5 * time.Second,
		ExpectContinueTimeout: time.Second,
	}
}

// SetHMAC replaces the credential for the calls that begin from now on; an
// empty authType means AuthEdit.
func (c *Client) SetHMAC(hmac, authType string) {
	c.transport.setHMAC(hmac, cmp.Or(authType, AuthEdit))
}

// AddWriteListener implements metal.Backend.
func (c *Client) AddWriteListener(l metal.WriteListener) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.listeners = append(c.listeners, l)
}

// notify passes the answer of a write to the listeners.
func (c *Client) notify(learn func(metal.WriteListener)) {
	c.mu.Lock()
	listeners := c.listeners
	c.mu.Unlock()
	for _, l := range listeners {
		learn(l)
	}
}

// write makes a write: call runs to its end even if ctx ends.
func write[T any](ctx context.Context, c *Client, op string, call func(context.Context) (T, error)) (T, error) {
	var none T
	if err := ctx.Err(); err != nil {
		return none, &metal.Error{Kind: metal.Unavailable, Op: op, Message: "not sent: " + err.Error(), Err: err}
	}
	if err := c.fence(); err != nil {
		return none, &metal.Error{Kind: metal.Unavailable, Op: op, Message: "not sent: " + err.Error(), Err: err}
	}
	type outcome struct {
		value T
		err   error
	}
	done := make(chan outcome, 1)
	go func() {
		value, err := call(context.WithoutCancel(ctx))
		done <- outcome{value, err}
	}()
	select {
	case o := <-done:
		return o.value, o.err
	case <-ctx.Done():
		return none, &metal.Error{
			Kind:    metal.Uncertain,
			Op:      op,
			Message: "still in flight when its caller stopped waiting: " + ctx.Err().Error(),
			Err:     ctx.Err(),
		}
	}
}
