// SPDX-License-Identifier: Apache-2.0

package managerroles

import (
	"context"
	"errors"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

const (
	// ReasonUnreadable is that of Events on Namespaces in which the controller manager
	// cannot read bootstrap data, so that no machine of Cluster API is allocated.
	ReasonUnreadable = "BootstrapDataUnreadable"
	// ReasonAccessNotGranted is that of Events on Namespaces in which the controller manager
	// cannot give clusters access to their metal-api.
	ReasonAccessNotGranted = "MetalAPIAccessNotGranted"
)

// action is the action of Events.
const action = "GrantAccess"

// repeatInterval is how often a failure is repeated; Events are kept for an hour.
const repeatInterval = 30 * time.Minute

var (
	errNameTaken         = errors.New("refers to another role and is not managed by this server: delete it")
	errReservedNamespace = errors.New("nothing is ever granted in kube-system and in the server's own namespace: bind another namespace to the project")
)

// failure is what was reported last of a namespace.
type failure struct {
	text string
	at   time.Time
}

// report logs a failure in a namespace and records an Event, when it changes and every
// repeatInterval.
func (c *Controller) report(ctx context.Context, namespace string, uid types.UID, err error) {
	if err == nil {
		delete(c.failures, namespace)
		return
	}
	if ctx.Err() != nil {
		return
	}
	now := c.Clock.Now()
	last, failing := c.failures[namespace]
	if failing && last.text == err.Error() && now.Sub(last.at) < repeatInterval {
		return
	}
	c.failures[namespace] = failure{err.Error(), now}
	klog.FromContext(ctx).Error(err, "The controller manager has not been granted a role", "namespace", namespace, "role", c.Role.Name)
	c.Events.Eventf(namespaceReference(namespace, uid), nil, corev1.EventTypeWarning, c.Role.eventReason, action,
		"%s", oneline.Sanitize(c.Role.failure+": "+err.Error(), oneline.MaxNote))
}

// reset forgets all state, on a server that is no longer active.
func (c *Controller) reset() {
	clear(c.failures)
	clear(c.refusals)
	if c.Role.missing != nil {
		c.Role.missing.Set(0)
	}
}

var (
	unreadable = metrics.NewGauge(&metrics.GaugeOpts{
		Namespace: "metalstack", Subsystem: "bootstrap_data", Name: "unreadable_namespaces",
		Help:           "Bound namespaces in which the controller manager may not read bootstrap data (yet), so that no machine of Cluster API is allocated there.",
		StabilityLevel: metrics.ALPHA,
	})
	calls = metrics.NewCounterVec(&metrics.CounterOpts{
		Namespace: "metalstack", Subsystem: "bootstrap_data", Name: "calls_total",
		Help:           "Requests that grant the controller manager a ClusterRole in a namespace (apply) or revoke it (delete), by role and HTTP status code, 0 for no answer.",
		StabilityLevel: metrics.ALPHA,
	}, []string{"role", "verb", "code"})

	registerOnce sync.Once
)

func registerMetrics() {
	registerOnce.Do(func() { legacyregistry.MustRegister(unreadable, calls) })
}
