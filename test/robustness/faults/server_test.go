// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/allocation"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/catalogue"
	metalclient "metal-stack.io/infrastructure-apiserver/pkg/metal/client"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/observation"
	"metal-stack.io/infrastructure-apiserver/pkg/projection"
	"metal-stack.io/infrastructure-apiserver/pkg/refresh"
	infrarest "metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/rest"
	"metal-stack.io/infrastructure-apiserver/pkg/storage"
	"metal-stack.io/infrastructure-apiserver/pkg/visibility"
)

const (
	// lookAgainAfter is how long after it took over a server reads the ledger once more.
	lookAgainAfter = 2 * time.Minute
	surveyInterval = 30 * time.Second
	// stopLimit is how long allocations under way get at a stop.
	stopLimit = 20 * time.Second
)

// server is one process: all that pkg/apiserver puts together, but HTTP. It is
// dead when its ctx has ended: nothing that it still does reaches anybody.
type server struct {
	env  *environment
	name string
	ctx  context.Context
	die  context.CancelFunc

	fence     *fence
	observer  *observation.Observer
	backend   *storage.Backend
	protocol  *allocation.Protocol
	recoverer *allocation.Recoverer
	storage   map[string]rest.Storage
	// open: it answers requests.
	open atomic.Bool
}

// startServer starts a process.
func (env *environment) startServer(name string) *server {
	s := &server{env: env, name: name, fence: &fence{}}
	s.ctx, s.die = context.WithCancel(context.Background())
	client, err := metalclient.New(metalclient.Options{
		URL: "http://metal-api.test", HMAC: editKey, Fence: s.fence.Check,
		Transport: &wire{handler: env.api, ctx: s.ctx},
	})
	require.NoError(env.t, err)
	records := &access{records: env.records, ctx: s.ctx, at: s.spring}
	s.backend, err = storage.NewBackend(s.ctx, storage.Options{Ledger: records, Clock: env.revisionClock, Fence: s.fence})
	require.NoError(env.t, err)
	s.observer = observation.New(client, observation.Options{
		SweepInterval: env.setup.sweepInterval, FocusInterval: env.setup.focusInterval, Referenced: s.backend.RecordedRefs, Changed: s.backend.MetalChanged,
		Relevant: func(project string) bool {
			_, bound := env.binding.Namespace(project)
			return bound
		},
	})
	s.backend.SetRefresher(refresh.New(s.observer, nil, env.binding))
	s.assemble(client)
	go s.observer.Run(s.ctx)
	go s.live()
	return s
}

// assemble builds the registry and the protocol.
func (s *server) assemble(client *metalclient.Client) {
	source := projection.Source{Facts: s.observer, Bindings: s.env.binding, Clock: s.env.clocks[s.name]}
	resolver := visibility.NewResolver(authorizerfactory.NewAlwaysAllowAuthorizer(), s.backend.AdvanceRevision, clock.RealClock{})
	resources, err := infrarest.New(infrarest.NewRESTOptionsGetter(s.backend, source), s.env.binding, resolver, catalogue.New(client, clock.RealClock{}), nil)
	require.NoError(s.env.t, err)
	port := allocation.Metal(client)
	if s.env.breaks.metal != nil {
		port = s.env.breaks.metal(port)
	}
	s.protocol = allocation.New(allocation.Options{
		Machines: resources.Machines(), Firewalls: resources.Firewalls(), Clusters: resources.Clusters(),
		Metal: port, Observer: s.observer, Bindings: s.env.binding, ManagementCluster: managementCluster,
		Clock: s.env.clocks[s.name], Timing: s.env.breaks.timing, CrashPoint: s.at,
	})
	s.recoverer = allocation.NewRecoverer(s.protocol)
	s.storage = resources.APIGroup(infrarest.Backends{Allocator: s.protocol}).VersionedResourcesStorageMap["v1alpha4"]
}

// live competes for the Lease, and does the active server's work while it holds
// it. A server that lost it ends, and is started again.
func (s *server) live() {
	for !s.observer.HasSynced() {
		if !s.sleep(time.Second) {
			return
		}
	}
	for tries := 0; ; tries++ {
		if began := time.Now(); s.env.lease.claim(s.name) && s.fence.renew(began) {
			break
		}
		if tries%int(surveyInterval/retryPeriod) == 0 {
			_ = s.backend.Preload(s.ctx)
		}
		if !s.sleep(retryPeriod) {
			return
		}
	}
	work, done := context.WithCancel(s.ctx)
	defer done()
	go s.takeOver(work)
	for s.sleep(retryPeriod) {
		began := time.Now()
		if s.env.lease.claim(s.name) {
			s.fence.renew(began)
		}
		if s.fence.Check() != nil {
			s.env.note("%s lost the Lease", s.name)
			s.leave()
			return
		}
	}
}

// takeOver makes this server the one that answers.
func (s *server) takeOver(ctx context.Context) {
	if err := s.backend.Start(ctx); err != nil {
		s.env.note("%s cannot take over: %v", s.name, err)
		s.leave()
		return
	}
	_ = s.observer.RefreshAll(ctx)
	s.open.Store(true)
	s.env.note("%s took over", s.name)
	go s.recoverer.Run(ctx)
	if s.sleep(lookAgainAfter) {
		for s.backend.Resync(ctx) != nil && s.sleep(surveyInterval) {
		}
	}
}

// leave ends a server that must not go on; what it has under way in the
// metal-api gets its time.
func (s *server) leave() {
	s.open.Store(false)
	s.backend.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), stopLimit)
	defer cancel()
	_ = s.protocol.Shutdown(ctx)
	s.kill()
}

// stop is what SIGTERM does: allocations under way end, and then the Lease is
// given back.
func (s *server) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), stopLimit)
	defer cancel()
	_ = s.protocol.Shutdown(ctx)
	s.open.Store(false)
	s.fence.close()
	s.env.lease.giveBack(s.name)
	s.backend.Stop()
	s.kill()
}

// kill ends the process at once; it is started again after a moment.
func (s *server) kill() {
	if s.ctx.Err() != nil {
		return
	}
	s.open.Store(false)
	s.die()
	s.backend.Stop()
	// Goroutines cannot be killed. They reach nothing any more, and unwind.
	go func() { _ = s.protocol.Shutdown(context.Background()) }()
	s.env.restart(s.name)
}

func (s *server) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return s.ctx.Err() == nil
	case <-s.ctx.Done():
		return false
	}
}
