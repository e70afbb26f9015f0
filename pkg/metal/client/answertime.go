// SPDX-License-Identifier: Apache-2.0

package client

import (
	"io"
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// answerTimeTransport is the HTTP transport that measures.
type answerTimeTransport struct {
	next  http.RoundTripper
	clock clock.PassiveClock
	// wakeups measures the delay of waits; nil: there is none.
	wakeups *wakeupMeter
}

// RoundTrip implements http.RoundTripper.
func (a answerTimeTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	t := metal.AnswerTimeOf(r.Context())
	if t == nil {
		return a.next.RoundTrip(r)
	}
	a.wakeups.start()
	w := &headWait{transport: a, began: a.clock.Now()}
	response, err := a.next.RoundTrip(r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		WroteRequest:         func(httptrace.WroteRequestInfo) { w.restart() },
		GotFirstResponseByte: w.end,
	})))
	w.addTo(t)
	if err != nil {
		a.wakeups.end()
		return response, err
	}
	response.Body = &answerTimeBody{ReadCloser: response.Body, transport: a, time: t}
	return response, nil
}

// headWait is a wait for the head of an answer: from the last byte of the request on,
// or from the call's beginning if the transport does not know when that was sent.
type headWait struct {
	transport answerTimeTransport

	mu           sync.Mutex
	began, ended time.Time
	delay        time.Duration
}

func (w *headWait) restart() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.began, w.ended = w.transport.clock.Now(), time.Time{}
}

func (w *headWait) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.endLocked()
}

func (w *headWait) endLocked() {
	if w.ended.IsZero() {
		w.ended = w.transport.clock.Now()
		w.delay = w.transport.wakeups.delayOf(w.began, w.ended)
	}
}

// addTo adds the wait, which is over now at the latest.
func (w *headWait) addTo(t *metal.AnswerTime) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.endLocked()
	t.Add(w.ended.Sub(w.began))
	t.AddDelay(w.delay)
}

type answerTimeBody struct {
	io.ReadCloser
	transport answerTimeTransport
	time      *metal.AnswerTime
	closed    sync.Once
}

// Read implements io.Reader.
func (b *answerTimeBody) Read(p []byte) (int, error) {
	began := b.transport.clock.Now()
	n, err := b.ReadCloser.Read(p)
	ended := b.transport.clock.Now()
	b.time.Add(ended.Sub(began))
	b.time.AddDelay(b.transport.wakeups.delayOf(began, ended))
	return n, err
}

// Close implements io.Closer.
func (b *answerTimeBody) Close() error {
	b.closed.Do(b.transport.wakeups.end)
	return b.ReadCloser.Close()
}
