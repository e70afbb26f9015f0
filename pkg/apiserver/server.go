// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apiserver/pkg/server"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/allocation"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/catalogue"
	metalclient "metal-stack.io/infrastructure-apiserver/pkg/metal/client"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/observation"
	"metal-stack.io/infrastructure-apiserver/pkg/metalapi"
	"metal-stack.io/infrastructure-apiserver/pkg/operation"
	"metal-stack.io/infrastructure-apiserver/pkg/projection"
	"metal-stack.io/infrastructure-apiserver/pkg/refresh"
	"metal-stack.io/infrastructure-apiserver/pkg/registry"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/operations"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/rest"
	"metal-stack.io/infrastructure-apiserver/pkg/storage"
	"metal-stack.io/infrastructure-apiserver/pkg/tenancy"
	"metal-stack.io/infrastructure-apiserver/pkg/visibility"
)

// Server is a server that can run once.
type Server struct {
	Generic    *server.GenericAPIServer
	extra      *ExtraConfig
	metal      *metalclient.Client
	ledger     ledger.Ledger
	records    *ledger.Guarded // below ledger
	backend    *storage.Backend
	observer   *observation.Observer
	catalogue  *catalogue.Catalogue
	refresher  *refresh.Refresher
	protocol   *allocation.Protocol
	recoverer  interface{ Run(context.Context) } // *allocation.Recoverer
	visibility *visibility.Resolver
	resources  *rest.Resources
	ready      *readiness
	gate       *servingGate
	// preloaded is closed when a replica has read the ledger for the first time.
	preloaded chan struct{}
	// recordsRead is when the last read of the ledger began by which this standby could become active.
	recordsRead atomic.Pointer[time.Time]
	// terminateRun makes Run return an error.
	terminateRun context.CancelCauseFunc
	// active ends when the server begins to stop; only an active server has use for it.
	active     context.Context
	stopActive context.CancelFunc
	// stopBackground stops what runs in the background.
	stopBackground context.CancelFunc
	closed         sync.Once
}

