// SPDX-License-Identifier: Apache-2.0

package inflight

import (
	"math/rand/v2"
	"net"
	"sync"
)

// Listener returns inner with a limit on the connections that have not carried a
// request of the kube-apiserver.
func (l *Limiter) Listener(inner net.Listener) net.Listener {
	return &listener{Listener: inner, connections: l.connections}
}

type listener struct {
	net.Listener
	connections *connections
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	inner, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &connection{Conn: inner, remote: inner.RemoteAddr().String(), all: l.connections}
	if excess := l.connections.add(c); excess != nil {
		closedConnections.Inc()
		_ = excess.Close()
	}
	return c, nil
}

type connection struct {
	net.Conn
	remote string
	all    *connections

	// address, index and counted are of connections, and say where it is there.
	address string
	index   int
	counted bool
}

// Close implements net.Conn.
func (c *connection) Close() error {
	c.all.remove(c)
	return c.Conn.Close()
}

// connections are those without a trusted request. A client that opens many loses its
// own: of the address that has most of them, a random one is closed, so that a client
// that shares its address with the kube-apiserver cannot choose.
//
// A client that resets a connection can open another one from the same port
// before the first has been closed here. So each connection counts by itself,
// and only trust goes by the remote address: that of the latest one.
type connections struct {
	limit int

	mu        sync.Mutex
	n         int
	byAddress map[string][]*connection
	latest    map[string]*connection // by remote address and port
}

func newConnections(limit int) *connections {
	return &connections{limit: limit, byAddress: map[string][]*connection{}, latest: map[string]*connection{}}
}

// add returns the connection that is to be closed for the new one, or nil.
func (c *connections) add(added *connection) (excess *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	added.address = clientAddress(added.remote)
	of := c.byAddress[added.address]
	added.counted, added.index = true, len(of)
	c.byAddress[added.address] = append(of, added)
	c.latest[added.remote] = added
	if c.n++; c.n <= c.limit {
		return nil
	}
	most := added.address
	for other, of := range c.byAddress {
		if len(of) > len(c.byAddress[most]) {
			most = other
		}
	}
	excess = c.byAddress[most][rand.IntN(len(c.byAddress[most]))]
	c.forget(excess)
	return excess
}

// trust excludes a connection from the limit.
func (c *connections) trust(remote string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if found := c.latest[remote]; found != nil {
		c.forget(found)
	}
}

func (c *connections) remove(gone *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if gone.counted {
		c.forget(gone)
	}
}

// forget removes a connection that is counted. The caller must hold mu.
func (c *connections) forget(gone *connection) {
	of := c.byAddress[gone.address]
	last := len(of) - 1
	of[gone.index], of[last].index = of[last], gone.index
	of[last] = nil
	if c.byAddress[gone.address] = of[:last]; last == 0 {
		delete(c.byAddress, gone.address)
	}
	gone.counted = false
	c.n--
	if c.latest[gone.remote] == gone {
		delete(c.latest, gone.remote)
	}
}
