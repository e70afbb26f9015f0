// SPDX-License-Identifier: Apache-2.0

package capi

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator/simtest"
)

const (
	// phonedHome is the event of a machine whose operating system runs.
	phonedHome = "Phoned Home"
	// lookEvery is how soon machines do what is expected of them.
	lookEvery = 100 * time.Millisecond
	// dialLimit is how long a connection may take.
	dialLimit = 5 * time.Second
)

// Site is a data centre that several management clusters may share: the
// simulated metal-api, what runs on its machines, and the network to them.
type Site struct {
	// Metal is the metal-api.
	Metal *simtest.Server
	// Proxy is where the network is entered, an HTTP proxy's URL: behind it the
	// address of a workload cluster's control plane leads to its kube-apiserver.
	Proxy string

	t     testing.TB
	ctx   context.Context
	clock *wallClock

	// units are what runs on firewalls.
	units sync.WaitGroup

	mu        sync.Mutex
	machines  map[string]*machine  // by allocation
	firewalls map[string]*Firewall // by allocation
	clusters  map[string]*workload // by address of the control plane
	closed    bool
}

// StartSite builds a data centre and runs it until the test ends.
func StartSite(t testing.TB, config simulator.Config) *Site {
	t.Helper()
	now := &wallClock{}
	config.Clock = now
	s := &Site{
		t: t, clock: now, Metal: simtest.Start(t, config),
		machines: map[string]*machine{}, firewalls: map[string]*Firewall{}, clusters: map[string]*workload{},
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.ctx = ctx
	var running sync.WaitGroup
	running.Go(func() { s.Metal.Sim.Run(ctx) })
	running.Go(s.run)
	proxy := httptest.NewServer(http.HandlerFunc(s.connect))
	s.Proxy = proxy.URL
	t.Cleanup(func() {
		cancel()
		running.Wait()
		s.units.Wait()
		s.close()
		proxy.CloseClientConnections()
		proxy.Close()
	})
	return s
}

// run has every machine do what is due.
func (s *Site) run() {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
			s.look()
		}
	}
}

// look boots the machines that phoned home, and lets those go dark that are
// not allocated any more.
func (s *Site) look() {
	allocated, firewalls := map[string]simulator.MachineState{}, map[string]simulator.MachineState{}
	for _, state := range s.Metal.Sim.Inventory().Machines {
		switch {
		case !state.Allocated || state.UserData == "":
		case state.Role == "machine":
			allocated[state.AllocationUUID] = state
		default:
			firewalls[state.AllocationUUID] = state
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lookAtFirewalls(firewalls)
	for uuid, m := range s.machines {
		if _, found := allocated[uuid]; !found {
			delete(s.machines, uuid)
			go m.off()
		}
	}
	for uuid, state := range allocated {
		m := s.machines[uuid]
		up := state.LastEvent == phonedHome && state.Liveliness == "Alive" && state.Power == "ON" && !state.Hung
		if m == nil && up {
			m = &machine{site: s, state: state}
			s.machines[uuid] = m
			go m.boot()
		}
		if m != nil {
			go m.report(up)
		}
	}
}

// lookAtFirewalls does the same with firewalls.
func (s *Site) lookAtFirewalls(allocated map[string]simulator.MachineState) {
	for uuid, f := range s.firewalls {
		if _, found := allocated[uuid]; !found {
			delete(s.firewalls, uuid)
			f.cancel()
		}
	}
	for uuid, state := range allocated {
		if s.firewalls[uuid] == nil && state.LastEvent == phonedHome {
			s.firewalls[uuid] = s.bootFirewall(state)
		}
	}
}

// connect answers CONNECT: it is how the managers reach workload clusters.
func (s *Site) connect(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect {
		http.Error(w, "CONNECT only", http.StatusMethodNotAllowed)
		return
	}
	s.mu.Lock()
	c := s.clusters[r.Host]
	s.mu.Unlock()
	if c == nil {
		http.Error(w, "no route to host "+r.Host, http.StatusBadGateway)
		return
	}
	if c.link.cut.Load() {
		http.Error(w, "no route to host "+r.Host, http.StatusBadGateway)
		return
	}
	there, err := net.DialTimeout("tcp", c.address(), dialLimit)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	here, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		there.Close()
		return
	}
	if _, err := io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		here.Close()
		there.Close()
		return
	}
	c.link.add(there)
	join(here, there)
}

// link is the network to a workload cluster.
type link struct {
	cut atomic.Bool

	mu   sync.Mutex // guards what follows
	open []net.Conn
}

func (l *link) add(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = append(l.open, c)
	if l.cut.Load() {
		c.Close()
	}
}

// Disconnect takes the network to the workload cluster away, with all connections, until
// reconnect is called.
func (w *Workload) Disconnect() (reconnect func()) {
	l := &w.c.link
	l.cut.Store(true)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.open {
		c.Close()
	}
	l.open = nil
	return func() { l.cut.Store(false) }
}

// join carries bytes until one end closes.
func join(a, b io.ReadWriteCloser) {
	var once sync.Once
	end := func() {
		once.Do(func() {
			a.Close()
			b.Close()
		})
	}
	carry := func(to io.Writer, from io.Reader) {
		_, _ = io.Copy(to, from)
		end()
	}
	go carry(a, b)
	go carry(b, a)
}

// Workload is the workload cluster behind an address (host:port) of a control
// plane.
func (s *Site) Workload(endpoint string) (*Workload, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.clusters[endpoint]
	if c == nil {
		return nil, fmt.Errorf("no cluster at %s", endpoint)
	}
	return &Workload{c}, nil
}

// close stops all clusters.
func (s *Site) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, c := range s.clusters {
		c.stop()
	}
}
