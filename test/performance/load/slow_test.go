// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/client-go/rest"

	"metal-stack.io/infrastructure-apiserver/pkg/apiserver"
)

// stall is how long a slow watcher reads nothing: longer than the server bears
// it, which counts from when there is something that it does not get rid of.
func stall() time.Duration {
	return max(apiserver.DefaultStallTimeout+2*time.Second, min(3*apiserver.DefaultStallTimeout, *duration/16))
}

// slowWatcher is a client that watches and does not read: either nothing from
// its connection, as a client that is stopped, or nothing of its watch, as one
// behind a proxy that reads all others.
type slowWatcher struct {
	server     *server
	connection bool
	outcomes   *outcomes
}

// watch watches over and over until ctx ends. Each time it notes whether the
// server has cut it off when it looks.
func (w *slowWatcher) watch(ctx context.Context) {
	for ctx.Err() == nil {
		if err := w.once(ctx); err != nil && ctx.Err() == nil {
			w.outcomes.note(w.verb(), err)
			return
		}
	}
}

func (w *slowWatcher) verb() string {
	if w.connection {
		return "watch, connection not read"
	}
	return "watch, response not read"
}

func (w *slowWatcher) once(ctx context.Context) error {
	config, err := rest.TLSConfigFor(w.server.config)
	if err != nil {
		return err
	}
	gate := &readGate{open: make(chan struct{})}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true, IdleConnTimeout: time.Second,
		// So that little is enough to fill what is between the two.
		HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: onItsWay},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			gate.Conn = conn
			return gate, nil
		}}
	defer transport.CloseIdleConnections()
	defer gate.release()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.server.config.Host+
		"/apis/infrastructure.cluster.x-k8s.io/v1alpha4/metalstackmachines?watch=true&resourceVersion=0&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan", nil)
	if err != nil {
		return err
	}
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("a slow watch was answered %s", res.Status)
	}
	if w.connection {
		gate.shut()
	}
	wait := time.NewTimer(stall())
	defer wait.Stop()
	select {
	case <-ctx.Done():
		return nil
	case <-wait.C:
	}
	gate.release()
	// Whoever was cut off finds an end behind what was on its way; others get
	// what comes after it.
	end := make(chan error, 1)
	go func() {
		n, err := io.Copy(io.Discard, io.LimitReader(res.Body, 4*onItsWay))
		if n == 4*onItsWay {
			err = errStillThere
		}
		end <- err
	}()
	select {
	case err := <-end:
		switch {
		case errors.Is(err, errStillThere):
			w.outcomes.add(outcome{verb: w.verb(), what: "still there", fatal: true}, err)
		case ctx.Err() == nil && !errors.Is(err, context.Canceled):
			w.outcomes.add(outcome{verb: w.verb(), what: "cut off"}, err)
		}
	case <-ctx.Done():
	}
	return nil
}

// onItsWay is what a server may send that nobody takes; errStillThere that it
// sent more.
const onItsWay = 64 << 10

var errStillThere = errors.New("the watch goes on")

// readGate is a connection of which, once it is shut, nothing is read until it
// is released.
type readGate struct {
	net.Conn
	open     chan struct{}
	once     sync.Once
	shutting atomic.Bool
}

func (g *readGate) shut()    { g.shutting.Store(true) }
func (g *readGate) release() { g.once.Do(func() { close(g.open) }) }

// Read implements net.Conn.
func (g *readGate) Read(p []byte) (int, error) {
	if g.shutting.Load() {
		<-g.open
	}
	return g.Conn.Read(p)
}

// Close implements net.Conn.
func (g *readGate) Close() error {
	g.release()
	return g.Conn.Close()
}
