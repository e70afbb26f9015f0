// SPDX-License-Identifier: Apache-2.0

package inflight

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
)

// small limits are used up by a few requests.
var small = Limits{
	Unknown: 4, UnknownPerAddress: 2, TokensPerSecond: 5, TokensPerAddress: 5,
	Known: 2, Watches: 1, Metrics: 1, MetricsPerClient: 1, ProbesPerConnection: 2, Connections: 4,
}

// chain is a Limiter with handlers around it as in a server: the handler in the
// middle continues, as the generic server's handlers do, when its client disconnects.
type chain struct {
	*Limiter
	http.Handler
	// authenticating holds authentication until it is closed, and serving the
	// innermost handler; nil: they do not wait.
	authenticating, serving chan struct{}

	mu      sync.Mutex
	reviews int
}

func newChain(limits Limits) *chain {
	c := &chain{Limiter: New(Options{
		Limits:               limits,
		FromKubeAPIServer:    func(req *http.Request) bool { return req.Header.Get("Certificate") == "front-proxy" },
		HasClientCertificate: func(req *http.Request) bool { return req.Header.Get("Certificate") != "" },
		LongRunning:          func(req *http.Request) bool { return req.URL.Query().Has("watch") },
	})}
	authenticate := c.Authenticator(authenticator.RequestFunc(c.review))
	inner := c.WithRetainedSlot(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if c.serving != nil {
			<-c.serving
		}
		w.WriteHeader(http.StatusOK)
	}))
	whole := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		done := make(chan int, 1)
		go func() {
			result := httptest.NewRecorder()
			if _, ok, _ := authenticate.AuthenticateRequest(req); ok {
				inner.ServeHTTP(result, req)
			} else {
				result.WriteHeader(http.StatusUnauthorized)
			}
			done <- result.Code
		}()
		select {
		case code := <-done:
			w.WriteHeader(code)
		case <-req.Context().Done():
		}
	})
	c.Handler = c.WithLimits(whole, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if c.serving != nil {
			<-c.serving
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	return c
}

func (c *chain) review(req *http.Request) (*authenticator.Response, bool, error) {
	c.mu.Lock()
	c.reviews++
	c.mu.Unlock()
	if c.authenticating != nil {
		select {
		case <-c.authenticating:
		case <-req.Context().Done():
			return nil, false, req.Context().Err()
		}
	}
	if bearerToken(req) == "good" || req.Header.Get("Certificate") != "" {
		return &authenticator.Response{User: &user.DefaultInfo{Name: "alice"}}, true, nil
	}
	return nil, false, errors.New("unknown token")
}

func request(path, remote string, header ...string) *http.Request {
	req := httptest.NewRequest(http.MethodGet, path, nil)
	req.RemoteAddr = remote
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return req
}

func withToken(remote, token string) *http.Request {
	return request("/apis", remote, "Authorization", "Bearer "+token)
}

// ask returns the status that a request is answered with.
func (c *chain) ask(req *http.Request) int {
	w := httptest.NewRecorder()
	c.ServeHTTP(w, req)
	return w.Code
}

func TestLimiter_CountsRequestUntilItsTokenReviewEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChain(small)
		c.authenticating = make(chan struct{})
		ctx, reset := context.WithCancel(t.Context())
		for i := range small.UnknownPerAddress {
			go c.ask(withToken("10.0.0.1:"+strconv.Itoa(i), "random-"+strconv.Itoa(i)).WithContext(ctx))
		}
		synctest.Wait()
		reset()
		synctest.Wait()
		for i := range 1000 {
			assert.Equal(t, http.StatusTooManyRequests, c.ask(withToken("10.0.0.1:1", "other-"+strconv.Itoa(i))))
		}
		assert.Equal(t, small.UnknownPerAddress, c.reviews, "nothing is reviewed for the ones that were refused")
		close(c.authenticating)
		synctest.Wait()
		assert.Equal(t, http.StatusUnauthorized, c.ask(withToken("10.0.0.1:1", "third")), "the slots were released")
	})
}

