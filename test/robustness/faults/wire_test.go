// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
)

var (
	errDead = errors.New("this process is dead")
	errEOF  = errors.New("EOF")
)

// wire is the network between one server and the metal-api, without sockets,
// so that it works in a bubble's time. When the server dies, its requests are
// cut off, and the metal-api may go on with what it had received.
type wire struct {
	handler http.Handler
	ctx     context.Context
}

// RoundTrip implements http.RoundTripper.
func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	if w.ctx.Err() != nil {
		return nil, errDead
	}
	body := []byte{}
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r.Body.Close()
	}
	ctx, hangUp := context.WithCancel(r.Context())
	defer hangUp()
	received := r.Clone(ctx)
	received.Body = io.NopCloser(bytes.NewReader(body))
	recorder := httptest.NewRecorder()
	answered := make(chan bool, 1)
	go func() { answered <- serve(w.handler, recorder, received) }()
	var whole bool
	select {
	case whole = <-answered:
	case <-r.Context().Done():
		return nil, r.Context().Err()
	case <-w.ctx.Done():
		return nil, errDead
	}
	if !whole && recorder.Body.Len() == 0 {
		return nil, errEOF
	}
	response := recorder.Result()
	response.Request = r
	if !whole {
		response.Body = io.NopCloser(io.MultiReader(bytes.NewReader(recorder.Body.Bytes()), broken{}))
	}
	return response, nil
}

// serve reports whether the answer is whole.
func serve(handler http.Handler, w http.ResponseWriter, r *http.Request) (whole bool) {
	defer func() {
		if v := recover(); v != nil && v != http.ErrAbortHandler {
			panic(v)
		}
	}()
	handler.ServeHTTP(w, r)
	return true
}

// atWork is the metal-api, and what it is freeing at this moment.
type atWork struct {
	http.Handler
	mu    sync.Mutex
	frees map[string]int
}

func (a *atWork) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if machine, free := strings.CutSuffix(r.URL.Path, "/free"); free {
		id := machine[strings.LastIndexByte(machine, '/')+1:]
		a.count(id, 1)
		defer a.count(id, -1)
	}
	a.Handler.ServeHTTP(w, r)
}

func (a *atWork) count(id string, n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.frees[id] += n
}

// freeing reports whether the metal-api works on a call that frees what has the id.
func (a *atWork) freeing(id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.frees[id] > 0
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
