// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"k8s.io/apiserver/pkg/server/healthz"
)

const (
	// heartbeatTimeout is how long the observer may make no progress before the
	// process is not live any more. A sweep of a large fleet takes minutes when the
	// metal-api is slow.
	heartbeatTimeout = 5 * time.Minute
	// readyInterval is how often readiness is polled by what waits for it.
	readyInterval = 100 * time.Millisecond
)

// sweepStatus is what readiness depends on.
type sweepStatus interface {
	HasSynced() bool
	Staleness() time.Duration
}

// heartbeater knows how long ago it last made progress.
type heartbeater interface {
	Heartbeat() time.Duration
}

// syncer knows whether its informers have synced.
type syncer interface {
	Synced() bool
}

// readiness is whether the initial sync is complete: Namespaces are synced and the
// metal-api was swept once. It never reverts: while the metal-api is unavailable,
// reads are answered with a warning.
type readiness struct {
	sweeps sweepStatus
	// bindings is nil if they are known from the start.
	bindings syncer
	done     atomic.Bool
}

func (r *readiness) ready() bool {
	if !r.done.Load() && r.namespacesSynced() && r.sweeps.HasSynced() {
		r.done.Store(true)
	}
	return r.done.Load()
}

func (r *readiness) namespacesSynced() bool { return r.bindings == nil || r.bindings.Synced() }

func (r *readiness) reason() string {
	if !r.namespacesSynced() {
		return "namespaces not yet synced: reads are disabled"
	}
	return fmt.Sprintf("initial sync with the metal-api incomplete after %s: reads are disabled", r.sweeps.Staleness().Truncate(time.Second))
}

// initialSyncCheck is a check of /readyz.
func (r *readiness) initialSyncCheck() healthz.HealthChecker {
	return healthz.NamedCheck("metal-initial-sync", func(*http.Request) error {
		if r.ready() {
			return nil
		}
		return errors.New(r.reason())
	})
}

// roleCheck is a check of /readyz: a server is ready if it is the active one, or a
// standby while another one is active.
func (s *Server) roleCheck() healthz.HealthChecker {
	return healthz.NamedCheck("replica-role", func(*http.Request) error {
		if s.gate.isOpen() || s.isStandby() {
			return nil
		}
		text, _ := s.unavailableReason()
		return errors.New(text)
	})
}

// recordsReadCheck is a check of /readyz: a standby that cannot read the records could not become
// active, and would not notice those of a newer format.
func (s *Server) recordsReadCheck() healthz.HealthChecker {
	return healthz.NamedCheck("records-read", func(*http.Request) error {
		if s.extra.Replica == nil || s.gate.isOpen() || s.records.Check() != nil {
			return nil // of records of a newer format, another check says more
		}
		read := s.recordsRead.Load()
		if read == nil {
			return errors.New("records have not been read yet")
		}
		if age := time.Since(*read); age > recordsReadTimeout {
			return fmt.Errorf("records were last read %s ago: this standby cannot become active until they can be read", age.Truncate(time.Second))
		}
		return nil
	})
}

// unavailableReason is why this server does not serve objects, and whether another
// one does.
func (s *Server) unavailableReason() (text string, elsewhere bool) {
	if err := s.records.Check(); err != nil {
		// It never will serve: whichever replica does is found by another connection.
		return err.Error(), s.extra.Replica != nil
	}
	switch {
	case !s.ready.ready():
		return s.ready.reason(), s.isStandby()
	case s.extra.Replica == nil:
		return "server is starting or shutting down", false
	}
	if err := s.extra.Replica.Fence().Check(); err != nil {
		return err.Error(), s.isStandby()
	}
	return "active server is loading its records: retry", false
}

func (s *Server) isStandby() bool { return s.extra.Replica != nil && s.extra.Replica.IsStandby() }

// observerCheck is a check of /livez: a restart helps against an observer that has
// stopped, but not against a metal-api that is unavailable.
func observerCheck(b heartbeater) healthz.HealthChecker {
	return healthz.NamedCheck("metal-observer", func(*http.Request) error {
		if silent := b.Heartbeat(); silent > heartbeatTimeout {
			return fmt.Errorf("metal observer has made no progress for %s", silent.Truncate(time.Second))
		}
		return nil
	})
}