func TestLimiter_CountsRequestUntilItsHandlerEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChain(small)
		assert.Equal(t, http.StatusOK, c.ask(withToken("10.0.0.1:1", "good")))
		c.serving = make(chan struct{})
		ctx, reset := context.WithCancel(t.Context())
		for range small.Known {
			go c.ask(withToken("10.0.0.1:1", "good").WithContext(ctx))
		}
		synctest.Wait()
		reset()
		synctest.Wait()
		assert.Equal(t, http.StatusTooManyRequests, c.ask(withToken("10.0.0.2:1", "good")))
		close(c.serving)
		synctest.Wait()
		assert.Equal(t, http.StatusOK, c.ask(withToken("10.0.0.2:1", "good")))
	})
}

func TestLimiter_BoundsTokenReviewsPerSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChain(small)
		answers := map[int]int{}
		for i := range 100 {
			answers[c.ask(withToken("10.0.0.1:1", strconv.Itoa(i)))]++
		}
		assert.Equal(t, map[int]int{http.StatusUnauthorized: 10, http.StatusTooManyRequests: 90}, answers)
		assert.Equal(t, http.StatusTooManyRequests, c.ask(request("/apis", "10.0.0.1:1", "Sec-WebSocket-Protocol", protocolPrefix+"eA")), "a token in another place")
		assert.Equal(t, 10, c.reviews)
		time.Sleep(time.Second)
		assert.Equal(t, http.StatusUnauthorized, c.ask(withToken("10.0.0.1:1", "later")))
	})
}

func TestLimiter_ServesKnownClientsWhileUnknownOnesAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChain(small)
		require.Equal(t, http.StatusOK, c.ask(withToken("10.0.0.9:1", "good")))
		c.authenticating = make(chan struct{})
		for i := range small.Unknown {
			go c.ask(withToken("10.0.0."+strconv.Itoa(i/small.UnknownPerAddress)+":1", strconv.Itoa(i)))
		}
		synctest.Wait()
		assert.Equal(t, http.StatusTooManyRequests, c.ask(request("/apis", "10.0.0.8:1")))
		authenticating := c.authenticating
		c.authenticating = nil
		for name, req := range map[string]*http.Request{
			"the kube-apiserver":              request("/apis", "10.0.0.1:1", "Certificate", "front-proxy"),
			"a verified certificate":          request("/apis", "10.0.0.1:1", "Certificate", "user"),
			"a token that was accepted":       withToken("10.0.0.1:1", "good"),
			"the same, for metrics":           request("/metrics", "10.0.0.1:1", "Authorization", "Bearer good"),
			"a watch with a known credential": request("/apis?watch=1", "10.0.0.1:1", "Certificate", "user"),
		} {
			assert.Equal(t, http.StatusOK, c.ask(req), name)
		}
		assert.Equal(t, http.StatusNoContent, c.ask(request("/livez", "10.0.0.1:1")), "a probe")
		close(authenticating)
	})
}

func TestLimiter_RemembersAcceptedTokenForAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChain(small)
		prometheus := func() *http.Request { return request("/metrics", "10.0.0.9:1", "Authorization", "Bearer good") }
		require.Equal(t, http.StatusOK, c.ask(prometheus()))
		time.Sleep(59 * time.Minute)
		require.Equal(t, http.StatusOK, c.ask(prometheus()))
		time.Sleep(2 * time.Minute)
		for range small.Unknown { // the share of unknown clients is used up
			require.True(t, c.unknown.tryAcquire())
		}
		assert.Equal(t, http.StatusOK, c.ask(prometheus()), "61 minutes after the first time")
		time.Sleep(tokenTTL)
		assert.Equal(t, http.StatusTooManyRequests, c.ask(prometheus()), "not accepted for an hour")
	})
}

