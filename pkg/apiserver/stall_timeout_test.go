// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// stallServer answers /endless with bytes for ever, /large with a megabyte in
// one write, and says when the writing of an endless answer has failed. Its
// connections are pipes, which hold no byte that was not read, and have no time but
// that of a bubble: on a busy machine, a client that reads would be late, too.
type stallServer struct {
	*httptest.Server
	pipes  *pipeListener
	failed chan error
	// closed receives closed connections.
	closed chan struct{}
}

// pipeListener accepts the other ends of connections that were dialled.
type pipeListener struct {
	dialled chan net.Conn
	closed  chan struct{}
	close   func()
}

func newPipeListener() *pipeListener {
	closed := make(chan struct{})
	return &pipeListener{make(chan net.Conn), closed, sync.OnceFunc(func() { close(closed) })}
}

// Accept implements net.Listener.
func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.dialled:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *pipeListener) Close() error {
	l.close()
	return nil
}

// Addr implements net.Listener.
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 443} }

func (l *pipeListener) dial() (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case l.dialled <- there:
		return here, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func newStallServer(t *testing.T, response, connection time.Duration) *stallServer {
	t.Helper()
	s := &stallServer{pipes: newPipeListener(), failed: make(chan error, 10), closed: make(chan struct{}, 10)}
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
	s.Server = &httptest.Server{
		Listener: stallListener{s.pipes, connection}, EnableHTTP2: true,
		Config: &http.Server{Handler: withStallTimeout(handler, response), ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateClosed {
				s.closed <- struct{}{}
			}
		}},
	}
	s.StartTLS()
	s.Client().Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) { return s.pipes.dial() }
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
	case <-time.After(time.Minute):
		t.Fatal("a write for a client that does not read does not fail")
	}
}

func TestStallTimeout_AbortsUnreadResponseButNotItsConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStallServer(t, DefaultStallTimeout, time.Hour)
		stalledOne := s.get(t, s.Client(), "/endless")
		require.Equal(t, 2, stalledOne.ProtoMajor)
		other := s.get(t, s.Client(), "/endless")
		read := make(chan error, 1)
		go func() {
			part := make([]byte, 16<<10)
			for {
				if _, err := other.Body.Read(part); err != nil {
					read <- err
					return
				}
				time.Sleep(DefaultStallTimeout / 100)
			}
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
	})
}

func TestStallTimeout_ClosesUnreadConnection(t *testing.T) {
	t.Parallel()
	for protocol, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStallServer(t, time.Hour, DefaultStallTimeout)
				read := make(chan struct{})
				defer close(read)
				client := s.Client()
				transport := client.Transport.(*http.Transport)
				transport.ForceAttemptHTTP2 = http2
				if !http2 {
					transport.TLSClientConfig.NextProtos = []string{"http/1.1"}
				}
				transport.DialContext = func(context.Context, string, string) (net.Conn, error) {
					conn, err := s.pipes.dial()
					return &deafConn{Conn: conn, left: 100_000, read: read}, err
				}
				require.Equal(t, protocol[:6], s.get(t, client, "/endless").Proto[:6])
				s.awaitFailure(t)
				select {
				case <-s.closed:
				case <-time.After(time.Minute):
					t.Fatal("the connection is not closed")
				}
			})
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
	synctest.Test(t, func(t *testing.T) {
		s := newStallServer(t, DefaultStallTimeout, DefaultStallTimeout)
		client := s.Client()
		client.Transport.(*http.Transport).HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10}
		res := s.get(t, client, "/large")
		began, got := time.Now(), 0
		part := make([]byte, 16<<10)
		for {
			n, err := res.Body.Read(part)
			got += n
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
			time.Sleep(DefaultStallTimeout / 20)
		}
		assert.Equal(t, 1<<20, got)
		assert.Greater(t, time.Since(began), DefaultStallTimeout, "it took longer than nothing may be taken")
	})
}
