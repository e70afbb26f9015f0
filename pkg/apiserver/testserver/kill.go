// SPDX-License-Identifier: Apache-2.0

package testserver

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
)

var errKilled = errors.New("process was killed")

// killSwitch makes a server in this process behave as one whose process was killed:
// afterwards, nothing that it still does has an effect outside.
type killSwitch struct {
	ctx  context.Context
	kill context.CancelFunc
}

func newKillSwitch() *killSwitch {
	ctx, blow := context.WithCancel(context.Background())
	return &killSwitch{ctx, blow}
}

// killableLedger passes calls on that begin before the kill.
type killableLedger struct {
	*killSwitch
	ledger.Ledger
	// calls is held for reading by calls, and for writing to wait for them.
	calls sync.RWMutex
}

func (l *killableLedger) begin() (end func(), err error) {
	l.calls.RLock()
	if l.ctx.Err() != nil {
		l.calls.RUnlock()
		return nil, errKilled
	}
	return l.calls.RUnlock, nil
}

// await waits until calls that began before the kill have ended.
func (l *killableLedger) await() {
	l.calls.Lock()
	defer l.calls.Unlock()
}

// List implements ledger.Ledger.
func (l *killableLedger) List(ctx context.Context) ([]ledger.Record, error) {
	end, err := l.begin()
	if err != nil {
		return nil, err
	}
	defer end()
	return l.Ledger.List(ctx)
}

// Get implements ledger.Ledger.
func (l *killableLedger) Get(ctx context.Context, key string) (ledger.Record, error) {
	end, err := l.begin()
	if err != nil {
		return ledger.Record{}, err
	}
	defer end()
	return l.Ledger.Get(ctx, key)
}

// Create implements ledger.Ledger.
func (l *killableLedger) Create(ctx context.Context, key string, value []byte) (string, error) {
	end, err := l.begin()
	if err != nil {
		return "", err
	}
	defer end()
	return l.Ledger.Create(ctx, key, value)
}

// Update implements ledger.Ledger.
func (l *killableLedger) Update(ctx context.Context, key, version string, value []byte) (string, error) {
	end, err := l.begin()
	if err != nil {
		return "", err
	}
	defer end()
	return l.Ledger.Update(ctx, key, version, value)
}

// Delete implements ledger.Ledger.
func (l *killableLedger) Delete(ctx context.Context, key, version string) error {
	end, err := l.begin()
	if err != nil {
		return err
	}
	defer end()
	return l.Ledger.Delete(ctx, key, version)
}

// Close closes the ledger, unless the server was killed: then Kill does.
func (l *killableLedger) Close() error {
	if closer, ok := l.Ledger.(io.Closer); ok && l.ctx.Err() == nil {
		return closer.Close()
	}
	return nil
}

// killableTransport aborts calls of the metal-api at the kill, as the kernel does when a
// process dies.
type killableTransport struct {
	*killSwitch
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (t *killableTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if t.ctx.Err() != nil {
		return nil, errKilled
	}
	ctx, cancel := context.WithCancel(req.Context())
	stop := context.AfterFunc(t.ctx, cancel)
	resp, err := t.next.RoundTrip(req.WithContext(ctx))
	if err != nil {
		stop()
		cancel()
		return nil, err
	}
	resp.Body = &killableBody{resp.Body, func() { stop(); cancel() }}
	return resp, nil
}

// killableBody releases the kill switch when the response has been read.
type killableBody struct {
	io.ReadCloser
	done func()
}

// Close implements io.Closer.
func (b *killableBody) Close() error {
	defer b.done()
	return b.ReadCloser.Close()
}

// killableListener resets its connections at the kill.
type killableListener struct {
	*killSwitch
	net.Listener
	closed    chan struct{}
	closeOnce sync.Once
}

func (s *killSwitch) listen(address string) (*killableListener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	return &killableListener{killSwitch: s, Listener: l, closed: make(chan struct{})}, nil
}

// stopAccepting stops listening, after the kill.
func (l *killableListener) stopAccepting() error { return l.Listener.Close() }

// Accept implements net.Listener.
func (l *killableListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		if l.ctx.Err() != nil {
			// The server takes it for a crash when its listener fails before it
			// closes it.
			<-l.closed
		}
		return nil, err
	}
	reset := context.AfterFunc(l.ctx, func() {
		if tcp, ok := conn.(*net.TCPConn); ok {
			// A killed process's unread data makes the kernel send a reset.
			tcp.SetLinger(0)
		}
		conn.Close()
	})
	return &killableConn{conn, reset}, nil
}

// Close implements net.Listener.
func (l *killableListener) Close() error {
	l.closeOnce.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type killableConn struct {
	net.Conn
	forget func() bool
}

// Close implements net.Conn.
func (c *killableConn) Close() error {
	c.forget()
	return c.Conn.Close()
}
