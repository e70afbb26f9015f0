// SPDX-License-Identifier: Apache-2.0

// Package upgrade_test upgrades an installation from the release before to the present
// source, and back: with the manifests and the programs of both, in a real control plane,
// while clients write, read and watch, and metal is being allocated. docs/upgrade.md says
// to operators what holds.
package upgrade_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/dynamic"

	typed "metal-stack.io/infrastructure-apiserver/generated/clientset/versioned/typed/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/build"
	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
)

const (
	// leaseDuration is short, and long enough for a busy machine.
	leaseDuration = 8 * time.Second
	// drain is how long a server that stops waits for allocations: shorter than the ones
	// here take, so that its successor finds them.
	drain = time.Second
	// limit ends whatever is waited for.
	limit = 2 * time.Minute
	// speed has machines phone home after a second.
	speed = 120
)

func TestMain(m *testing.M) { os.Exit(cluster.Main(m)) }

// environment is an installation of one of two releases.
type environment struct {
	*cluster.Cluster
	t testing.TB
	// whole is the test that all programs run for.
	whole    testing.TB
	client   typed.InfrastructureV1alpha4Interface
	dynamic  dynamic.Interface
	teams    []cluster.Team
	busy     cluster.Team // the namespace of the clients that go on meanwhile
	releases map[string]build.Release
	overlays map[string]string
	// inFlight are the machines that were allocated during an upgrade.
	inFlight *[]inFlight
}

// install installs a release, with two servers and the controller manager.
func install(t testing.TB, from build.Release, others ...build.Release) *environment {
	t.Helper()
	env := &environment{t: t, whole: t, inFlight: &[]inFlight{}, releases: map[string]build.Release{}, overlays: map[string]string{}}
	for _, r := range append(others, from) {
		env.releases[r.Version], env.overlays[r.Version] = r, overlay(t, r)
	}
	opts := cluster.Options{
		Servers: 2, ControllerManager: true, Overlay: env.overlays[from.Version], Program: env.program,
		Simulator: simulator.Config{DataCentre: simulator.DefaultDataCentre(32), Speed: speed},
		Flags: []string{
			"--leader-elect-lease-duration=" + leaseDuration.String(), "--leader-elect-renew-deadline=6s", "--leader-elect-retry-period=500ms",
			"--handover-grace-period=1s", "--allocation-drain-timeout=" + drain.String(),
		},
	}
	teams := opts.AddTeams(3)
	env.teams, env.busy = teams[:2], teams[2]
	env.Cluster = cluster.Start(t, opts)
	for _, team := range teams {
		env.Bind(t, team.Namespace, team.Project)
	}
	env.client = env.Metalstack(t, env.Admin()).InfrastructureV1alpha4()
	var err error
	env.dynamic, err = dynamic.NewForConfig(env.Admin())
	require.NoError(t, err)
	return env
}

// of is the environment for a subtest.
func (env *environment) of(t testing.TB) *environment {
	sub := *env
	sub.t = t
	return &sub
}

// program is what an image's tag stands for.
func (env *environment) program(t testing.TB, name, image string) string {
	t.Helper()
	_, tag, _ := strings.Cut(image, ":")
	r, known := env.releases[tag]
	require.True(t, known, "image %s", image)
	return filepath.Join(r.Programs, name)
}

func (env *environment) eventually(condition func(context.Context) error, message ...any) {
	env.t.Helper()
	framework.Eventually(env.t, limit, condition, message...)
}

// inject has a call of the metal-api that allocates a machine be answered late, once, and
// returns a channel that is closed when the call arrives.
func (env *environment) inject(latency time.Duration) <-chan struct{} {
	arrived := make(chan struct{})
	env.Metal.Sim.Inject(simulator.Fault{
		Endpoint: "machine-allocate", Kind: simulator.FaultCommitThenLate, Latency: latency, Times: 1,
		Match: func(*http.Request) bool {
			close(arrived)
			return true
		},
	})
	return arrived
}
