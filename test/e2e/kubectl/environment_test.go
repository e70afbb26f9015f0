// SPDX-License-Identifier: Apache-2.0

// Package kubectl_test holds, through a real kube-apiserver, that kubectl
// treats our kinds as it treats those that are built in.
package kubectl_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
)

const (
	group = "infrastructure.cluster.x-k8s.io"
	// limit is how long anything may take that is waited for.
	limit = 2 * time.Minute
	// kubectlTimeout is the same for kubectl.
	kubectlTimeout = "2m"
	// spaces is how many tests can have a namespace of their own.
	spaces = 30
	// speed is how much faster than in life machines move: a second to be
	// installed in.
	speed = 120
)

func TestMain(m *testing.M) { os.Exit(cluster.Main(m)) }

// environment is a cluster that all tests share, each in a namespace of its own.
type environment struct {
	*cluster.Cluster
	teams chan cluster.Team
}

func start(t *testing.T) *environment {
	t.Helper()
	opts := cluster.Options{
		Simulator:         simulator.Config{DataCentre: simulator.DefaultDataCentre(64), Speed: speed},
		ControllerManager: true,
	}
	env := &environment{teams: make(chan cluster.Team, spaces)}
	for _, team := range opts.AddTeams(spaces) {
		env.teams <- team
	}
	close(env.teams)
	env.Cluster = cluster.Start(t, opts)
	// The kube-apiserver fetches it after the API has become available.
	for _, version := range cluster.Versions {
		require.Eventually(t, func() bool {
			return env.Client().Discovery().RESTClient().Get().AbsPath("/openapi/v3/apis/"+version.String()).Do(t.Context()).Error() == nil
		}, limit, 100*time.Millisecond, "OpenAPI of %s", version)
	}
	return env
}

// space is a namespace in which one test uses kubectl.
type space struct {
	*environment
	t             *testing.T
	name, project string
	home          string // where kubectl remembers what it discovered
}

func (env *environment) space(t *testing.T) *space {
	t.Helper()
	t.Parallel()
	team, left := <-env.teams
	require.True(t, left, "there are no more teams")
	env.Bind(t, team.Namespace, team.Project)
	return &space{env, t, team.Namespace, team.Project, t.TempDir()}
}

// outcome is what became of a command.
type outcome struct {
	stdout, stderr string
	code           int
}

// run runs kubectl in the namespace, with something on its standard input.
func (s *space) run(stdin string, args ...string) outcome {
	s.t.Helper()
	return s.runWith(nil, stdin, args...)
}

func (s *space) runWith(env []string, stdin string, args ...string) outcome {
	s.t.Helper()
	return s.runExactly(env, stdin, append([]string{"--namespace=" + s.name}, args...)...)
}

// runExactly runs kubectl with no other arguments than these: plugins have theirs first.
func (s *space) runExactly(env []string, stdin string, args ...string) outcome {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*limit)
	defer cancel()
	cmd := s.KubectlCommand(ctx, s.Admin(), args...)
	cmd.Env = append(append(cmd.Env, "HOME="+s.home), env...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(s.t, err)
	}
	return outcome{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// kubectl runs a command that succeeds, and returns what it says.
func (s *space) kubectl(args ...string) string {
	s.t.Helper()
	return s.kubectlIn("", args...)
}

func (s *space) kubectlIn(stdin string, args ...string) string {
	s.t.Helper()
	o := s.run(stdin, args...)
	require.Zero(s.t, o.code, "kubectl %s: %s%s", strings.Join(args, " "), o.stdout, o.stderr)
	return o.stdout
}

// refused runs a command that fails, and returns what it says of that.
func (s *space) refused(stdin string, args ...string) string {
	s.t.Helper()
	o := s.run(stdin, args...)
	require.NotZero(s.t, o.code, "kubectl %s: %s", strings.Join(args, " "), o.stdout)
	return o.stderr
}

// object reads an object as kubectl prints it.
func (s *space) object(args ...string) map[string]any {
	s.t.Helper()
	var object map[string]any
	require.NoError(s.t, json.Unmarshal([]byte(s.kubectl(append(append([]string{"get"}, args...), "-o=json")...)), &object))
	return object
}

// field reads one field of an object, by kubectl's own means.
func (s *space) field(path string, args ...string) string {
	s.t.Helper()
	return s.kubectl(append(append([]string{"get"}, args...), "-o=jsonpath={"+path+"}")...)
}

// eventually waits until what is asked is true.
func (s *space) eventually(ask func() bool, what ...any) {
	s.t.Helper()
	framework.Eventually(s.t, limit, func(context.Context) error {
		if !ask() {
			return errors.New("it is not")
		}
		return nil
	}, what...)
}

// clusterManifest is a cluster's; everything that can be left out is.
func clusterManifest(name string) string {
	return fmt.Sprintf(`
apiVersion: %s
kind: MetalStackCluster
metadata:
  name: %s
spec:
  partition: %s
  publicNetworkID: %s
`, v1alpha4.SchemeGroupVersion, name, simulator.DefaultPartition, simulator.InternetNetwork)
}

// machineManifest is that of a machine of a cluster.
func machineManifest(name, ofCluster string) string {
	return fmt.Sprintf(`
apiVersion: %s
kind: MetalStackMachine
metadata:
  name: %s
  labels:
    cluster.x-k8s.io/cluster-name: %s
spec:
  image: %s
  machineType: %s
`, v1alpha4.SchemeGroupVersion, name, ofCluster, simulator.MachineImage, simulator.SmallSize)
}

// restingManifest is that of a machine that the controller manager leaves alone: once it
// rests, nothing changes but what a test changes.
func restingManifest(name string) string {
	return fmt.Sprintf(`
apiVersion: %s
kind: MetalStackMachine
metadata:
  name: %s
  annotations:
    cluster.x-k8s.io/paused: "true"
  labels:
    color: red
spec:
  image: %s
  machineType: %s
  partition: %s
  tags:
  - tier=web
`, v1alpha4.SchemeGroupVersion, name, simulator.MachineImage, simulator.SmallSize, simulator.DefaultPartition)
}

// rest waits until the controller manager has said of a machine that it is paused: it does
// not write to it any more.
func (s *space) rest(name string) {
	s.t.Helper()
	s.kubectl("wait", "--for=condition=Paused", "msm/"+name, "--timeout="+kubectlTimeout)
}

// templateManifest is that of a machine template, which no controller looks
// after, and which nothing keeps when it is deleted.
func templateManifest(name string) string {
	return fmt.Sprintf(`
apiVersion: %s
kind: MetalStackMachineTemplate
metadata:
  name: %s
spec:
  template:
    spec:
      image: %s
      machineType: %s
`, v1alpha4.SchemeGroupVersion, name, simulator.MachineImage, simulator.SmallSize)
}

// discovered is a machine that another client allocated in the project, by its
// id, as soon as it is shown.
func (s *space) discovered() string {
	s.t.Helper()
	network, err := s.Metal.Sim.AllocateNetworkFor(s.project, simulator.DefaultPartition, "theirs", nil)
	require.NoError(s.t, err)
	id, err := s.Metal.Sim.AllocateFor(simulator.AllocateRequest{Project: s.project, Name: "theirs", Size: simulator.SmallSize,
		Partition: simulator.DefaultPartition, Networks: []string{network}})
	require.NoError(s.t, err)
	s.eventually(func() bool { return strings.Contains(s.kubectl("get", "msm", "-o=name"), id) }, "what is allocated is shown")
	return id
}
