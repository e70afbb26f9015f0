package metal

import (
	"context"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"k8s.io/utils/clock"
)

// answerTime adds up for how long a call waits for the metal-api: until the head
// of the answer arrives, and then for the rest of it. The time in between, in
// which the answer is decoded, is ours.
type answerTime struct {
	waited atomic.Int64
	// of is what the call is a part of; nil: of nothing that is measured.
	of *answerTime
}

type answerTimeKey struct{}

// withAnswerTime has the wait of the calls under the context measured, also for
// whoever has measured under it before.
func withAnswerTime(ctx context.Context) (context.Context, *answerTime) {
	of, _ := ctx.Value(answerTimeKey{}).(*answerTime)
	t := &answerTime{of: of}
	return context.WithValue(ctx, answerTimeKey{}, t), t
}

func (t *answerTime) add(d time.Duration) {
	for ; t != nil; t = t.of {
		t.waited.Add(int64(d))
	}
}

func (t *answerTime) wait() time.Duration { return time.Duration(t.waited.Load()) }

// measuring is the HTTP transport that measures.
type measuring struct {
	next  http.RoundTripper
	clock clock.PassiveClock
}

// RoundTrip implements http.RoundTripper.
func (m measuring) RoundTrip(r *http.Request) (*http.Response, error) {
	t, ok := r.Context().Value(answerTimeKey{}).(*answerTime)
	if !ok {
		return m.next.RoundTrip(r)
	}
	began := m.clock.Now()
	response, err := m.next.RoundTrip(r)
	t.add(m.clock.Since(began))
	if err == nil {
		response.Body = &measuredBody{response.Body, m.clock, t}
	}
	return response, err
}

type measuredBody struct {
	io.ReadCloser
	clock clock.PassiveClock
	time  *answerTime
}

// Read implements io.Reader.
func (b *measuredBody) Read(p []byte) (int, error) {
	began := b.clock.Now()
	n, err := b.ReadCloser.Read(p)
	b.time.add(b.clock.Since(began))
	return n, err
}
