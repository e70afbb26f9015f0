// SPDX-License-Identifier: Apache-2.0

package capi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/e2e/capi/firewallcontroller"
)

const (
	// firewallRestart is how soon systemd starts a firewall-controller that has exited. On a
	// firewall it is ten seconds.
	firewallRestart = 300 * time.Millisecond
	// FirewallInterval is how often played firewall-controllers make rules without a change.
	// On a firewall it is ten seconds.
	FirewallInterval = 500 * time.Millisecond
	// tokenInterval is how often they read their token. On a firewall it is five minutes.
	tokenInterval = time.Second
	// imageController is the version of firewall-controller that images have.
	imageController = "v2.3.0"
)

// Firewall plays the operating system of the allocation of a firewall: systemd and
// firewall-controller, which has what the user data say.
type Firewall struct {
	site  *Site
	state simulator.MachineState
	host  *firewallcontroller.Host

	cancel context.CancelFunc

	mu   sync.Mutex // guards what follows
	last string
	log  []string
}

// bootFirewall runs what a firewall does once it has phoned home.
func (s *Site) bootFirewall(state simulator.MachineState) *Firewall {
	ctx, cancel := context.WithCancel(s.ctx)
	f := &Firewall{site: s, state: state, host: firewallcontroller.NewHost(imageController), cancel: cancel}
	s.units.Go(func() {
		f.run(ctx)
		f.report()
	})
	return f
}

// run plays systemd, which starts firewall-controller again whenever it has exited.
func (f *Firewall) run(ctx context.Context) {
	user, err := parseUserData(f.state.UserData)
	if err != nil || user.files[firewallcontroller.KubeconfigPath] == nil {
		f.logf("no firewall-controller: no %s (%v)", firewallcontroller.KubeconfigPath, err)
		return
	}
	if mode := user.modes[firewallcontroller.KubeconfigPath]; mode != 0o600 {
		f.site.t.Errorf("%s of firewall %s has the mode %o", firewallcontroller.KubeconfigPath, f.state.Hostname, mode)
	}
	for {
		err := firewallcontroller.New(firewallcontroller.Options{
			Kubeconfig: user.files[firewallcontroller.KubeconfigPath], Hostname: f.state.Hostname, Host: f.host,
			Interval: FirewallInterval, TokenInterval: tokenInterval, Proxy: f.site.proxy, Clock: f.site.clock, Logf: f.logf,
		}).Run(ctx)
		if ctx.Err() != nil {
			return
		}
		f.logf("exits: %v", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(firewallRestart):
		}
	}
}

// proxy is the network to workload clusters.
func (s *Site) proxy(*http.Request) (*url.URL, error) { return url.Parse(s.Proxy) }

// State is what is configured on the firewall.
func (f *Firewall) State() firewallcontroller.HostState { return f.host.State() }

// Version is that of its firewall-controller.
func (f *Firewall) Version() string { return f.host.Version() }

// Hostname is the firewall's.
func (f *Firewall) Hostname() string { return f.state.Hostname }

// Kubeconfig is the one that its user data have; empty if they have none.
func (f *Firewall) Kubeconfig() []byte {
	user, err := parseUserData(f.state.UserData)
	if err != nil {
		return nil
	}
	return user.files[firewallcontroller.KubeconfigPath]
}

// Log are the last lines of its log.
func (f *Firewall) Log() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.log, "\n")
}

func (f *Firewall) logf(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	line := fmt.Sprintf(format, args...)
	if line == f.last {
		return
	}
	f.last = line
	f.log = append(f.log, time.Now().Format(time.TimeOnly)+" "+line)
	f.log = f.log[max(0, len(f.log)-logLines):]
}

// report shows the log, if the test failed.
func (f *Firewall) report() {
	if f.site.t.Failed() {
		f.site.t.Logf("firewall %s:\n%s", f.state.Hostname, f.Log())
	}
}

// Firewall returns the firewall that runs on a machine.
func (s *Site) Firewall(machineID string) (*Firewall, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.firewalls {
		if f.state.ID == machineID {
			return f, nil
		}
	}
	return nil, errors.New("no firewall runs on machine " + machineID)
}
