// SPDX-License-Identifier: Apache-2.0

// Package testserver runs the whole server in a test's process: over loopback TLS,
// against a simulator, standalone. It can be killed as a process can, and restarted.
// The product must never link it.
package testserver

import (
	"cmp"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"metal-stack.io/infrastructure-apiserver/generated/clientset/versioned"
	"metal-stack.io/infrastructure-apiserver/pkg/allocation"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/options"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/memory"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator/simtest"
)

// The namespaces that are bound unless Options.Bind says otherwise.
const (
	NamespaceA = "team-a" // simulator.ProjectA
	NamespaceB = "team-b" // simulator.ProjectB
)

// readyLimit is how long a start may take: with the race detector it computes for some seconds, more
// if OpenAPI is built, and on a busy machine ten programs share a core.
const readyLimit = 2 * time.Minute

// Options configure the server under test; the zero value is valid.
type Options struct {
	// Simulator configures the simulator that Start starts. One with a Speed
	// above zero is run.
	Simulator simulator.Config
	// Metal is a simulator that runs already; Simulator is then ignored.
	Metal *simtest.Server
	// Memory keeps the records in memory instead of a file. They outlive the
	// server either way, and go with the test.
	Memory bool
	// Bind are bindings namespace=project; default team-a and team-b.
	Bind []string
	// Timing is how long allocations may take; zero fields get values that
	// suit a test.
	Timing allocation.Timing
	// SweepInterval and ConsistentReadTimeout are the server's; default 200 ms and 30 s.
	// The polling budget is 1, so that observations are not delayed. Within a second, the
	// server's own default, a busy machine may not observe anything, and the read is stale.
	SweepInterval, ConsistentReadTimeout time.Duration
	// OpenAPI has the server serve its OpenAPI, as kubectl needs it. To build it takes a
	// third of the processor time of a start.
	OpenAPI bool
	// Flags and Configure change the rest: what the command line would, and what
	// it could not. They are called at each start.
	Flags     func(*options.Options)
	Configure func(*apiserver.Config)
	// Transport wraps the transport to the metal-api, for example to lose responses.
	Transport func(http.RoundTripper) http.RoundTripper
}

// Server is a server under test.
type Server struct {
	// Metal is the simulator.
	Metal *simtest.Server
	// Config is the administrator's, without rate limits. It stays valid over
	// restarts.
	Config *rest.Config
	// URL is that of the server. It stays the same over restarts.
	URL string
	// DataDir is its --data-dir.
	DataDir string

	t      testing.TB
	opts   Options
	port   int
	memory ledger.Ledger
	run    *run
}

// run is the server from one start to the next stop.
type run struct {
	server     *apiserver.Server
	killSwitch *killSwitch
	listener   *killableListener
	ledger     *killableLedger
	cancel     context.CancelFunc
	done       chan error
}

// testTiming shortens what takes minutes in production.
var testTiming = allocation.Timing{
	BeginTimeout: 2 * time.Second, AllocateTimeout: 5 * time.Second, FreeTimeout: 5 * time.Second, UncertainDuration: 500 * time.Millisecond, PollInterval: 50 * time.Millisecond,
	Backoff: 100 * time.Millisecond, MaxBackoff: time.Second, NetworkFreeDelay: 10 * time.Millisecond,
}

// Start starts a server, and a simulator if there is none, until the test ends.
func Start(t testing.TB, opts Options) *Server {
	t.Helper()
	if opts.Bind == nil {
		opts.Bind = []string{NamespaceA + "=" + simulator.ProjectA, NamespaceB + "=" + simulator.ProjectB}
	}
	if opts.Metal == nil {
		opts.Metal = simtest.Start(t, opts.Simulator)
		if opts.Simulator.Speed > 0 {
			ctx, cancel := context.WithCancel(context.Background())
			t.Cleanup(cancel)
			go opts.Metal.Sim.Run(ctx)
		}
	}
	s := &Server{Metal: opts.Metal, DataDir: t.TempDir(), t: t, opts: opts}
	if opts.Memory {
		s.memory = memory.New()
	}
	t.Cleanup(s.Stop)
	s.start()
	s.AwaitReady()
	return s
}

// Client returns a typed client of the administrator's.
func (s *Server) Client() versioned.Interface {
	c, err := versioned.NewForConfig(s.Config)
	require.NoError(s.t, err)
	return c
}

// Dynamic returns a dynamic client of the administrator's.
func (s *Server) Dynamic() dynamic.Interface {
	c, err := dynamic.NewForConfig(s.Config)
	require.NoError(s.t, err)
	return c
}

// Stop stops the server as a signal does, and waits until it has ended.
func (s *Server) Stop() {
	if s.run == nil {
		return
	}
	s.run.cancel()
	if err := <-s.run.done; err != nil {
		s.t.Errorf("the server ended with an error: %v", err)
	}
	s.run.killSwitch.kill()
	s.run = nil
}

