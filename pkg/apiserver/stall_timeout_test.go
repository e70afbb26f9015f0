// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// stallServer answers /endless with bytes for ever, /large with a megabyte in
// one write, and says when the writing of an endless answer has failed.
type stallServer struct {
	*httptest.Server
	failed chan error
	// closed receives closed connections.
	closed chan struct{}
}

func newStallServer(t *testing.T, response, connection time.Duration) *stallServer {
	t.Helper()
	s := &stallServer{failed: make(chan error, 10), closed: make(chan struct{}, 10)}
	handler := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/large" {
			_, _ = w.Write(make([]byte, 1<<20))
			return
		}
		for {
			if _, err := w.Write(make([]byte, 10_000)); err != nil {
				s.failed <- err
				return
			}
			w.(http.Flusher).Flush()
		}
	})
	s.Server = httptest.NewUnstartedServer(withStallTimeout(handler, response))
	s.EnableHTTP2 = true
	s.Listener = stallListener{s.Listener, connection}
	// What the kernel holds is less than what a client of HTTP/2 takes unasked.
	s.Config.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		_ = conn.(*tls.Conn).NetConn().(*stallConn).Conn.(*net.TCPConn).SetWriteBuffer(64 << 10)
		return ctx
	}
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			s.closed <- struct{}{}
		}
	}
	s.StartTLS()
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

func (s *stallServer) get(t *testing.T, client *http.Client, path string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, nil)
	require.NoError(t, err)
	res, err := client.Do(req)
	require.NoError(t, err)
	t.Cleanup(func() { res.Body.Close() })
	return res
}

func (s *stallServer) awaitFailure(t *testing.T) {
	t.Helper()
	select {
	case <-s.failed:
	case <-time.After(30 * time.Second):
		t.Fatal("a write for a client that does not read does not fail")
	}
}

func TestStallTimeout_AbortsUnreadResponseButNotItsConnection(t *testing.T) {
	t.Parallel()
	s := newStallServer(t, 200*time.Millisecond, time.Hour)
	stalledOne := s.get(t, s.Client(), "/endless")
	require.Equal(t, 2, stalledOne.ProtoMajor)
	other := s.get(t, s.Client(), "/endless")
	read := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, other.Body)
		read <- err
	}()
	s.awaitFailure(t)
	select {
	case err := <-read:
		t.Errorf("a client that reads is disconnected, too: %v", err)
	case <-s.closed:
		t.Error("the connection is closed")
	default:
	}
	other.Body.Close()
	<-read
	_, err := io.Copy(io.Discard, stalledOne.Body)
	assert.Error(t, err, "the client learns of it")
}

func TestStallTimeout_ClosesUnreadConnection(t *testing.T) {
	t.Parallel()
	for protocol, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			s := newStallServer(t, time.Hour, 200*time.Millisecond)
			read := make(chan struct{})
			defer close(read)
			client := s.Client()
			transport := client.Transport.(*http.Transport)
			transport.ForceAttemptHTTP2 = http2
			if !http2 {
				transport.TLSClientConfig.NextProtos = []string{"http/1.1"}
			}
			transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
				if err != nil {
					return nil, err
				}
				return &deafConn{Conn: conn, left: 100_000, read: read}, conn.(*net.TCPConn).SetReadBuffer(16 << 10)
			}
			require.Equal(t, protocol[:6], s.get(t, client, "/endless").Proto[:6])
			s.awaitFailure(t)
			select {
			case <-s.closed:
			case <-time.After(30 * time.Second):
				t.Fatal("the connection is not closed")
			}
		})
	}
}

// deafConn is a connection of which so many bytes are read, and no more until
// the end of the test.
type deafConn struct {
	net.Conn
	left int
	read <-chan struct{}
}

// Read implements net.Conn.
func (c *deafConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		<-c.read
	}
	n, err := c.Conn.Read(p[:min(len(p), 1000)])
	c.left -= n
	return n, err
}

func TestStallTimeout_SparesSlowReader(t *testing.T) {
	t.Parallel()
	const limit = time.Second
	s := newStallServer(t, limit, limit)
	client := s.Client()
	client.Transport.(*http.Transport).HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10}
	res := s.get(t, client, "/large")
	pause := time.NewTicker(limit / 20)
	defer pause.Stop()
	began, got := time.Now(), 0
	part := make([]byte, 16<<10)
	for {
		n, err := res.Body.Read(part)
		got += n
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		<-pause.C
	}
	assert.Equal(t, 1<<20, got)
	assert.Greater(t, time.Since(began), limit, "it took longer than nothing may be taken")
}
