// SPDX-License-Identifier: Apache-2.0

// Package cluster runs the whole installation for tests: artifacts/deploy is
// applied to a real control plane, and the real programs run against a
// simulated metal-api, with the arguments, the environment, the service
// accounts and so the rights that the Deployments in it give them. What a
// kubelet does is played: each program has a Pod object made of its
// Deployment's template.
package cluster

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"metal-stack.io/infrastructure-apiserver/generated/clientset/versioned"
	firewallv2 "metal-stack.io/infrastructure-apiserver/pkg/apis/firewall/v2"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha3"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator/simtest"
	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/build"
	"metal-stack.io/infrastructure-apiserver/test/framework/controlplane"
)

const (
	// Namespace is where artifacts/deploy puts everything.
	Namespace = "metal-stack-system"
	// APIServer and Manager name the Deployments, and much that goes with them.
	APIServer = "metalstack-apiserver"
	Manager   = "metalstack-controller-manager"

	// callLimit is how long a request of the fixture's own may take.
	callLimit = 30 * time.Second
	// readyLimit is how long a program may take to get ready, on a busy machine.
	readyLimit = 2 * time.Minute
)

// Versions are the group-versions that the server serves.
var Versions = []schema.GroupVersion{v1alpha3.SchemeGroupVersion, v1alpha4.SchemeGroupVersion}

// Options are what a test may want differently; the zero value is one server,
// no controller manager, and a data centre that rests.
type Options struct {
	// ControlPlane is one that runs already. The installation is a cluster's
	// only one.
	ControlPlane *controlplane.ControlPlane
	// Simulator configures the metal-api. One with a Speed above zero is run.
	Simulator simulator.Config
	// Metal is a metal-api that runs already; Simulator is then ignored.
	Metal *simtest.Server
	// Servers is how many replicas of the server are started; default 1, and -1
	// for none.
	Servers int
	// Flags are added to the servers' arguments, and win over them.
	Flags []string
	// ControllerManager starts the controller manager. It runs with --standalone, which
	// allocates machines that no Machine owns, unless ManagerFlags say
	// otherwise.
	ControllerManager bool
	ManagerFlags      []string
	// ManagerEnv is added to the controller manager's environment, as key=value.
	ManagerEnv []string
	// Overlay is a directory to apply instead of artifacts/deploy.
	Overlay string
	// Installed says that the installation is there already, by other means.
	Installed bool
	// Program is the file of the program that a Deployment's image stands for; by
	// default that of the present source, whatever the image.
	Program func(t testing.TB, name, image string) string
}

// Cluster is a management cluster in which the server is installed.
type Cluster struct {
	*controlplane.ControlPlane
	// Metal is the simulator.
	Metal *simtest.Server
	// Servers and ControllerManager are the programs that Start started.
	Servers           []*Program
	ControllerManager *Program

	t    testing.TB
	opts Options
}

// Start installs everything, and stops it when the test ends. It returns when
// every program is ready, and the API is available if there is a server.
func Start(t testing.TB, opts Options) *Cluster {
	t.Helper()
	if opts.Program == nil {
		opts.Program = func(t testing.TB, name, _ string) string { return Binary(t, name) }
		// On a busy machine a build takes longer than a request may.
		for _, name := range []string{APIServer, Manager} {
			Binary(t, name)
		}
	}
	if opts.ControlPlane == nil {
		opts.ControlPlane = controlplane.Start(t)
	}
	if opts.Metal == nil {
		opts.Metal = simtest.Start(t, opts.Simulator)
		if opts.Simulator.Speed > 0 {
			ctx, cancel := context.WithCancel(context.Background())
			t.Cleanup(cancel)
			go opts.Metal.Sim.Run(ctx)
		}
	}
	if opts.Servers == 0 {
		opts.Servers = 1
	}
	c := &Cluster{ControlPlane: opts.ControlPlane, Metal: opts.Metal, t: t, opts: opts}
	if !opts.Installed {
		c.install()
	}
	for range opts.Servers {
		c.Servers = append(c.Servers, c.StartServer(t))
	}
	if opts.ControllerManager {
		c.ControllerManager = c.StartControllerManager(t)
	}
	for _, p := range c.Servers {
		p.AwaitReady(t)
	}
	if opts.Servers > 0 {
		c.AwaitAvailable(t)
	}
	if c.ControllerManager != nil {
		c.ControllerManager.AwaitReady(t)
	}
	return c
}

// Deploy is the directory of the installation.
func Deploy() string { return filepath.Join(build.Root(), "artifacts", "deploy") }

// install applies the installation as its README.md says.
func (c *Cluster) install() {
	c.t.Helper()
	overlay := c.opts.Overlay
	if overlay == "" {
		overlay = Deploy()
	}
	_, stderr, err := c.Kubectl(c.t, c.Admin(), "apply", "-k", overlay)
	require.NoError(c.t, err, stderr)
	ctx, cancel := context.WithTimeout(c.t.Context(), callLimit)
	defer cancel()
	_, err = c.Client().CoreV1().Secrets(Namespace).Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "metal-api"},
		StringData: map[string]string{"url": c.Metal.URL, "hmac": c.Metal.Key("Metal-Edit")},
	}, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		require.NoError(c.t, err)
	}
}

// AwaitAvailable waits until the kube-apiserver passes requests on, which it
// does some time after it has said so.
func (c *Cluster) AwaitAvailable(t testing.TB) {
	t.Helper()
	for _, version := range Versions {
		c.awaitServed(t, version, "metalstackclusters")
	}
	if !slices.Contains(c.opts.Flags, "--serve-firewalls=false") {
		c.awaitServed(t, firewallv2.SchemeGroupVersion, "firewalls")
	}
}

func (c *Cluster) awaitServed(t testing.TB, version schema.GroupVersion, resource string) {
	t.Helper()
	c.WaitAvailable(t, version, true)
	framework.EventuallyRetrying(t, readyLimit, func(ctx context.Context) error {
		return c.Client().Discovery().RESTClient().Get().AbsPath("/apis/" + version.String() + "/" + resource).MaxRetries(0).Do(ctx).Error()
	})
	// The kube-apiserver lists them some time after it serves them. A namespace that is
	// deleted before may end with objects of this version in it.
	framework.EventuallyRetrying(t, readyLimit, func(context.Context) error {
		_, lists, err := c.Client().Discovery().ServerGroupsAndResources()
		isVersion := func(l *metav1.APIResourceList) bool {
			return l.GroupVersion == version.String() && len(l.APIResources) > 0
		}
		if !slices.ContainsFunc(lists, isVersion) {
			return fmt.Errorf("%s is not discovered: %v", version, err)
		}
		return nil
	})
}

// Bind makes a namespace that is bound to a project; an empty project makes
// one that is not bound.
func (c *Cluster) Bind(t testing.TB, namespace, project string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callLimit)
	defer cancel()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	if project != "" {
		ns.Labels = map[string]string{infrastructure.ProjectLabel: project}
	}
	_, err := c.Client().CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{})
	require.NoError(t, err)
}

// Metalstack is a client of our kinds, through the kube-apiserver, as the user
// of config.
func (c *Cluster) Metalstack(t testing.TB, config *rest.Config) versioned.Interface {
	t.Helper()
	client, err := versioned.NewForConfig(config)
	require.NoError(t, err)
	return client
}
