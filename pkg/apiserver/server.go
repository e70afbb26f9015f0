package apiserver

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/server"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/allocation"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/projection"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/rest"
	"metal-stack.io/infrastructure-apiserver/pkg/storage"
	"metal-stack.io/infrastructure-apiserver/pkg/tenancy"
)

// Server is a server that can run once.
type Server struct {
	Generic   *server.GenericAPIServer
	extra     *ExtraConfig
	metal     *metal.Client
	observer  *metal.Observer
	catalogue *metal.Catalogue
	protocol  *allocation.Protocol
	keeper    *allocation.Keeper
	access    *tenancy.Access
	// stop ends what runs in the background.
	stop   context.CancelFunc
	closed sync.Once
}

// New makes a server of the configuration. It reads the ledger, and calls
// nobody else. The server owns the ledger from here on, also if New fails.
func (c CompletedConfig) New(ctx context.Context) (_ *Server, err error) {
	// What runs in the background outlives the signal to stop, for as long as
	// requests are being answered.
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	s := &Server{extra: c.Extra, stop: stop}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	ready := &readiness{}
	chain := c.Generic.BuildHandlerChainFunc
	c.Generic.BuildHandlerChainFunc = func(handler http.Handler, generic *server.Config) http.Handler {
		return chain(ready.gate(handler), generic)
	}
	if s.Generic, err = c.Generic.New("metalstack-apiserver", server.NewEmptyDelegate()); err != nil {
		return nil, err
	}
	if serving := c.Generic.SecureServing; serving != nil {
		showExpiry(serving.Cert)
	}
	backend, err := s.observe(background)
	if err != nil {
		return nil, err
	}
	ready.looker = s.observer
	if c.Extra.Namespaces != nil {
		ready.bindings = c.Extra.Namespaces
	}
	source := projection.Source{Facts: s.observer, Bindings: c.Extra.Binding, Clock: clock.RealClock{}}
	s.access = tenancy.NewAccess(c.Generic.Authorization.Authorizer, backend.Advance, clock.RealClock{})
	resources, err := rest.New(rest.NewStores(backend, source), c.Extra.Binding, s.access, s.catalogue)
	if err != nil {
		return nil, err
	}
	if err := backend.Start(ctx); err != nil {
		return nil, err
	}
	s.protocol = allocation.New(allocation.Options{
		Machines: resources.Machines(), Firewalls: resources.Firewalls(), Clusters: resources.Clusters(),
		Metal: s.metal, Observer: s.observer, Bindings: c.Extra.Binding,
		ManagementCluster: c.Extra.ManagementCluster, Timing: c.Extra.Timing,
	})
	s.keeper = allocation.NewKeeper(s.protocol)
	allocation.RegisterMetrics()
	if err := s.Generic.InstallAPIGroup(resources.APIGroup(s.protocol)); err != nil {
		return nil, fmt.Errorf("install the API: %w", err)
	}
	for path, handler := range c.Extra.Handlers {
		if strings.HasSuffix(path, "/") {
			s.Generic.Handler.NonGoRestfulMux.HandlePrefix(path, handler)
		} else {
			s.Generic.Handler.NonGoRestfulMux.Handle(path, handler)
		}
	}
	if err := s.keepBindings(backend); err != nil {
		return nil, err
	}
	return s, s.addHooks(ready)
}

// observe builds the way of facts: from the metal-api through the observer
// into the view.
func (s *Server) observe(ctx context.Context) (*storage.Backend, error) {
	var err error
	if s.metal, err = metal.NewClient(s.extra.Metal); err != nil {
		return nil, err
	}
	backend, err := storage.NewBackend(ctx, storage.Options{Ledger: s.extra.Ledger})
	if err != nil {
		return nil, err
	}
	opts := s.extra.Observer
	opts.Named = backend.Named
	opts.Changed = backend.MetalChanged
	opts.Relevant = func(project string) bool {
		_, bound := s.extra.Binding.Namespace(project)
		return bound
	}
	s.observer = metal.NewObserver(s.metal, opts)
	s.catalogue = metal.NewCatalogue(s.metal, clock.RealClock{}).WithMetrics(s.extra.Metal.Registerer).WithSightings(s.observer)
	backend.SetFreshener(freshener{s.observer, s.extra.Binding})
	return backend, nil
}

func (s *Server) addHooks(ready *readiness) error {
	if err := s.Generic.AddReadyzChecks(ready.check()); err != nil {
		return err
	}
	if b, ok := any(s.observer).(beater); ok {
		if err := s.Generic.AddLivezChecks(0, heartbeat(b)); err != nil {
			return err
		}
	}
	err := s.Generic.AddPostStartHook("look-at-metal", func(hook server.PostStartHookContext) error {
		go s.observer.Run(hook)
		go s.catalogue.Run(hook)
		if s.extra.HMAC != nil {
			go keepCredential(hook, credentialInterval, s.extra.Metal.HMAC, s.extra.HMAC, func(key string) { s.metal.SetHMAC(key, s.extra.Metal.AuthType) })
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = s.Generic.AddPostStartHook("keep-allocations", func(hook server.PostStartHookContext) error {
		go s.keeper.Run(hook)
		return nil
	})
	if err != nil {
		return err
	}
	err = s.Generic.AddPostStartHook("ask-what-users-see", func(hook server.PostStartHookContext) error {
		go s.access.Run(hook)
		return nil
	})
	if err != nil {
		return err
	}
	if s.extra.Registrar != nil {
		if err := s.Generic.AddPostStartHook("register", s.register(ready)); err != nil {
			return err
		}
	}
	s.Generic.RegisterDestroyFunc(s.close)
	return s.Generic.AddPreShutdownHook("end-allocations", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), s.extra.ShutdownTimeout)
		defer cancel()
		if err := s.protocol.Shutdown(ctx); err != nil {
			klog.Background().Info("Allocations are still under way; the next start goes on with them", "reason", err)
		}
		return nil
	})
}

// register registers the server once it is ready. Until then, a cluster that
// knows of it would take its API for unavailable, and while one is, no
// namespace can be deleted.
func (s *Server) register(ready *readiness) server.PostStartHookFunc {
	return func(hook server.PostStartHookContext) error {
		go func() {
			isReady := func(context.Context) (bool, error) { return ready.ready(), nil }
			if wait.PollUntilContextCancel(hook, readyInterval, true, isReady) == nil {
				s.extra.Registrar.Run(hook)
			}
		}()
		return nil
	}
}

// Run serves until ctx ends, then lets what is under way come to its end.
func (s *Server) Run(ctx context.Context) error {
	return s.Generic.PrepareRun().RunWithContext(ctx)
}

// close ends everything; it can be called more than once.
func (s *Server) close() {
	s.closed.Do(func() {
		s.stop()
		if err := closeLedger(s.extra.Ledger); err != nil {
			klog.Background().Error(err, "Cannot close the ledger")
		}
	})
}