func TestLimiter_RemembersTokenThatCannotBeReviewed(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err   error
		known bool
	}{
		"deadline":                  {&url.Error{Op: "Post", Err: context.DeadlineExceeded}, true},
		"context":                   {context.DeadlineExceeded, true},
		"aggregate":                 {utilerrors.NewAggregate([]error{&url.Error{Op: "Post", Err: errors.New("refused")}}), true},
		"answer":                    {apierrors.NewInternalError(errors.New("etcd")), true},
		"rejected":                  {errors.New("invalid bearer token"), false},
		"rejected of two":           {utilerrors.NewAggregate([]error{errors.New("invalid bearer token"), errors.New("no certificate")}), false},
		"rejected without an error": {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newChain(small)
			require.Equal(t, http.StatusOK, c.ask(withToken("10.0.0.9:1", "good")))
			next := authenticator.RequestFunc(func(*http.Request) (*authenticator.Response, bool, error) { return nil, false, test.err })
			before := c.WithLimits(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
				_, _, _ = c.Authenticator(next).AuthenticateRequest(req)
			}), http.NotFoundHandler())
			before.ServeHTTP(httptest.NewRecorder(), withToken("10.0.0.9:1", "good"))
			assert.Equal(t, test.known, c.tokens.known("good"))
		})
	}
}

func TestLimiter_BoundsMetricsRequestsPerClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := small
		limits.Metrics, limits.MetricsPerClient = 3, 2
		c := newChain(limits)
		c.serving = make(chan struct{})
		scrape := func(token string) *http.Request {
			return request("/metrics", "10.0.0.1:1", "Authorization", "Bearer "+token)
		}
		c.tokens.remember("good")
		c.tokens.remember("another")
		go c.ask(scrape("good"))
		go c.ask(scrape("good"))
		synctest.Wait()
		assert.Equal(t, http.StatusTooManyRequests, c.ask(scrape("good")))
		assert.Len(t, c.metrics, 2)
		assert.Equal(t, http.StatusUnauthorized, c.ask(scrape("another")), "it has a slot, and is not accepted")
		c.tokens.forget("good")
		assert.Equal(t, http.StatusTooManyRequests, c.ask(scrape("good")), "nor more by the share of unknown clients")
		close(c.serving)
		synctest.Wait()
		assert.Empty(t, c.metrics)
		assert.Empty(t, c.scrapes.n)
	})
}

func TestLimiter_SeparatesSharesOfKnownClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChain(small)
		c.serving = make(chan struct{})
		known := func(path string) *http.Request { return request(path, "10.0.0.1:1", "Certificate", "user") }
		for range small.Known {
			go c.ask(known("/apis"))
		}
		go c.ask(known("/apis?watch=1"))
		synctest.Wait()
		assert.Equal(t, http.StatusTooManyRequests, c.ask(known("/apis")))
		assert.Equal(t, http.StatusTooManyRequests, c.ask(known("/apis?watch=1")))
		go c.ask(known("/metrics"))
		synctest.Wait()
		assert.Equal(t, http.StatusTooManyRequests, c.ask(known("/metrics")))
		close(c.serving)
		synctest.Wait()
		assert.Equal(t, http.StatusOK, c.ask(known("/metrics")))
	})
}

func TestLimiter_TransfersAcceptedClientToKnownShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChain(small)
		c.serving = make(chan struct{})
		watch := request("/apis?watch=1", "10.0.0.1:1", "Authorization", "Bearer good")
		go c.ask(watch)
		synctest.Wait()
		assert.Empty(t, c.unknown, "a watch of a client that is known by now takes no room from others")
		assert.Len(t, c.watches, 1)
		c.tokens.forget("good")
		second := watch.Clone(t.Context())
		assert.Equal(t, http.StatusTooManyRequests, c.ask(second), "and its own share is bounded")
		close(c.serving)
		synctest.Wait()
		assert.Empty(t, c.watches)
		assert.Empty(t, c.unknown)
	})
}

