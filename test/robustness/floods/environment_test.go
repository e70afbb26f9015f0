// SPDX-License-Identifier: Apache-2.0

// Package floods sends a real server more than it can serve, over loopback and
// for seconds, and sees that the others are served meanwhile.
package floods

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
)

const (
	team   = "team-a"
	tenant = "alice"
	other  = "mallory"
	// patience ends what the tests wait for.
	patience = 3 * time.Minute
)

func TestMain(m *testing.M) { os.Exit(cluster.Main(m)) }

// environment is a server that several floods meet one after the other.
type environment struct {
	*cluster.Cluster
	server *cluster.Program
	// scraper is Prometheus's token, which the server has seen before.
	scraper string
}

func TestFloods(t *testing.T) {
	t.Parallel()
	env := start(t)
	t.Run("ResetStreams", func(t *testing.T) { env.resetStreams(t) })
	t.Run("FutureResourceVersions", func(t *testing.T) { env.futureRevisions(t) })
	t.Run("PowerRequests", func(t *testing.T) { env.powerRequests(t) })
	t.Run("KnownClients", func(t *testing.T) { env.knownClients(t) })
}

func start(t *testing.T) *environment {
	env := &environment{Cluster: cluster.Start(t, cluster.Options{})}
	env.server = env.Servers[0]
	env.Bind(t, team, simulator.ProjectA)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	rbac := env.Client().RbacV1()
	_, err := rbac.RoleBindings(team).Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "tenants"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects: []rbacv1.Subject{
			{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: tenant},
			{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: other},
		},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = rbac.ClusterRoles().Create(ctx, &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "scraper"},
		Rules:      []rbacv1.PolicyRule{{Verbs: []string{"get"}, NonResourceURLs: []string{"/metrics"}}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = rbac.ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "scraper"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "scraper"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: team, Name: "scraper"}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	env.scraper = env.ServiceAccount(t, team, "scraper").BearerToken
	require.Eventually(t, func() bool {
		code, _, err := env.ask(ctx, "/metrics", env.scraper)
		return err == nil && code == http.StatusOK && env.list(ctx, env.User(tenant), 0) == nil
	}, patience, 100*time.Millisecond, "rights take effect")
	return env
}

// lease is the server's.
func (env *environment) lease(t *testing.T) *coordinationv1.LeaseSpec {
	t.Helper()
	lease, err := env.Client().CoordinationV1().Leases(cluster.Namespace).Get(t.Context(), cluster.APIServer, metav1.GetOptions{})
	require.NoError(t, err)
	return &lease.Spec
}

// ask asks the server itself, on a new connection as kubelets do.
func (env *environment) ask(ctx context.Context, path, token string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, env.server.URL+path, nil)
	if err != nil {
		return 0, "", err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// metric is the sum of a metric's samples.
func (env *environment) metric(t *testing.T, name string) (sum float64) {
	t.Helper()
	code, body, err := env.ask(t.Context(), "/metrics", env.scraper)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, code, "Prometheus goes on")
	for line := range strings.Lines(body) {
		rest, found := strings.CutPrefix(line, name)
		if fields := strings.Fields(rest); found && len(fields) > 0 && (rest[0] == ' ' || rest[0] == '{') {
			value, err := strconv.ParseFloat(fields[len(fields)-1], 64)
			require.NoError(t, err)
			sum += value
		}
	}
	return sum
}

// past is a user's way to the server, past the kube-apiserver.
func (env *environment) past(config *rest.Config) *rest.Config {
	config.Host = env.server.URL
	config.Insecure, config.CAData = true, nil
	return config
}

// list lists machines as a user, once; a revision of 0 is the view as it is.
func (env *environment) list(ctx context.Context, config *rest.Config, revision int64) error {
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return err
	}
	return listWith(ctx, client, config.Host, revision)
}

// listWith returns an error that has the status of an answer other than 200.
func listWith(ctx context.Context, client *http.Client, host string, revision int64) error {
	url := fmt.Sprintf("%s/apis/%s/namespaces/%s/metalstackmachines?resourceVersion=%d", host, v1alpha4.SchemeGroupVersion, team, revision)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = status{resp.StatusCode, string(body)}
	}
	return err
}

type status struct {
	code int
	body string
}

func (s status) Error() string { return strconv.Itoa(s.code) + ": " + s.body }

// floodContext ends after least, but on a slow machine not before others were answered
// often enough, and the flood has done what it is for; after patience in any case.
func floodContext(t *testing.T, least time.Duration, enough <-chan struct{}, done func() bool) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	go func() {
		defer cancel()
		over := time.After(least)
		select {
		case <-enough:
		case <-ctx.Done():
		}
		select {
		case <-over:
		case <-ctx.Done():
		}
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for !done() {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx, cancel
}

// served runs until flood has ended what others do, and sees that it works: the
// tenant reads through the kube-apiserver, and the kubelet probes. The channel is closed
// when they have been answered often enough.
func (env *environment) served(t *testing.T, flood func(enough <-chan struct{})) {
	t.Helper()
	const least = 4
	before := env.lease(t)
	done, enough := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		flood(enough)
	}()
	alice := env.User(tenant)
	client, err := rest.HTTPClientFor(alice)
	require.NoError(t, err)
	const interval = 100 * time.Millisecond
	tick := time.NewTicker(interval)
	defer tick.Stop()
	answers := 0
	var slowest time.Duration
	for flooding := true; flooding; {
		select {
		case <-done:
			flooding = false
		case <-tick.C:
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		began := time.Now()
		if assert.NoError(t, listWith(ctx, client, alice.Host, 0), "the tenant is served") {
			if answers++; answers == least {
				close(enough)
			}
		}
		slowest = max(slowest, time.Since(began))
		for _, path := range []string{"/livez", "/readyz"} {
			code, body, err := env.ask(ctx, path, "")
			assert.NoError(t, err)
			assert.Equal(t, http.StatusOK, code, "%s: %s", path, body)
		}
		cancel()
	}
	asked := time.Now()
	after := env.lease(t)
	t.Logf("%d answers for the tenant, the slowest in %s; %.0f MiB resident", answers, slowest, env.metric(t, "process_resident_memory_bytes")/(1<<20))
	assert.GreaterOrEqual(t, answers, least)
	assert.Equal(t, before.HolderIdentity, after.HolderIdentity)
	assert.Equal(t, ptr.Deref(before.LeaseTransitions, 0), ptr.Deref(after.LeaseTransitions, 0))
	assert.True(t, after.RenewTime.After(before.RenewTime.Time), "the Lease is renewed")
	// Later than after so long, the server would have ended.
	assert.Less(t, asked.Sub(after.RenewTime.Time), 10*time.Second, "and was lately")
	select {
	case <-env.server.Ended():
		t.Error("the server has ended")
	default:
	}
	assert.Less(t, env.metric(t, "process_resident_memory_bytes"), float64(512<<20))
}
