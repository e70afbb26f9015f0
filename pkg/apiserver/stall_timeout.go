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
	// DefaultStallTimeout is how long a client may take nothing of what is sent to
	// it. One that was cut off resumes its watch from where it was. Until then a
	// stalled watch holds what it was about to send, which can be every object as
	// it was when the watch began.
	DefaultStallTimeout = 10 * time.Second
	// stallChunk is what a client has to take in that time, at most.
	stallChunk = 16 << 10
)

var stalledTotal = metrics.NewCounterVec(&metrics.CounterOpts{
	Subsystem: "metalstack_apiserver", Name: "stalled_total", StabilityLevel: metrics.ALPHA,
	Help: "Responses and connections that were cut off because their client took nothing of them for too long.",
}, []string{"what"})

var registerStalled = sync.OnceFunc(func() {
	legacyregistry.MustRegister(stalledTotal)
	stalledTotal.WithLabelValues("response")
	stalledTotal.WithLabelValues("connection")
})

// withStallTimeout ends responses whose client takes nothing of them for a time,
// though it may read others on the same connection: what is behind a proxy that
// stands for many clients. The outermost handler has to be this one.
func withStallTimeout(next http.Handler, limit time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		s := &stallWriter{ResponseWriter: w, timeout: limit}
		defer s.stopTimer()
		next.ServeHTTP(responsewriter.WrapForHTTP1Or2(s), req)
	})
}

// stallWriter is a response of which every part has to be taken in time.
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

// startTimer starts the time of a write. A response is written by one at a time.
func (s *stallWriter) startTimer() {
	if s.timer == nil {
		s.timer = time.AfterFunc(s.timeout, s.abort)
		return
	}
	s.timer.Reset(s.timeout)
}

// abort lets the write under way, and all that come, fail.
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

// stopTimer keeps the timer from touching a response that is not there any more.
func (s *stallWriter) stopTimer() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	if s.timer != nil {
		s.timer.Stop()
	}
}

// stallListener closes connections of which the client takes nothing for a
// time: no response on them can be ended in a better way, because that has to
// be said on the connection, too.
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
			// Whoever waits for the connection sees that it is gone.
			_ = c.Close()
			return n, err
		}
	}
}
