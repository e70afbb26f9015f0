// SPDX-License-Identifier: Apache-2.0

// Package controlplane runs a real Kubernetes control plane for tests: etcd,
// kube-apiserver and kube-controller-manager, on loopback ports of their own
// and with certificates of their own. There are no nodes; what a test needs of
// them is played by the test process: connections to Services (network) and
// Pods (RunPod).
//
// The programs are built by `make controlplane` into bin/. It is what
// controller-runtime's envtest does, which has no controller manager, no
// front-proxy certificates, cannot be stopped and started on the same data,
// and whose programs outlive a test process that is killed.
//
// It must never need anything that is installed on the machine.
package controlplane

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

const (
	// startDeadline is how long one program may take to become ready. Alone on
	// two cores it is 4 s; tests of several packages share them.
	startDeadline = 2 * time.Minute
	// callDeadline ends every request that this package makes for a test.
	callDeadline = 30 * time.Second
	// attempts is how often a start is tried: another process may take a port
	// between choosing it and listening on it.
	attempts = 3
)

// ControlPlane is a running control plane. Its methods may be called at the
// same time, except for SnapshotEtcd and RestoreEtcd.
type ControlPlane struct {
	dir     string
	bin     string
	options options
	shared  bool
	pki     *pki
	ports   ports
	network *network
	admin   *rest.Config
	client  kubernetes.Interface

	// mu guards what RestoreEtcd replaces.
	mu                             sync.Mutex
	etcd, apiServer, controllerMgr *process
}

type options struct {
	apiServerFlags []string
	workload       *Workload
}

// Option changes how a control plane is run.
type Option func(*options)

// WithAPIServerFlags adds flags to the kube-apiserver's, and wins over them.
func WithAPIServerFlags(flags ...string) Option {
	return func(o *options) { o.apiServerFlags = append(o.apiServerFlags, flags...) }
}

// Workload is what the control plane of a workload cluster is configured with by whoever
// makes the cluster.
type Workload struct {
	// CA and CAKey, PEM, sign what the kube-apiserver and its users show.
	CA, CAKey []byte
	// ServiceAccountKey, PEM, signs the tokens of service accounts.
	ServiceAccountKey []byte
	// Hosts are further names and addresses of the kube-apiserver.
	Hosts []string
}

// AsWorkload runs etcd and a kube-apiserver only, with the authorities of a
// workload cluster: its controllers and nodes are the caller's to play.
func AsWorkload(w Workload) Option {
	return func(o *options) { o.workload = &w }
}

// Run runs a control plane until Stop, for those that are no test, or need one
// for less than a test.
func Run(ctx context.Context, with ...Option) (*ControlPlane, error) { return run(ctx, with...) }

// Stop ends a control plane that Run started.
func (c *ControlPlane) Stop() { c.stop() }

// Died returns which programs have ended by themselves.
func (c *ControlPlane) Died() error { return c.died() }

// Start runs a control plane until the end of the test. If the test fails, the
// last errors in the programs' logs are logged, and the logs are among its
// artifacts (go test -artifacts).
func Start(t testing.TB, with ...Option) *ControlPlane {
	t.Helper()
	c, err := run(t.Context(), with...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.died(); err != nil {
			t.Error(err)
		}
		c.report(t)
		c.stop()
	})
	return c
}

var shared struct {
	main    bool
	once    sync.Once
	running *ControlPlane
	err     error
}