// New creates a server from the configuration. It reads the ledger, unless the server is one
// of several replicas, and makes no other call. The server owns the ledger from here on, also if New fails.
func (c CompletedConfig) New(ctx context.Context) (_ *Server, err error) {
	// What runs in the background outlives the termination signal, for as long as
	// requests are being served.
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	s := &Server{extra: c.Extra, stopBackground: stop, ready: &readiness{}, preloaded: make(chan struct{}), terminateRun: func(error) {}}
	s.active, s.stopActive = context.WithCancel(background)
	s.gate = newServingGate(s.unavailableReason)
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	chain := c.Generic.BuildHandlerChainFunc
	c.Generic.BuildHandlerChainFunc = func(handler http.Handler, generic *server.Config) http.Handler {
		limited := s.gate.wrap(withYAMLLimit(withBodyLimits(withWarningLimits(withoutStoredSecrets(operations.WithUnlockReason(handler))))))
		inside := registry.WithUserAgent(registry.WithKeptEncodings(limited, rest.Serializer()))
		whole := chain(c.limiter.WithRetainedSlot(inside), generic)
		return withStallTimeout(c.limiter.WithLimits(whole, newHealthProbes(handler)), c.Extra.StallTimeout)
	}
	if s.Generic, err = c.Generic.New("metalstack-apiserver", server.NewEmptyDelegate()); err != nil {
		return nil, err
	}
	if serving := c.Generic.SecureServing; serving != nil {
		exportCertificateExpiry(serving.Cert)
	}
	if err := s.connectMetal(background); err != nil {
		return nil, err
	}
	s.ready.sweeps = s.observer
	if c.Extra.Namespaces != nil {
		s.ready.bindings = c.Extra.Namespaces
	}
	source := projection.Source{
		Facts: s.observer, Bindings: c.Extra.Bindings, BoundProjects: c.Extra.Bindings.BoundProjects, Sizes: s.catalogue, Images: s.catalogue,
		Duplicates: s.observer, Catalogue: s.catalogue, Capacities: s.observer, Clock: clock.RealClock{},
	}
	s.visibility = visibility.NewResolver(c.Generic.Authorization.Authorizer, s.backend.AdvanceRevision, clock.RealClock{})
	s.catalogue.OnChanged(func(refs []metal.Ref) { rest.CatalogueChanged(s.backend, refs) })
	s.catalogue.OnNewestImages(func() { rest.ReprojectMachines(s.backend) })
	s.resources, err = rest.New(rest.NewRESTOptionsGetter(s.backend, source), c.Extra.Bindings, s.visibility, s.catalogue, c.Extra.Owners)
	if err != nil {
		return nil, err
	}
	resources := s.resources
	var takenOver func(string) time.Time
	if c.Extra.Namespaces != nil {
		takenOver = c.Extra.Namespaces.TakenOver
	}
	s.protocol = allocation.New(allocation.Options{
		TakenOver: takenOver,
		Machines:  resources.Machines(), Firewalls: resources.Firewalls(), Clusters: resources.Clusters(),
		Networks: resources.Networks(), IPs: resources.IPs(),
		Metal: s.metal, Observer: s.observer, Bindings: c.Extra.Bindings,
		ManagementCluster: c.Extra.ManagementCluster, Standalone: c.Extra.Standalone != nil, Region: c.Extra.Region, Timing: c.Extra.Timing,
		Offers: &allocation.Offers{Catalogue: s.catalogue, Capacities: s.observer}, Writable: s.backend.CheckWritable,
	})
	s.recoverer = allocation.NewRecoverer(s.protocol)
	allocation.RegisterMetrics()
	operation.RegisterMetrics()
	tenancy.RegisterMetrics()
	backends := rest.Backends{
		Allocator: s.protocol, MetalAPI: metalapi.NewServer(s.observer, s.metal, s.protocol, clock.RealClock{}),
		Operator: s.newOperator(), Authorizer: s.visibility,
	}
	if err := s.Generic.InstallAPIGroup(resources.APIGroup(backends)); err != nil {
		return nil, fmt.Errorf("failed to install the API: %w", err)
	}
	if c.Extra.ServeFirewalls {
		if err := s.Generic.InstallAPIGroup(resources.FirewallAPIGroup()); err != nil {
			return nil, fmt.Errorf("failed to install the API of firewall-controllers: %w", err)
		}
	}
	if c.Extra.Standalone != nil {
		if err := c.Extra.Standalone.Install(s.Generic, c.Generic.Authorization.Authorizer); err != nil {
			return nil, fmt.Errorf("failed to install the standalone API: %w", err)
		}
	}
	if err := s.addAdmission(); err != nil {
		return nil, err
	}
	if err := s.addNamespaceBindingsHook(); err != nil {
		return nil, err
	}
	// One of several replicas starts when it becomes active.
	if c.Extra.Replica == nil {
		if err := s.backend.Start(ctx); err != nil {
			return nil, err
		}
	}
	return s, s.addHooks(background)
}

// newOperator creates what operates machines.
func (s *Server) newOperator() *operation.Operator {
	events := operation.Recorder(loggedEvents{})
	if s.extra.OperationEvents != nil {
		events = clusterEvents{s.extra.OperationEvents, s.extra.ReportingInstance, clock.RealClock{}}
	}
	return operation.New(operation.Options{
		Protocol: s.protocol, Metal: s.metal, Facts: s.observer, Catalogue: s.catalogue, Bindings: s.extra.Bindings, Events: events,
	})
}

