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

// world is a cluster with one server, and one team.
type world struct {
	*cluster.Cluster
	t      *testing.T
	team   cluster.Team
	client versioned.Interface
	home   string // where kubectl remembers what it discovered
}

func start(t *testing.T) *world {
	t.Helper()
	opts := cluster.Options{}
	team := opts.AddTeams(1)[0]
	w := &world{Cluster: cluster.Start(t, opts), t: t, team: team, home: t.TempDir()}
	w.Bind(t, team.Namespace, team.Project)
	w.client = w.Metalstack(t, w.Admin())
	return w
}

// outcome is what became of a command.
type outcome struct {
	stdout, stderr string
	code           int
}

func (w *world) run(home, stdin string, args ...string) outcome {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), limit)
	defer cancel()
	cmd := w.KubectlCommand(ctx, w.Admin(), append([]string{"--namespace=" + w.team.Namespace}, args...)...)
	cmd.Env = append(cmd.Env, "HOME="+home)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(w.t, err)
	}
	return outcome{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// kubectl runs a command that succeeds, and returns what it prints.
func (w *world) kubectl(args ...string) string {
	w.t.Helper()
	return w.kubectlIn("", args...)
}

func (w *world) kubectlIn(stdin string, args ...string) string {
	w.t.Helper()
	o := w.run(w.home, stdin, args...)
	require.Zero(w.t, o.code, "kubectl %s: %s%s", strings.Join(args, " "), o.stdout, o.stderr)
	return o.stdout
}

func (w *world) eventually(ask func(context.Context) error, what ...any) {
	w.t.Helper()
	framework.Eventually(w.t, limit, ask, what...)
}

// gone waits until an object is not there any more.
func gone[T any](w *world, get func(context.Context, string, metav1.GetOptions) (T, error), name string) {
	w.t.Helper()
	w.eventually(func(ctx context.Context) error {
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
