// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
	"metal-stack.io/infrastructure-apiserver/test/framework/controlplane"
)

// readyLimit is how long something may take to get ready, on a busy machine with a
// large fleet.
const readyLimit = 5 * time.Minute

// flags are those of an installation, which win over those of the tests' fixture.
var flags = []string{"--metal-api-polling-budget=0.05", "--sweep-interval=10s", "--consistent-read-timeout=1s"}

// side is one of the two kinds that are compared.
type side struct {
	name    string
	version schema.GroupVersion
	client  *client
	// admin is one client more, and crawler one whose connection buffers little.
	admin, crawler func() *client
	// pids are the processes whose CPU and memory the kind costs.
	pids func() []int
}

// environment is a management cluster with the fleet as objects of ours, as
// custom resources, or as both.
type environment struct {
	*layout
	t            testing.TB
	plane        *controlplane.ControlPlane
	uids         map[string]types.UID // of the namespaces
	fleet        *fleet
	ours, theirs *side
	// cluster and server are our installation, if it is there.
	cluster *cluster.Cluster
	server  *cluster.Program
	// quick is whether the metal-api answers at once.
	quick bool
}

// newEnvironment is a management cluster with a control plane of its own, that has
// no objects yet.
func newEnvironment(t testing.TB) *environment {
	t.Helper()
	e := &environment{layout: newLayout(*objects), t: t, plane: controlplane.Start(t)}
	uids, err := e.bind(t.Context(), e.plane)
	require.NoError(t, err)
	e.uids = uids
	return e
}

// install installs our server, with a record of each object, and starts it.
func (e *environment) install() {
	t := e.t
	t.Helper()
	system, err := e.plane.Client().CoreV1().Namespaces().Get(t.Context(), metav1.NamespaceSystem, metav1.GetOptions{})
	require.NoError(t, err)
	e.step("allocate the fleet", func() { e.fleet = newFleet(t, e.layout, system.UID) })
	e.cluster = cluster.Start(t, cluster.Options{ControlPlane: e.plane, Metal: e.fleet.Server, Servers: -1, Flags: flags})
	e.step("write the records", func() { require.NoError(t, e.fleet.record(t, e.plane, e.uids)) })
	e.step("start the server", func() {
		e.server = e.cluster.StartServer(t)
		e.server.AwaitReadyWithin(t, readyLimit)
		e.cluster.AwaitAvailable(t)
	})
	e.ours = e.side("ours", v1alpha4.SchemeGroupVersion, func() []int { return append(e.controlPlane(), e.server.PID()) })
	for _, item := range e.content() {
		if !ready(item) {
			text, _ := json.Marshal(item)
			t.Fatalf("a machine is not ready: %s", text)
		}
	}
}

// fill makes the custom resources.
func (e *environment) fill(items []map[string]any) {
	t := e.t
	t.Helper()
	define(t, e.plane)
	e.theirs = e.side("custom resources", customVersion, e.controlPlane)
	e.step("write the custom resources", func() { require.NoError(t, seed(t.Context(), e.plane, items)) })
	framework.Eventually(t, readyLimit, func(ctx context.Context) error {
		list, err := e.theirs.list(ctx)
		if err == nil && len(list) != len(items) {
			err = fmt.Errorf("%d custom resources of %d", len(list), len(items))
		}
		if err == nil {
			requireSameContent(t, items[0], list[0])
		}
		return err
	})
}

func (e *environment) side(name string, version schema.GroupVersion, pids func() []int) *side {
	admin := func() *client { return newClient(e.t, e.plane.Admin()) }
	crawler := func() *client { return newCrawler(e.t, e.plane.Admin()) }
	return &side{name: name, version: version, client: admin(), admin: admin, crawler: crawler, pids: pids}
}

func (e *environment) controlPlane() []int {
	pids := e.plane.PIDs()
	return []int{pids["kube-apiserver"], pids["etcd"]}
}

// content are all objects of ours.
func (e *environment) content() []map[string]any {
	e.t.Helper()
	list, err := e.ours.list(e.t.Context())
	require.NoError(e.t, err)
	require.Len(e.t, list, *objects)
	return list
}

func (s *side) list(ctx context.Context) ([]map[string]any, error) {
	a, err := s.client.get(ctx, s.path("", "", "resourceVersion", "0"), nil)
	if err != nil {
		return nil, err
	}
	var list struct{ Items []map[string]any }
	err = json.Unmarshal(a.body, &list)
	return list.Items, err
}

// ready is whether an object has a machine that has phoned home.
func ready(item map[string]any) bool {
	status, _ := item["status"].(map[string]any)
	return status["ready"] == true
}

// direct is a client of our server, past the kube-apiserver.
func (e *environment) direct() *client {
	config := e.plane.Admin()
	config.Host = e.server.URL
	config.Insecure, config.CAData = true, nil
	return newClient(e.t, config)
}

// revive starts our server again if it has ended by itself, as a kubelet does, so that
// what comes next can be measured. A server without time to renew its Lease ends.
func (e *environment) revive() {
	e.t.Helper()
	select {
	case <-e.server.Ended():
	default:
		return
	}
	e.t.Errorf("the server ended by itself, with exit code %d, and was started again", e.server.ExitCode())
	e.server.Start(e.t)
	e.server.AwaitReadyWithin(e.t, readyLimit)
	e.cluster.AwaitAvailable(e.t)
}

// step logs how long a part of the preparation takes.
func (e *environment) step(what string, do func()) {
	e.t.Helper()
	began := time.Now()
	do()
	e.t.Logf("%s: %s", what, time.Since(began).Round(10*time.Millisecond))
}
