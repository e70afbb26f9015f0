// SPDX-License-Identifier: Apache-2.0

// Package replicas_test runs two servers as artifacts/deploy does, and takes the
// active one away: it is asked to stop, killed, or paused in the middle of its
// work.
package replicas_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	typed "metal-stack.io/infrastructure-apiserver/generated/clientset/versioned/typed/infrastructure/v1alpha4"
	api "metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/replica"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
)

const (
	team = "team-a"
	// leaseDuration is short, and long enough for a busy machine.
	leaseDuration = 8 * time.Second
	// grace is what a failover may take besides, on a busy machine.
	grace = 30 * time.Second
	// limit ends whatever a test waits for.
	limit = time.Minute
)

func TestMain(m *testing.M) { os.Exit(cluster.Main(m)) }

// environment is a cluster with a cluster of metal in it.
type environment struct {
	*cluster.Cluster
	t testing.TB
	// whole is the test that all servers run for.
	whole testing.TB
}

func newEnvironment(t testing.TB) *environment {
	t.Helper()
	env := &environment{t: t, whole: t, Cluster: cluster.Start(t, cluster.Options{Servers: 2, Flags: []string{
		"--leader-elect-lease-duration=" + leaseDuration.String(),
		"--leader-elect-renew-deadline=6s",
		"--leader-elect-retry-period=500ms",
		"--handover-grace-period=1s",
	}})}
	env.Bind(t, team, simulator.ProjectA)
	clusters := env.as(env.Admin()).MetalStackClusters(team)
	ctx := env.context()
	_, err := clusters.Create(ctx, objects.Cluster("c"), metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = clusters.Allocate(ctx, "c", &api.Allocation{}, metav1.CreateOptions{})
	require.NoError(t, err)
	return env
}

// context ends with the test, or when it takes too long.
func (env *environment) context() context.Context {
	ctx, cancel := context.WithTimeout(env.t.Context(), limit)
	env.t.Cleanup(cancel)
	return ctx
}

func (env *environment) as(config *rest.Config) typed.InfrastructureV1alpha4Interface {
	return env.Metalstack(env.t, config).InfrastructureV1alpha4()
}

// direct is the administrator's way to one server, past the kube-apiserver.
func (env *environment) direct(p *cluster.Program) typed.InfrastructureV1alpha4Interface {
	config := env.Admin()
	config.Host = p.URL
	config.TLSClientConfig.Insecure, config.TLSClientConfig.CAData = true, nil
	return env.as(config)
}

// pair returns the active server and the one that stands by, when the Service
// leads to the former. One that is missing is started.
func (env *environment) pair() (active, standby *cluster.Program) {
	env.t.Helper()
	var alive []*cluster.Program
	for _, p := range env.Servers {
		select {
		case <-p.Ended():
		default:
			alive = append(alive, p)
		}
	}
	for len(alive) < 2 {
		p := env.StartServer(env.whole)
		p.AwaitReady(env.t)
		alive = append(alive, p)
	}
	env.Servers = alive
	env.await("one to be active, and the other to stand by", func(context.Context) error {
		holder := env.Holder(env.t)
		for i, p := range alive {
			if p.Name == holder {
				active, standby = p, alive[1-i]
			}
		}
		if active == nil {
			return fmt.Errorf("the Lease is held by %q", holder)
		}
		if labels := env.ReplicaLabels(env.t); labels[active.Name] != replica.ActiveValue || labels[standby.Name] != replica.StandbyValue {
			return fmt.Errorf("labels: %v", labels)
		}
		return nil
	})
	return active, standby
}

// gauge is a figure among the metrics of a server.
func (env *environment) gauge(p *cluster.Program, name string) string {
	env.t.Helper()
	metrics, err := env.direct(p).RESTClient().Get().AbsPath("/metrics").DoRaw(env.context())
	require.NoError(env.t, err)
	for line := range strings.Lines(string(metrics)) {
		if value, found := strings.CutPrefix(line, name+" "); found {
			return strings.TrimSpace(value)
		}
	}
	env.t.Fatalf("%s has no metric %s", p.Name, name)
	return ""
}

// await waits until ask succeeds.
func (env *environment) await(what string, ask func(context.Context) error) {
	env.t.Helper()
	framework.Eventually(env.t, limit, ask, "waited for "+what)
}

// awaitActive waits until a server holds the Lease and the Service leads to it.
func (env *environment) awaitActive(p *cluster.Program) {
	env.t.Helper()
	env.AwaitActive(env.t, p)
}

// allocate begins an allocation through the kube-apiserver.
func (env *environment) allocate(name string) (claim *api.MetalStackMachine, answer <-chan error) {
	env.t.Helper()
	machines := env.as(env.Admin()).MetalStackMachines(team)
	claim, err := machines.Create(env.context(), objects.Machine(name), metav1.CreateOptions{})
	require.NoError(env.t, err)
	answers := make(chan error, 1)
	ctx := env.context()
	go func() {
		_, err := machines.Allocate(ctx, name, &api.Allocation{ClusterRef: &api.LocalReference{Name: "c"}}, metav1.CreateOptions{})
		answers <- err
	}()
	return claim, answers
}

// inject lets a call of the metal-api that allocates a machine go wrong, once,
// and returns a channel that is closed when the call arrives.
func (env *environment) inject(fault simulator.Fault) <-chan struct{} {
	arrived := make(chan struct{})
	fault.Endpoint, fault.Times = "machine-allocate", 1
	fault.Match = func(*http.Request) bool {
		select {
		case <-arrived:
		default:
			close(arrived)
		}
		return true
	}
	env.Metal.Sim.Inject(fault)
	return arrived
}

// requireAllocatedOnce requires that an object got one machine, which is the
// one that its record names.
func (env *environment) requireAllocatedOnce(claim *api.MetalStackMachine) {
	env.t.Helper()
	m, err := env.as(env.Admin()).MetalStackMachines(team).Get(env.context(), claim.Name, metav1.GetOptions{})
	require.NoError(env.t, err)
	require.NotNil(env.t, m.Status.Allocation)
	require.Equal(env.t, api.AllocationAllocated, m.Status.Allocation.Phase)
	inventory, tag := env.Metal.Sim.Inventory(), metal.Tag(metal.TagUID, string(claim.UID))
	holding := inventory.AllocatedWith(tag)
	require.Len(env.t, holding, 1)
	require.Equal(env.t, m.Status.Allocation.MachineID, holding[0].ID)
	require.Equal(env.t, 1, inventory.Allocations(tag))
	require.Zero(env.t, inventory.Frees(tag))
}

// records are the versions of all records but the mark of revisions.
func (env *environment) records() map[string]string {
	env.t.Helper()
	const label, key = "metal-stack.infrastructure.cluster.x-k8s.io/record", "metal-stack.infrastructure.cluster.x-k8s.io/record-key"
	maps, err := env.Client().CoreV1().ConfigMaps(cluster.Namespace).List(env.context(), metav1.ListOptions{LabelSelector: label})
	require.NoError(env.t, err)
	versions := map[string]string{}
	for _, m := range maps.Items {
		if m.Labels[label] != "" {
			versions[m.Annotations[key]] = m.ResourceVersion
		}
	}
	return versions
}

// writes counts the calls that change metal.
func (env *environment) writes() (n int) {
	for _, endpoint := range []string{"machine-allocate", "firewall-allocate", "network-allocate", "ip-allocate", "ip-allocate-specific", "machine-free", "network-free", "ip-free"} {
		n += env.Metal.Sim.CallsOf(endpoint)
	}
	return n
}

func podReady(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
