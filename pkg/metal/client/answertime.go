package client

import (
	"io"
	"net/http"

	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// measuring is the HTTP transport that measures.
type measuring struct {
	next  http.RoundTripper
	clock clock.PassiveClock
}

// RoundTrip implements http.RoundTripper.
func (m measuring) RoundTrip(r *http.Request) (*http.Response, error) {
	t := metal.AnswerTimeOf(r.Context())
	if t == nil {
		return m.next.RoundTrip(r)
	}
	began := m.clock.Now()
	response, err := m.next.RoundTrip(r)
	t.Add(m.clock.Since(began))
	if err == nil {
		response.Body = &measuredBody{response.Body, m.clock, t}
	}
	return response, err
}

type measuredBody struct {
	io.ReadCloser
	clock clock.PassiveClock
	time  *metal.AnswerTime
}

// Read implements io.Reader.
func (b *measuredBody) Read(p []byte) (int, error) {
	began := b.clock.Now()
	n, err := b.ReadCloser.Read(p)
	b.time.Add(b.clock.Since(began))
	return n, err
}
