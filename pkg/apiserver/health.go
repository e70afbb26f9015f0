package apiserver

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/server/healthz"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/scheme"
)

const (
	// heartbeatLimit is how long the loop that looks at metal may be silent
	// before the process is taken for stuck. A look at a large fleet takes
	// minutes when the metal-api is slow.
	heartbeatLimit = 5 * time.Minute
	// readyInterval is how often those who wait for it ask.
	readyInterval = 100 * time.Millisecond
	// retryAfterSeconds is what clients that come too early are told.
	retryAfterSeconds = 1
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

// check is the check of /readyz.
func (r *readiness) check() healthz.HealthChecker {
	return healthz.NamedCheck("first-look-at-metal", func(*http.Request) error {
		if r.ready() {
			return nil
		}
		return fmt.Errorf("%s", r.reason())
	})
}

// gate answers 503 to requests for objects that come before there is a whole
// view of them: an empty list would be believed.
func (r *readiness) gate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		info, ok := request.RequestInfoFrom(req.Context())
		if r.ready() || !ok || !info.IsResourceRequest || info.APIGroup != infrastructure.GroupName {
			next.ServeHTTP(w, req)
			return
		}
		err := apierrors.NewServiceUnavailable(r.reason())
		err.ErrStatus.Details = &metav1.StatusDetails{RetryAfterSeconds: retryAfterSeconds}
		responsewriters.ErrorNegotiated(err, scheme.Codecs, scheme.StorageVersion, w, req)
	})
}

// heartbeat is the check of /livez: a new process does not help against a
// metal-api that is away, but against a loop that has stopped.
func heartbeat(b beater) healthz.HealthChecker {
	return healthz.NamedCheck("looks-at-metal", func(*http.Request) error {
		if silent := b.Heartbeat(); silent > heartbeatLimit {
			return fmt.Errorf("the loop that looks at metal has been silent for %s", silent.Truncate(time.Second))
		}
		return nil
	})
}