// Kill ends the server as kill -9 does: connections are reset, calls of the
// metal-api are cut off, and nothing that was not recorded ever will be.
func (s *Server) Kill() {
	require.NotNil(s.t, s.run, "the server is not running")
	s.run.killSwitch.kill()
	require.NoError(s.t, s.run.listener.stopAccepting())
	s.run.ledger.await()
	s.run.cancel()
	if closer, ok := s.run.ledger.Ledger.(io.Closer); ok {
		require.NoError(s.t, closer.Close())
	}
	s.run = nil
}

// Restart starts the server again, at the same address and with the same
// records; it stops the one that runs.
func (s *Server) Restart() {
	s.t.Helper()
	s.RestartUnready()
	s.AwaitReady()
}

// RestartUnready is Restart without waiting until the server is ready.
func (s *Server) RestartUnready() {
	s.t.Helper()
	s.Stop()
	s.start()
}

// start starts the server.
func (s *Server) start() {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &run{killSwitch: newKillSwitch(), cancel: cancel, done: make(chan error, 1)}
	server, err := s.build(ctx, r)
	require.NoError(s.t, err)
	s.run, r.server = r, server
	go func() { r.done <- server.Run(ctx) }()
}

func (s *Server) build(ctx context.Context, r *run) (*apiserver.Server, error) {
	o := options.New()
	o.Standalone = true
	o.Metal.URL = s.Metal.URL
	o.Metal.HMACFile = s.keyFile()
	o.Metal.PollingBudget = 1
	o.Metal.SweepInterval = cmp.Or(s.opts.SweepInterval, 200*time.Millisecond)
	o.Metal.ConsistentReadTimeout = cmp.Or(s.opts.ConsistentReadTimeout, 30*time.Second)
	o.Records.DataDir = s.DataDir
	o.Records.ProjectBindings = s.opts.Bind
	if s.memory != nil {
		o.Records.Ledger = options.LedgerMemory
	}
	o.AllocationDrainTimeout = 10 * time.Second
	var err error
	if r.listener, err = r.killSwitch.listen(net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port))); err != nil {
		return nil, err
	}
	s.port = r.listener.Addr().(*net.TCPAddr).Port
	o.SecureServing.Listener = r.listener
	if s.opts.Flags != nil {
		s.opts.Flags(o)
	}
	if err := o.Complete(); err != nil {
		return nil, err
	}
	if err := o.Validate(); err != nil {
		return nil, err
	}
	config, err := o.Config(ctx)
	if err != nil {
		return nil, err
	}
	if s.memory != nil {
		config.Extra.Ledger = s.memory
	}
	r.ledger = &killableLedger{killSwitch: r.killSwitch, Ledger: config.Extra.Ledger}
	config.Extra.Ledger = r.ledger
	config.Extra.Timing = withTestTiming(s.opts.Timing)
	config.Generic.SkipOpenAPIInstallation = !s.opts.OpenAPI
	transport := http.RoundTripper(http.DefaultTransport.(*http.Transport).Clone())
	if s.opts.Transport != nil {
		transport = s.opts.Transport(transport)
	}
	config.Extra.Metal.Transport = &killableTransport{r.killSwitch, transport}
	if s.opts.Configure != nil {
		s.opts.Configure(config)
	}
	if s.Config == nil {
		if s.Config, err = clientcmd.BuildConfigFromFlags("", o.KubeconfigOut); err != nil {
			return nil, err
		}
		s.Config.QPS = -1
		s.URL = s.Config.Host
	}
	completed, err := config.Complete()
	if err != nil {
		return nil, err
	}
	return completed.New(ctx)
}

// keyFile returns a file that holds the simulator's key.
func (s *Server) keyFile() string {
	path := filepath.Join(s.DataDir, "hmac")
	key := s.opts.Simulator.HMAC.Edit
	if key == "" {
		key = simulator.DefaultHMAC.Edit
	}
	require.NoError(s.t, os.WriteFile(path, []byte(key+"\n"), 0o600))
	return path
}

// AwaitReady waits until the server says that it is ready.
func (s *Server) AwaitReady() {
	s.t.Helper()
	client, err := rest.HTTPClientFor(s.Config)
	require.NoError(s.t, err)
	defer client.CloseIdleConnections()
	require.Eventually(s.t, func() bool {
		select {
		case err := <-s.run.done:
			s.run.done <- err
			s.t.Logf("the server ended: %v", err)
			return false
		default:
		}
		resp, err := client.Get(s.URL + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, readyLimit, 20*time.Millisecond, "the server does not get ready")
}

func withTestTiming(t allocation.Timing) allocation.Timing {
	return allocation.Timing{
		BeginTimeout: cmp.Or(t.BeginTimeout, testTiming.BeginTimeout), AllocateTimeout: cmp.Or(t.AllocateTimeout, testTiming.AllocateTimeout), FreeTimeout: cmp.Or(t.FreeTimeout, testTiming.FreeTimeout), UncertainDuration: cmp.Or(t.UncertainDuration, testTiming.UncertainDuration),
		PollInterval: cmp.Or(t.PollInterval, testTiming.PollInterval), Backoff: cmp.Or(t.Backoff, testTiming.Backoff),
		MaxBackoff: cmp.Or(t.MaxBackoff, testTiming.MaxBackoff), NetworkFreeDelay: cmp.Or(t.NetworkFreeDelay, testTiming.NetworkFreeDelay),
	}
}
