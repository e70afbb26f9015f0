// SPDX-License-Identifier: Apache-2.0

package firewallcontroller

import (
	"slices"
	"sync"
)

// What a firewall does with connections.
const (
	// Static: the rules of the first boot hold; the firewall-controller has made none.
	Static = "static"
	// Dynamic: the rules that the firewall-controller made hold.
	Dynamic = "dynamic"
	// Open: all connections are forwarded. So it is once the firewall-controller has made
	// rules, and has then been told that it is responsible for no Firewall any more.
	Open = "open"
)

// Host is what firewall-controller has configured on its machine. It stays when the
// firewall-controller ends.
type Host struct {
	mu      sync.Mutex // guards what follows
	state   HostState
	version string
}

// HostState is a copy of it.
type HostState struct {
	// Filter is Static, Dynamic or Open.
	Filter string
	// Rules are sorted. They are those of the last run that could make some.
	Rules []string
	// Distance is that of FRR.
	Distance uint8
	// AuthorizedKeys are those of the user metal; nil if they are those of the first boot.
	AuthorizedKeys []string
	// DNSServer resolves names of policies.
	DNSServer string
	// Exporter is the version of the nftables exporter that was installed; empty if it is
	// that of the image.
	Exporter string
	// Failed says why the last run could make no rules.
	Failed string
}

// NewHost is a machine whose image has a version of firewall-controller.
func NewHost(version string) *Host {
	return &Host{state: HostState{Filter: Static}, version: version}
}

// State returns what is configured.
func (h *Host) State() HostState {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.state
	s.Rules, s.AuthorizedKeys = slices.Clone(s.Rules), slices.Clone(s.AuthorizedKeys)
	return s
}

// Version is that of the firewall-controller that is installed.
func (h *Host) Version() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.version
}

func (h *Host) change(f func(*HostState)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f(&h.state)
}

// setRules says whether these are others than before.
func (h *Host) setRules(rules []string, dns string) (changed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	changed = h.state.Filter != Dynamic || !slices.Equal(h.state.Rules, rules)
	h.state.Filter, h.state.Rules, h.state.DNSServer, h.state.Failed = Dynamic, rules, dns, ""
	return changed
}

// flush removes the rules.
func (h *Host) flush() {
	h.change(func(s *HostState) {
		if s.Filter == Dynamic {
			s.Filter = Open
		}
		s.Rules = nil
	})
}

func (h *Host) install(version string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.version = version
}
