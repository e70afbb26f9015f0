// SPDX-License-Identifier: Apache-2.0

// Package apiserver assembles the server: metal, records and the registry under the
// generic server of Kubernetes. It orders their start and stop, and decides when the
// server is ready. It must never know a single kind's rules.
package apiserver

import (
	"cmp"
	"errors"
	"time"

	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/server"
	typedevents "k8s.io/client-go/kubernetes/typed/events/v1"
	"k8s.io/client-go/tools/events"

	"metal-stack.io/infrastructure-apiserver/generated/openapi"
	"metal-stack.io/infrastructure-apiserver/pkg/allocation"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/scheme"
	clusteradmission "metal-stack.io/infrastructure-apiserver/pkg/apiserver/admission"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/admissionpolicies"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/inflight"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/managerroles"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/registration"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/replica"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/standalone"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	metalclient "metal-stack.io/infrastructure-apiserver/pkg/metal/client"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/observation"
	"metal-stack.io/infrastructure-apiserver/pkg/registry"
	"metal-stack.io/infrastructure-apiserver/pkg/tenancy"
)

// Bindings map namespaces to projects, and keep a binding while an object is created.
type Bindings interface {
	tenancy.Bindings
	registry.Namespaces
	// BoundProjects returns the projects whose metal a namespace shows.
	BoundProjects() []string
}

// ExtraConfig is what this server needs besides the generic one.
type ExtraConfig struct {
	// Metal says how the metal-api is reached.
	Metal metalclient.Options
	// HMAC reads the credential again; nil if it never changes.
	HMAC func() (string, error)
	// Observer configures the observation of metal.
	Observer observation.Options
	// Ledger keeps the records. If it has a method Close, that is called when
	// the server ends.
	Ledger ledger.Ledger
	// Bindings map namespaces to projects.
	Bindings Bindings
	// Namespaces are the Bindings in a cluster, which the server runs; nil without one.
	Namespaces *tenancy.Namespaces
	// ManagementCluster is the ID of this management cluster in identities.
	ManagementCluster string
	// ServeFirewalls has the server serve Firewalls to firewall-controllers.
	ServeFirewalls bool
	// Region is the tag topology.kubernetes.io/region of machines; empty: none.
	Region string
	// Timing is how long allocations may take; zero fields have defaults.
	Timing allocation.Timing
	// Events records Events in the cluster; nil without a cluster.
	Events events.EventRecorder
	// OperationEvents stores Events of operations that users ask for, by ReportingInstance;
	// nil without a cluster.
	OperationEvents typedevents.EventsV1Interface
	// ReportingInstance is this server in these Events.
	ReportingInstance string
	// Standalone is what a kube-apiserver serves in a cluster, and nil in one.
	Standalone *standalone.API
	// Admission applies the cluster's policies and webhooks; nil without a cluster.
	Admission *clusteradmission.Admission
	// Quotas enforces ResourceQuotas; nil without a cluster.
	Quotas admission.ValidationInterface
	// Owners looks up owners of other groups, for requests of the garbage
	// collector; nil without a cluster.
	Owners registry.OwnerLookup
	// Registrar registers the API in the cluster; nil if it does not.
	Registrar *registration.Registrar
	// ManagerRoles grant the controller manager its roles in bound namespaces.
	ManagerRoles []*managerroles.Controller
	// AdmissionPolicies checks whether the policies that restrict the service accounts of
	// the server and of the controller manager are enforced; nil without a cluster.
	AdmissionPolicies *admissionpolicies.Checker
	// Replica elects the active server; nil if this one is the only one.
	Replica *replica.Replica
	// HandoverGracePeriod is how long requests are still refused with 503 after
	// another server has become active.
	HandoverGracePeriod time.Duration
	// AllocationDrainTimeout is how long a stop waits for in-flight allocations.
	AllocationDrainTimeout time.Duration
	// Limits are those of requests that do not come through the kube-apiserver;
	// default inflight.DefaultLimits.
	Limits inflight.Limits
	// StallTimeout is how long a client may read nothing of a response before it is
	// disconnected; default DefaultStallTimeout.
	StallTimeout time.Duration
}

// Config is a server's configuration.
type Config struct {
	Generic *server.RecommendedConfig
	Extra   ExtraConfig
}

type completedConfig struct {
	Generic server.CompletedConfig
	Extra   *ExtraConfig
	limiter *inflight.Limiter
}

// CompletedConfig is a configuration that a server can be created from. Only
// Config.Complete creates it.
type CompletedConfig struct {
	*completedConfig
}

const (
	// watchTerminationGracePeriod is how long a stop waits for watches to end.
	watchTerminationGracePeriod = 5 * time.Second
)

// Complete fills in what the options do not decide.
func (c *Config) Complete() (CompletedConfig, error) {
	switch {
	case c.Extra.Ledger == nil:
		return CompletedConfig{}, errors.New("ledger must be set")
	case c.Extra.Bindings == nil:
		return CompletedConfig{}, errors.New("bindings must be set")
	}
	generic := &c.Generic.Config
	if c.Extra.Standalone == nil {
		configureOpenAPI(generic, openapi.GetOpenAPIDefinitions, scheme.Scheme)
	} else {
		configureOpenAPI(generic, standalone.Definitions(openapi.GetOpenAPIDefinitions), scheme.Scheme, standalone.NewScheme())
	}
	generic.EffectiveVersion = newServedVersion()
	var err error
	if generic.AdmissionControl, err = c.Extra.admissionControl(); err != nil {
		return CompletedConfig{}, err
	}
	generic.MaxRequestBodyBytes, generic.JSONPatchMaxCopyBytes = maxBody, maxBody
	// Answer requests that arrive during a stop, instead of refusing connections.
	generic.ShutdownSendRetryAfter = true
	generic.ShutdownWatchTerminationGracePeriod = watchTerminationGracePeriod
	// Disconnect clients that stop reading: they must not hold memory.
	c.Extra.StallTimeout = cmp.Or(c.Extra.StallTimeout, DefaultStallTimeout)
	limiter := newDirectLimiter(generic, cmp.Or(c.Extra.Limits, inflight.DefaultLimits))
	if generic.SecureServing != nil {
		generic.SecureServing.Listener = stallListener{limiter.Listener(generic.SecureServing.Listener), c.Extra.StallTimeout}
	}
	registerStalled()
	if generic.AuditPolicyRuleEvaluator != nil {
		generic.AuditPolicyRuleEvaluator = secretsAuditPolicy{generic.AuditPolicyRuleEvaluator}
	}
	return CompletedConfig{&completedConfig{Generic: c.Generic.Complete(), Extra: &c.Extra, limiter: limiter}}, nil
}

// Close releases the resources of a configuration that no server was created from.
func (c *Config) Close() error { return closeLedger(c.Extra.Ledger) }

func closeLedger(l ledger.Ledger) error {
	if closer, ok := l.(interface{ Close() error }); ok {
		return closer.Close()
	}
	return nil
}
