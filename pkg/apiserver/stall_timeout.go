// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"net"
	"net/http"
	"sync"
	"time"

	"k8s.io/apiserver/pkg/endpoints/responsewriter"
	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
)

const (
	// DefaultStallTimeout is how long a client may read nothing of a response before
	// it is disconnected; it resumes its watch from where it was. Until then a stalled
	// watch keeps what it was about to send in memory, which can be every object as it
	// was when the watch began.
	DefaultStallTimeout = 10 * time.Second
	// stallChunk is the most that a client has to read within the timeout.
	stallChunk = 16 << 10
)

var stalledTotal = metrics.NewCounterVec(&metrics.CounterOpts{
	Subsystem: "metalstack_apiserver", Name: "stalled_total", StabilityLevel: metrics.ALPHA,
	Help: "Responses and connections that were aborted because their client read nothing for the stall timeout.",
}, []string{"kind"})

var registerStalled = sync.OnceFunc(func() {
	legacyregistry.MustRegister(stalledTotal)
	stalledTotal.WithLabelValues("response")
	stalledTotal.WithLabelValues("connection")
})

// withStallTimeout aborts responses of which the client reads nothing for the timeout.
// It may go on reading others on the same connection: a proxy shares one among many
// clients. This has to be the outermost handler.
func withStallTimeout(next http.Handler, limit time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		s := &stallWriter{ResponseWriter: w, timeout: limit}
		defer s.stopTimer()
		next.ServeHTTP(responsewriter.WrapForHTTP1Or2(s), req)
	})
}

// stallWriter is a response of which every chunk has to be read within the timeout.
type stallWriter struct {
	http.ResponseWriter
	timeout time.Duration

	mu    sync.Mutex
	timer *time.Timer
	ended bool
}

var _ responsewriter.UserProvidedDecorator = &stallWriter{}

// Unwrap implements responsewriter.UserProvidedDecorator.
func (s *stallWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// Write implements http.ResponseWriter. A list that is read slowly is written
// for longer than the limit, but no part of it is.
func (s *stallWriter) Write(p []byte) (n int, err error) {
	for {
		part := p[n:min(len(p), n+stallChunk)]
		s.startTimer()
		m, err := s.ResponseWriter.Write(part)
		s.timer.Stop()
		n += m
		if err != nil || n == len(p) {
			return n, err
		}
	}
}

// Flush implements http.Flusher.
func (s *stallWriter) Flush() {
	s.startTimer()
	defer s.timer.Stop()
	if f, ok := s.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}

// startTimer starts the timeout of a write. Writes of a response are sequential.
func (s *stallWriter) startTimer() {
	if s.timer == nil {
		s.timer = time.AfterFunc(s.timeout, s.abort)
		return
	}
	s.timer.Reset(s.timeout)
}

// abort makes the write in flight, and all later ones, fail.
func (s *stallWriter) abort() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	if err := http.NewResponseController(s.ResponseWriter).SetWriteDeadline(time.Now().Add(-time.Second)); err == nil {
		stalledTotal.WithLabelValues("response").Inc()
	}
}

// stopTimer prevents that the timer aborts a response that has ended.
func (s *stallWriter) stopTimer() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	if s.timer != nil {
		s.timer.Stop()
	}
}

// stallListener closes connections of which the client reads nothing for the timeout.
// Responses on them cannot be aborted individually, which would have to be sent on the
// connection, too.
type stallListener struct {
	net.Listener
	timeout time.Duration
}

// Accept implements net.Listener.
func (l stallListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &stallConn{Conn: conn, timeout: l.timeout}, nil
}

type stallConn struct {
	net.Conn
	timeout time.Duration
}

// Write implements net.Conn.
func (c *stallConn) Write(p []byte) (n int, err error) {
	for {
		if err := c.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
			return n, err
		}
		m, err := c.Conn.Write(p[n:])
		n += m
		timeout, ok := err.(net.Error)
		switch {
		case !ok || !timeout.Timeout():
			return n, err
		case m == 0:
			stalledTotal.WithLabelValues("connection").Inc()
			// Pending reads and writes of the connection fail.
			_ = c.Close()
			return n, err
		}
	}
}
