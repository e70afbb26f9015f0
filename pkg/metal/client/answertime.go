// SPDX-License-Identifier: Apache-2.0

package client

import (
	"io"
	"net/http"

	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// answerTimeTransport is the HTTP transport that measures.
type answerTimeTransport struct {
	next  http.RoundTripper
	clock clock.PassiveClock
}

// RoundTrip implements http.RoundTripper.
func (a answerTimeTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	t := metal.AnswerTimeOf(r.Context())
	if t == nil {
		return a.next.RoundTrip(r)
	}
	began := a.clock.Now()
	response, err := a.next.RoundTrip(r)
	t.Add(a.clock.Since(began))
	if err == nil {
		response.Body = &answerTimeBody{response.Body, a.clock, t}
	}
	return response, err
}

type answerTimeBody struct {
	io.ReadCloser
	clock clock.PassiveClock
	time  *metal.AnswerTime
}

// Read implements io.Reader.
func (b *answerTimeBody) Read(p []byte) (int, error) {
	began := b.clock.Now()
	n, err := b.ReadCloser.Read(p)
	b.time.Add(b.clock.Since(began))
	return n, err
}
