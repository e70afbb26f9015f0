// Package apiserver puts the server together: metal, records and the registry
// under the generic server of Kubernetes. It decides who starts when, what is
// ready, and what has to end before the process may.
package apiserver

import (
	"cmp"
	"errors"
	"time"

	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/tools/events"

	"metal-stack.io/infrastructure-apiserver/generated/openapi"
	"metal-stack.io/infrastructure-apiserver/pkg/allocation"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/scheme"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/admissionpolicies"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/bootstrapdata"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/inflight"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/registration"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/replica"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/standalone"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	metalclient "metal-stack.io/infrastructure-apiserver/pkg/metal/client"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/observation"
	"metal-stack.io/infrastructure-apiserver/pkg/registry"
	"metal-stack.io/infrastructure-apiserver/pkg/tenancy"
)

// Binding tells whose metal is shown where, and where something can be created.
type Binding interface {
	tenancy.Bindings
	registry.Binding
}

// ExtraConfig is what this server needs besides the generic one.
type ExtraConfig struct {
	// Metal says how the metal-api is reached.
	Metal metalclient.Options
	// HMAC reads the credential again; nil if it never changes.
	HMAC func() (string, error)
	// Observer says how often metal is looked at.
	Observer observation.Options
	// Ledger keeps the records. If it has a method Close, that is called when
	// the server ends.
	Ledger ledger.Ledger
	// Binding tells whose metal is shown where.
	Binding Binding
	// Namespaces is Binding in a cluster, and nil without one: the server keeps
	// it.
	Namespaces *tenancy.Namespaces
	// ManagementCluster is the id by which metal knows this server.
	ManagementCluster string
	// Timing is how long allocations may take; zero fields have defaults.
	Timing allocation.Timing
	// Events records Events in the cluster; nil without a cluster.
	Events events.EventRecorder
	// Standalone is what a kube-apiserver serves in a cluster, and nil in one.
	Standalone *standalone.API
	// Quotas refuses what quotas leave no room for; nil without a cluster.
	Quotas admission.ValidationInterface
	// Owners looks up owners of other groups, for requests of the garbage
	// collector; nil without a cluster.
	Owners registry.OwnerLookup
	// Registrar keeps the registration with the cluster; nil if there is none.
	Registrar *registration.Registrar
	// BootstrapData lets the companion read Secrets in bound namespaces; nil if
	// nobody needs to be let.
	BootstrapData *bootstrapdata.Controller
	// AdmissionPolicies checks whether the policies that restrict the server's
	// service account are enforced; nil without a cluster.
	AdmissionPolicies *admissionpolicies.Checker
	// Replica is this server among others of which one is active; nil if there
	// are no others.
	Replica *replica.Replica
	// HandoverGracePeriod is how long requests are still sent elsewhere after another
	// server has become the active one.
	HandoverGracePeriod time.Duration
	// AllocationDrainTimeout is how long allocations that are under way get to end.
	AllocationDrainTimeout time.Duration
	// Limits bound the requests that do not come through the kube-apiserver;
	// default inflight.DefaultLimits.
	Limits inflight.Limits
	// StallTimeout is how long a client may take nothing of what is sent to it;
	// default DefaultStallLimit.
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

// CompletedConfig is a configuration that a server can be made of. It is only
// made by Config.Complete.
type CompletedConfig struct {
	*completedConfig
}

const (
	// watchTerminationGracePeriod is how long watches get to end at a stop.
	watchTerminationGracePeriod = 5 * time.Second
)

// Complete fills in what the options do not decide.
func (c *Config) Complete() (CompletedConfig, error) {
	switch {
	case c.Extra.Ledger == nil:
		return CompletedConfig{}, errors.New("ledger must be set")
	case c.Extra.Binding == nil:
		return CompletedConfig{}, errors.New("bindings must be set")
	}
	generic := &c.Generic.Config
	if c.Extra.Standalone == nil {
		configureOpenAPI(generic, openapi.GetOpenAPIDefinitions, scheme.Scheme)
	} else {
		configureOpenAPI(generic, standalone.Definitions(openapi.GetOpenAPIDefinitions), scheme.Scheme, standalone.NewScheme())
	}
	generic.EffectiveVersion = newServedVersion()
	// Nothing is admitted or refused but by the registry and by quotas: webhooks
	// and policies would be handed the user data of allocations, and need rights
	// in a cluster that a server may not have.
	generic.AdmissionControl = nil
	switch {
	case c.Extra.Quotas != nil:
		generic.AdmissionControl = c.Extra.Quotas
	case c.Extra.Standalone != nil:
		generic.AdmissionControl = standalone.Deletions{}
	}
	generic.MaxRequestBodyBytes, generic.JSONPatchMaxCopyBytes = maxBody, maxBody
	// Answer requests that come during a stop, rather than refuse connections.
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
		generic.AuditPolicyRuleEvaluator = allocationAuditPolicy{generic.AuditPolicyRuleEvaluator}
	}
	return CompletedConfig{&completedConfig{Generic: c.Generic.Complete(), Extra: &c.Extra, limiter: limiter}}, nil
}

// Close ends what a configuration holds, if no server was made of it.
func (c *Config) Close() error { return closeLedger(c.Extra.Ledger) }

func closeLedger(l ledger.Ledger) error {
	if closer, ok := l.(interface{ Close() error }); ok {
		return closer.Close()
	}
	return nil
}
