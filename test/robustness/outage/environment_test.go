// SPDX-License-Identifier: Apache-2.0

// Package outage_test holds what clients of a management cluster see while the
// server, or the metal-api behind it, is away; what informers see of many
// objects when the server is restarted; and what becomes of machines when etcd
// is restored from a backup that does not know of them.
package outage_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/generated/clientset/versioned"
	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
)

const (
	group = "infrastructure.cluster.x-k8s.io"
	// limit is how long anything may take that is waited for. The controllers
	// look for new resources every 30 s.
	limit = 2 * time.Minute
)

func TestMain(m *testing.M) { os.Exit(cluster.Main(m)) }

// environment is a cluster with one server, and one team.
type environment struct {
	*cluster.Cluster
	t      *testing.T
	team   cluster.Team
	client versioned.Interface
	home   string // where kubectl remembers what it discovered
}

func start(t *testing.T) *environment {
	t.Helper()
	opts := cluster.Options{}
	team := opts.AddTeams(1)[0]
	env := &environment{Cluster: cluster.Start(t, opts), t: t, team: team, home: t.TempDir()}
	env.Bind(t, team.Namespace, team.Project)
	env.client = env.Metalstack(t, env.Admin())
	return env
}

// outcome is what became of a command.
type outcome struct {
	stdout, stderr string
	code           int
}

func (env *environment) run(home, stdin string, args ...string) outcome {
	env.t.Helper()
	ctx, cancel := context.WithTimeout(env.t.Context(), limit)
	defer cancel()
	cmd := env.KubectlCommand(ctx, env.Admin(), append([]string{"--namespace=" + env.team.Namespace}, args...)...)
	cmd.Env = append(cmd.Env, "HOME="+home)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(env.t, err)
	}
	return outcome{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// kubectl runs a command that succeeds, and returns what it prints.
func (env *environment) kubectl(args ...string) string {
	env.t.Helper()
	return env.kubectlIn("", args...)
}

func (env *environment) kubectlIn(stdin string, args ...string) string {
	env.t.Helper()
	o := env.run(env.home, stdin, args...)
	require.Zero(env.t, o.code, "kubectl %s: %s%s", strings.Join(args, " "), o.stdout, o.stderr)
	return o.stdout
}

func (env *environment) eventually(ask func(context.Context) error, what ...any) {
	env.t.Helper()
	framework.Eventually(env.t, limit, ask, what...)
}

// gone waits until an object is not there any more.
func gone[T any](env *environment, get func(context.Context, string, metav1.GetOptions) (T, error), name string) {
	env.t.Helper()
	env.eventually(func(ctx context.Context) error {
		switch _, err := get(ctx, name, metav1.GetOptions{}); {
		case err == nil:
			return fmt.Errorf("%s is still there", name)
		case apierrors.IsNotFound(err):
			return nil
		default:
			return err
		}
	})
}
