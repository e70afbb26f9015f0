// SPDX-License-Identifier: Apache-2.0

// Package metaltest runs tests of the packages under pkg/metal against the
// simulator, without a network in between. Only tests import it.
package metaltest

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
)

// Transport is an HTTP transport that calls a handler.
type Transport struct {
	// Handler answers, unless a hook does.
	Handler http.Handler

	mu            sync.Mutex
	before, after func(*http.Request)
	instead       func(*http.Request) (*http.Response, error)
}

func (t *Transport) hooks() (before, after func(*http.Request), instead func(*http.Request) (*http.Response, error)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.before, t.after, t.instead
}

// Around has hooks called before and after the handler; they can wait. Nil: none.
func (t *Transport) Around(before, after func(*http.Request)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.before, t.after = before, after
}

// Answer has instead answer requests; where it returns neither an answer nor an
// error, and if it is nil, the handler does.
func (t *Transport) Answer(instead func(*http.Request) (*http.Response, error)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.instead = instead
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	before, after, instead := t.hooks()
	if before != nil {
		before(r)
	}
	if instead != nil {
		if response, err := instead(r); response != nil || err != nil {
			return response, err
		}
	}
	if r.Body == nil {
		r.Body = http.NoBody
	}
	recorder := httptest.NewRecorder()
	done := make(chan bool, 1)
	go func() {
		cut := true
		defer func() {
			if v := recover(); v != nil && v != http.ErrAbortHandler {
				panic(v)
			}
			done <- cut
		}()
		t.Handler.ServeHTTP(recorder, r)
		cut = false
	}()
	var cut bool
	select {
	case cut = <-done:
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	if after != nil {
		after(r)
	}
	if cut && recorder.Body.Len() == 0 {
		return nil, errors.New("EOF")
	}
	response := recorder.Result()
	if cut {
		response.Body = io.NopCloser(io.MultiReader(bytes.NewReader(recorder.Body.Bytes()), broken{}))
	}
	return response, nil
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// Respond returns what always answers the same, for Answer.
func Respond(status int, contentType, body string) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
			Header: http.Header{"Content-Type": {contentType}},
			Body:   io.NopCloser(bytes.NewReader([]byte(body))),
		}, nil
	}
}
