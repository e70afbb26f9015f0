// SPDX-License-Identifier: Apache-2.0

package floods

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"golang.org/x/time/rate"
	"k8s.io/client-go/rest"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

const (
	// floodFor is how long streams are opened and reset, on so many connections,
	// and so many a second in all. It is longer than it takes to renew the Lease
	// several times.
	floodFor         = 8 * time.Second
	connections      = 20
	streamsPerSecond = 3000
)

// resetStreams: clients without a credential open streams, each a request with
// a new token, and reset them at once.
func (env *environment) resetStreams(t *testing.T) {
	reviews := env.metric(t, "apiserver_delegated_authn_request_total")
	const least = 1000
	var opened atomic.Int64
	began := time.Now()
	env.served(t, func(enough <-chan struct{}) {
		ctx, cancel := floodContext(t, floodFor, enough, func() bool { return opened.Load() > least })
		defer cancel()
		pace := rate.NewLimiter(streamsPerSecond, connections)
		var all sync.WaitGroup
		for range connections {
			all.Go(func() {
				// The server may close the connection.
				for ctx.Err() == nil {
					if err := env.openAndReset(ctx, pace, &opened); err != nil && ctx.Err() == nil && pace.Wait(ctx) != nil {
						return
					}
				}
			})
		}
		all.Wait()
	})
	assert.Greater(t, opened.Load(), int64(least))
	done := env.metric(t, "apiserver_delegated_authn_request_total") - reviews
	// One address may have 25 tokens reviewed a second, and 50 at once.
	most := 25*time.Since(began).Seconds() + 50 + 10
	t.Logf("%d streams were opened and reset; %.0f tokens were reviewed", opened.Load(), done)
	assert.Less(t, done, most)
	assert.Positive(t, env.metric(t, "metalstack_apiserver_direct_requests_refused_total"))
}

// openAndReset floods one connection until ctx ends or the server closes it.
func (env *environment) openAndReset(ctx context.Context, pace *rate.Limiter, opened *atomic.Int64) error {
	host := strings.TrimPrefix(env.server.URL, "https://")
	dialer := &tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}}
	conn, err := dialer.DialContext(ctx, "tcp", host)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		return err
	}
	framer := http2.NewFramer(conn, nil)
	if err := framer.WriteSettings(); err != nil {
		return err
	}
	if err := framer.WriteSettingsAck(); err != nil {
		return err
	}
	go func() { _, _ = io.Copy(io.Discard, conn) }()
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for stream := uint32(1); pace.Wait(ctx) == nil; stream += 2 {
		token := make([]byte, 16)
		_, _ = rand.Read(token)
		block.Reset()
		for _, field := range [][2]string{
			{":method", http.MethodGet}, {":scheme", "https"}, {":authority", host},
			{":path", "/apis/" + v1alpha4.SchemeGroupVersion.String() + "/metalstackmachines"},
			{"authorization", "Bearer " + hex.EncodeToString(token)},
		} {
			if err := encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}); err != nil {
				return err
			}
		}
		if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true}); err != nil {
			return err
		}
		if err := framer.WriteRSTStream(stream, http2.ErrCodeCancel); err != nil {
			return err
		}
		opened.Add(1)
	}
	return ctx.Err()
}

// waiting is how many requests ask for a revision of the future.
const waiting = 450

// futureRevisions: a user asks for revisions that will not be issued, past the
// kube-apiserver and through it.
func (env *environment) futureRevisions(t *testing.T) {
	future := time.Now().Add(time.Hour).UnixMicro()
	for name, config := range map[string]*rest.Config{"past": env.past(env.User(other)), "through": env.User(other)} {
		t.Run(name, func(t *testing.T) {
			var answers sync.Map
			env.served(t, func(enough <-chan struct{}) {
				for env.ask450(t, config, future, &answers); t.Context().Err() == nil; env.ask450(t, config, future, &answers) {
					select {
					case <-enough:
						return
					default: // the machine is slow
					}
				}
			})
			answers.Range(func(code, n any) bool {
				t.Logf("%v: %d", code, n.(*atomic.Int64).Load())
				assert.Contains(t, []int{http.StatusGatewayTimeout, http.StatusTooManyRequests}, code)
				return true
			})
		})
	}
}

func (env *environment) ask450(t *testing.T, config *rest.Config, revision int64, answers *sync.Map) {
	client, err := rest.HTTPClientFor(config)
	if !assert.NoError(t, err) {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	// All of them share the connection that this one makes.
	if !assert.NoError(t, listWith(ctx, client, config.Host, 0)) {
		return
	}
	var all sync.WaitGroup
	for range waiting {
		all.Go(func() {
			err := listWith(ctx, client, config.Host, revision)
			answer, isStatus := errors.AsType[status](err)
			if !assert.True(t, isStatus, "%v", err) {
				return
			}
			n, _ := answers.LoadOrStore(answer.code, &atomic.Int64{})
			n.(*atomic.Int64).Add(1)
		})
	}
	all.Wait()
}

// knownClients: a user floods the server past the kube-apiserver with requests
// that it answers. Prometheus and the kube-apiserver have places of their own.
func (env *environment) knownClients(t *testing.T) {
	mallory := env.past(env.User(other))
	client, err := rest.HTTPClientFor(mallory)
	require.NoError(t, err)
	env.served(t, func(enough <-chan struct{}) {
		ctx, cancel := floodContext(t, 3*time.Second, enough, func() bool { return true })
		defer cancel()
		pace := rate.NewLimiter(1000, 100)
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				for pace.Wait(ctx) == nil {
					_ = listWith(ctx, client, mallory.Host, 0) // refused or served
				}
			})
		}
		all.Wait()
	})
}