func TestLimiter_BoundsProbesPerConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChain(small)
		c.serving = make(chan struct{})
		for range small.ProbesPerConnection {
			go c.ask(request("/livez", "10.0.0.1:1"))
		}
		synctest.Wait()
		assert.Equal(t, http.StatusTooManyRequests, c.ask(request("/livez", "10.0.0.1:1")))
		close(c.serving)
		synctest.Wait()
		assert.Equal(t, http.StatusNoContent, c.ask(request("/livez", "10.0.0.1:1")))
	})
}

// pipes is a listener of connections that are not there, from addresses.
type pipes struct {
	net.Listener
	from []string
}

type pipe struct {
	net.Conn
	remote net.Addr
}

func (p pipe) RemoteAddr() net.Addr { return p.remote }

func (p *pipes) Accept() (net.Conn, error) {
	address, err := net.ResolveTCPAddr("tcp", p.from[0])
	p.from = p.from[1:]
	near, _ := net.Pipe()
	return pipe{near, address}, err
}

func TestListener_ClosesConnectionOfBusiestAddress(t *testing.T) {
	t.Parallel()
	c := newChain(small)
	l := c.Listener(&pipes{from: []string{"10.0.0.1:1", "10.0.0.2:1", "10.0.0.2:2", "10.0.0.2:3", "10.0.0.3:1", "[2001:db8::1]:1", "[2001:db8::2]:1"}})
	accept := func() net.Conn {
		conn, err := l.Accept()
		require.NoError(t, err)
		return conn
	}
	closed := func(conn net.Conn) bool { return conn.SetDeadline(time.Time{}) != nil }
	proxy := accept()
	assert.Equal(t, http.StatusOK, c.ask(request("/apis", proxy.RemoteAddr().String(), "Certificate", "front-proxy")))
	first, second, third, fourth := accept(), accept(), accept(), accept()
	for _, conn := range []net.Conn{proxy, first, second, third, fourth} {
		assert.False(t, closed(conn))
	}
	fifth := accept()
	excess := 0
	for _, conn := range []net.Conn{first, second, third} {
		if closed(conn) {
			excess++
		}
	}
	assert.Equal(t, 1, excess, "their address has the most connections")
	require.NoError(t, fourth.Close())
	sixth := accept()
	for _, conn := range []net.Conn{proxy, fifth, sixth} {
		assert.False(t, closed(conn))
	}
	assert.Equal(t, small.Connections, c.connections.n)
}

func TestListener_CountsConnectionFromReusedPort(t *testing.T) {
	t.Parallel()
	limits := small
	limits.Connections = 2
	c := newChain(limits)
	l := c.Listener(&pipes{from: []string{"10.0.0.1:1", "10.0.0.1:1", "10.0.0.1:1", "10.0.0.2:1"}})
	accept := func() net.Conn {
		conn, err := l.Accept()
		require.NoError(t, err)
		return conn
	}
	reset, live := accept(), accept()
	require.NoError(t, reset.Close())
	assert.Equal(t, 1, c.connections.n)
	assert.Equal(t, []*connection{live.(*connection)}, c.connections.byAddress["10.0.0.1"])
	assert.Equal(t, http.StatusOK, c.ask(request("/apis", "10.0.0.1:1", "Certificate", "front-proxy")))
	assert.Zero(t, c.connections.n, "the live one is trusted")
	third, other := accept(), accept()
	require.NoError(t, live.Close())
	assert.Equal(t, 2, c.connections.n)
	require.NoError(t, third.Close())
	require.NoError(t, third.Close())
	require.NoError(t, other.Close())
	assert.Zero(t, c.connections.n)
	assert.Empty(t, c.connections.byAddress)
	assert.Empty(t, c.connections.latest)
}

func TestClientAddress_IsTheNetworkOfIPv6(t *testing.T) {
	t.Parallel()
	for remote, want := range map[string]string{
		"10.0.0.1:443": "10.0.0.1", "[::ffff:10.0.0.1]:443": "10.0.0.1",
		"[2001:db8::1]:443": "2001:db8::/64", "[2001:db8::ffff:1]:80": "2001:db8::/64", "pipe": "pipe",
	} {
		assert.Equal(t, want, clientAddress(remote))
	}
}