// connectMetal creates what facts pass through: the client of the metal-api, the
// observer, and the backend of the views.
func (s *Server) connectMetal(ctx context.Context) error {
	s.records = ledger.Guard(s.extra.Ledger)
	s.ledger = s.records
	options := storage.Options{Ledger: s.records}
	s.extra.Metal.Fence = s.records.Check
	if s.extra.Namespaces != nil {
		options.HiddenNamespaces, options.Origin = s.extra.Namespaces.Hidden, s.origin
	}
	if s.extra.Replica != nil {
		options.Fence = s.extra.Replica.Fence()
		s.extra.Metal.Fence = func() error { return cmp.Or(s.records.Check(), options.Fence.Check()) }
		s.ledger = ledger.WithFence(s.ledger, options.Fence.Check)
	}
	var err error
	if s.metal, err = metalclient.New(s.extra.Metal); err != nil {
		return err
	}
	if s.backend, err = storage.NewBackend(ctx, options); err != nil {
		return err
	}
	opts := s.extra.Observer
	if s.extra.Replica != nil {
		opts.Budget *= standbyBudgetFraction
	}
	opts.Referenced = s.backend.RecordedRefs
	if s.extra.Replica != nil {
		opts.Referenced = func(since uint64) metal.RefChanges {
			select {
			case <-s.preloaded:
			case <-ctx.Done():
			}
			return s.backend.RecordedRefs(since)
		}
	}
	opts.ManagementCluster = allocation.LabelValue(s.extra.ManagementCluster)
	// After records of a newer format were met, nothing else than before is shown.
	shown := func() bool { return s.records.Check() == nil }
	opts.Changed, opts.Shown = s.backend.MetalChanged, shown
	opts.Relevant = func(project string) bool {
		_, bound := s.extra.Bindings.Namespace(project)
		return bound
	}
	opts.BoundProjects = s.extra.Bindings.BoundProjects
	s.observer = observation.New(s.metal, opts)
	s.catalogue = catalogue.New(s.metal, clock.RealClock{}).WithMetrics(s.extra.Metal.Registerer).WithFacts(s.observer).WithShown(shown)
	s.refresher = refresh.New(s.observer, s.catalogue, s.extra.Bindings)
	s.backend.SetRefresher(s.refresher)
	return nil
}

// addHooks adds health checks, and the hooks that start and stop the rest of the
// server; ctx ends when the server has ended.
func (s *Server) addHooks(ctx context.Context) error {
	if err := s.Generic.AddReadyzChecks(s.ready.initialSyncCheck(), s.recordFormatCheck(), s.recordsReadCheck(), s.roleCheck()); err != nil {
		return err
	}
	if b, ok := any(s.observer).(heartbeater); ok {
		if err := s.Generic.AddLivezChecks(0, observerCheck(b)); err != nil {
			return err
		}
	}
	err := s.Generic.AddPostStartHook("start-metal-observer", func(hook server.PostStartHookContext) error {
		go s.observer.Run(hook)
		go s.catalogue.Run(hook)
		if s.extra.HMAC != nil {
			go reloadCredential(hook, credentialReloadInterval, s.extra.Metal.HMAC, s.extra.HMAC, func(key string) { s.metal.SetHMAC(key, s.extra.Metal.AuthType) })
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = s.Generic.AddPostStartHook("start-leader-election", func(server.PostStartHookContext) error {
		go s.handleNewerRecords(ctx)
		go s.runLeaderElection(ctx)
		return nil
	})
	if err != nil {
		return err
	}
	err = s.Generic.AddPostStartHook("start-visibility-refresher", func(hook server.PostStartHookContext) error {
		go s.visibility.Run(hook)
		return nil
	})
	if err != nil {
		return err
	}
	s.Generic.RegisterDestroyFunc(s.close)
	return s.Generic.AddPreShutdownHook("hand-over-leadership", func() error {
		s.shutDown()
		return nil
	})
}

// Run serves until ctx ends, and then drains requests. It returns an error if the
// server had to terminate by itself.
func (s *Server) Run(ctx context.Context) error {
	ctx, s.terminateRun = context.WithCancelCause(ctx)
	defer s.terminateRun(nil)
	err := s.Generic.PrepareRun().RunWithContext(ctx)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return errors.Join(cause, err)
	}
	return err
}

// close stops what runs in the background; it can be called more than once.
func (s *Server) close() {
	s.closed.Do(func() {
		s.stopBackground()
		if err := closeLedger(s.extra.Ledger); err != nil {
			klog.Background().Error(err, "Failed to close the ledger")
		}
	})
}
