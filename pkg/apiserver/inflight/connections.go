package inflight

import (
	"math/rand/v2"
	"net"
	"sync"
)

// Listener returns inner with the number of connections bounded that have not
// carried a request of the kube-apiserver.
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
}

// Close implements net.Conn.
func (c *connection) Close() error {
	c.all.remove(c)
	return c.Conn.Close()
}

// connections are the ones that nobody is known to be trusted on. A client
// that opens many loses its own: one is closed of the address that has most of
// them. Which one is left to chance: if a client shares its address with the
// kube-apiserver, neither can count on it.
type connections struct {
	limit int

	mu        sync.Mutex
	byRemote  map[string]*connection
	byAddress map[string][]*connection
}

func newConnections(limit int) *connections {
	return &connections{limit: limit, byRemote: map[string]*connection{}, byAddress: map[string][]*connection{}}
}

// add returns the connection that is to be closed for the new one, or nil.
func (c *connections) add(added *connection) (excess *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	address := addressOf(added.remote)
	c.byRemote[added.remote] = added
	c.byAddress[address] = append(c.byAddress[address], added)
	if len(c.byRemote) <= c.limit {
		return nil
	}
	most := address
	for other, of := range c.byAddress {
		if len(of) > len(c.byAddress[most]) {
			most = other
		}
	}
	excess = c.byAddress[most][rand.IntN(len(c.byAddress[most]))]
	c.drop(excess)
	return excess
}

// trust takes a connection out of the ones that are bounded.
func (c *connections) trust(remote string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if found := c.byRemote[remote]; found != nil {
		c.drop(found)
	}
}

func (c *connections) remove(gone *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byRemote[gone.remote] == gone {
		c.drop(gone)
	}
}

// drop forgets a connection that is there. The caller holds mu.
func (c *connections) drop(gone *connection) {
	delete(c.byRemote, gone.remote)
	address := addressOf(gone.remote)
	of := c.byAddress[address]
	for i, other := range of {
		if other == gone {
			of = append(of[:i:i], of[i+1:]...)
			break
		}
	}
	if c.byAddress[address] = of; len(of) == 0 {
		delete(c.byAddress, address)
	}
}