// StartShared is the control plane that all tests of the process share,
// started by the first one. The test binary's TestMain has to be Main, which
// stops it. Tests keep apart by namespaces and names of their own.
func StartShared(t testing.TB) *ControlPlane {
	t.Helper()
	if !shared.main {
		t.Fatal("controlplane.StartShared needs: func TestMain(m *testing.M) { os.Exit(controlplane.Main(m)) }")
	}
	shared.once.Do(func() {
		// Not the first test's context: it ends with that test.
		shared.running, shared.err = run(context.Background())
		if shared.err == nil {
			shared.running.shared = true
		}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	c := shared.running
	t.Cleanup(func() {
		if err := c.died(); err != nil {
			t.Error(err)
		}
		c.report(t)
	})
	return c
}

// Main runs the tests, and then stops the shared control plane, if there is
// one. It returns the exit code. A process that is interrupted or terminated ends all
// programs first.
func Main(m *testing.M) int {
	shared.main = true
	endOnSignal()
	defer func() {
		if c := shared.running; c != nil {
			c.stop()
		}
	}()
	return m.Run()
}

// run starts everything, or nothing.
func run(ctx context.Context, with ...Option) (*ControlPlane, error) {
	bin, err := programs(binaries())
	if err != nil {
		return nil, err
	}
	var failures []error
	for range attempts {
		c := &ControlPlane{bin: bin}
		for _, option := range with {
			option(&c.options)
		}
		err := c.start(ctx)
		if err == nil {
			return c, nil
		}
		c.stop()
		failures = append(failures, err)
		if !errors.Is(err, errEnded) {
			break
		}
	}
	return nil, fmt.Errorf("control plane: %w", errors.Join(failures...))
}

func (c *ControlPlane) start(ctx context.Context) (err error) {
	// Not the test's own directory: its name can be too long for a socket.
	if c.dir, err = os.MkdirTemp("", "controlplane-"); err != nil {
		return err
	}
	c.setLive(true)
	if c.pki, err = newPKI(c.dir, c.options.workload); err != nil {
		return err
	}
	if c.ports, err = choosePorts(); err != nil {
		return err
	}
	c.admin = c.User("admin", "system:masters")
	if c.client, err = kubernetes.NewForConfig(c.admin); err != nil {
		return err
	}
	if c.network, err = startNetwork(filepath.Join(c.dir, socket), c.client); err != nil {
		return err
	}
	if err := c.startEtcd(ctx); err != nil {
		return err
	}
	if err := c.startAPIServer(ctx); err != nil {
		return err
	}
	if c.options.workload != nil {
		return nil
	}
	if err := c.startControllerManager(ctx); err != nil {
		return err
	}
	return c.settled(ctx)
}

// stop ends everything that runs, and returns when it and its files are gone.
func (c *ControlPlane) stop() {
	for _, p := range c.processes() {
		p.kill()
	}
	if c.network != nil {
		c.network.stop()
	}
	_ = os.RemoveAll(c.dir)
	c.setLive(false)
}

func (c *ControlPlane) processes() []*process {
	c.mu.Lock()
	defer c.mu.Unlock()
	var running []*process
	for _, p := range []*process{c.controllerMgr, c.apiServer, c.etcd} {
		if p != nil {
			running = append(running, p)
		}
	}
	return running
}

// died returns which programs have ended by themselves.
func (c *ControlPlane) died() error {
	var errs []error
	for _, p := range c.processes() {
		select {
		case <-p.ended:
			errs = append(errs, p.exitReport())
		default:
		}
	}
	return errors.Join(errs...)
}

// report shows the programs' last errors and keeps their logs, if the test
// failed.
func (c *ControlPlane) report(t testing.TB) {
	if !t.Failed() {
		return
	}
	for _, p := range c.processes() {
		t.Logf("the last errors in %s's log:\n%s", p.name, lastErrors(p.logFile, 15))
		if data, err := os.ReadFile(p.logFile); err == nil {
			_ = os.WriteFile(filepath.Join(t.ArtifactDir(), filepath.Base(p.logFile)), data, 0o600)
		}
	}
}

// EtcdURL is where etcd answers clients, without credentials.
func (c *ControlPlane) EtcdURL() string { return fmt.Sprintf("http://127.0.0.1:%d", c.ports.etcd) }

// PIDs are the ids of the programs' processes, by name: etcd, kube-apiserver and
// kube-controller-manager.
func (c *ControlPlane) PIDs() map[string]int {
	pids := map[string]int{}
	for _, p := range c.processes() {
		pids[p.name] = p.cmd.Process.Pid
	}
	return pids
}

// Dir is a directory that is removed after the control plane has been stopped.
// Names in it that begin with "test-" are free for tests.
func (c *ControlPlane) Dir() string { return c.dir }

// Admin is a client configuration of a cluster administrator, without a limit
// of its own.
func (c *ControlPlane) Admin() *rest.Config { return rest.CopyConfig(c.admin) }

// Client is a cluster administrator's client.
func (c *ControlPlane) Client() kubernetes.Interface { return c.client }
