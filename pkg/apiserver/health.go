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
	// heartbeatLimit is how long the loop that looks at metal may be silent
	// before the process is taken for stuck. A look at a large fleet takes
	// minutes when the metal-api is slow.
	heartbeatLimit = 5 * time.Minute
	// readyInterval is how often those who wait for it ask.
	readyInterval = 100 * time.Millisecond
)

// looker is what health depends on.
type looker interface {
	Swept() bool
	Staleness() time.Duration
}

// beater knows when it last did something.
type beater interface {
	Heartbeat() time.Duration
}

// syncer knows whether it has heard of everything once.
type syncer interface {
	Synced() bool
}

// readiness is whether everything was looked at once. From then on it stays:
// when the metal-api goes away, reads go on, with a warning.
type readiness struct {
	looker looker
	// bindings is nil if they are known from the start.
	bindings syncer
	done     atomic.Bool
}

func (r *readiness) ready() bool {
	if !r.done.Load() && r.bound() && r.looker.Swept() {
		r.done.Store(true)
	}
	return r.done.Load()
}

func (r *readiness) bound() bool { return r.bindings == nil || r.bindings.Synced() }

func (r *readiness) reason() string {
	if !r.bound() {
		return "the Namespaces have not been listed yet: until then nobody is told what there is, because it is not known whose it is"
	}
	return fmt.Sprintf("the metal-api has not been looked at completely yet, for %s: until then nobody is told what there is", r.looker.Staleness().Truncate(time.Second))
}

// check is a check of /readyz.
func (r *readiness) check() healthz.HealthChecker {
	return healthz.NamedCheck("metal-initial-sync", func(*http.Request) error {
		if r.ready() {
			return nil
		}
		return errors.New(r.reason())
	})
}

// activity is a check of /readyz: a server is ready that answers, or that stands
// by while another one does.
func (s *Server) activity() healthz.HealthChecker {
	return healthz.NamedCheck("replica-role", func(*http.Request) error {
		if s.gate.isOpen() || s.standsBy() {
			return nil
		}
		text, _ := s.reason()
		return errors.New(text)
	})
}

// reason is why this server does not answer, and whether another one does.
func (s *Server) reason() (text string, elsewhere bool) {
	switch {
	case !s.ready.ready():
		return s.ready.reason(), s.standsBy()
	case s.extra.Replica == nil:
		return "the server is starting, or stopping", false
	}
	if err := s.extra.Replica.Fence().Check(); err != nil {
		return err.Error(), s.standsBy()
	}
	return "this server is the active one, and is reading the records", false
}

func (s *Server) standsBy() bool { return s.extra.Replica != nil && s.extra.Replica.StandsBy() }

// heartbeat is the check of /livez: a new process does not help against a
// metal-api that is away, but against a loop that has stopped.
func heartbeat(b beater) healthz.HealthChecker {
	return healthz.NamedCheck("metal-observer", func(*http.Request) error {
		if silent := b.Heartbeat(); silent > heartbeatLimit {
			return fmt.Errorf("the loop that looks at metal has been silent for %s", silent.Truncate(time.Second))
		}
		return nil
	})
}
