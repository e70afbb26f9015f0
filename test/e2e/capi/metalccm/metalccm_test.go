// SPDX-License-Identifier: Apache-2.0

package metalccm

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	clocktesting "k8s.io/utils/clock/testing"

	"metal-stack.io/infrastructure-apiserver/test/framework"
)

// limit is how long a request may be waited for.
const limit = time.Minute

const (
	findAll = `POST ip/find {"projectid":"` + project + `"}`
	asn     = "machine.metal-stack.io/network.primary.asn"
)

type environmentOfTest struct {
	*metalAPI

	t      *testing.T
	clock  *clocktesting.FakePassiveClock
	client *fake.Clientset
	ccm    *Controller
}

// start runs a metal-ccm in a cluster with these Nodes. prepare changes what it finds.
func start(t *testing.T, prepare func(*Environment, *metalAPI), nodes ...*corev1.Node) *environmentOfTest {
	t.Helper()
	api, url := startMetalAPI(t)
	e := environment(t, url)
	prepare(&e, api)
	env := &environmentOfTest{metalAPI: api, t: t, clock: clocktesting.NewFakePassiveClock(time.Now()), client: fake.NewClientset()}
	for _, node := range nodes {
		_, err := env.client.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	var err error
	env.ccm, err = New(Options{Environment: e, Client: env.client, Clock: env.clock, Logf: func(string, ...any) {}})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- env.ccm.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return env
}

func unchanged(*Environment, *metalAPI) {}

// knownNode is one that metal-ccm has known for long.
func knownNode() *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "c1", Labels: map[string]string{asn: "4210000004"}},
		Spec:       corev1.NodeSpec{ProviderID: "metal://fra-01/" + machineID},
		Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.0.3"}}},
	}
}

// newNode is one that a kubelet has registered.
func newNode() *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "c1"},
		Spec:       corev1.NodeSpec{Taints: []corev1.Taint{{Key: TaintUninitialized, Value: "true", Effect: corev1.TaintEffectNoSchedule}}},
	}
}

func (env *environmentOfTest) create(name, ip string) {
	env.t.Helper()
	_, err := env.client.CoreV1().Services("default").Create(env.t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: "1"},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, LoadBalancerIP: ip},
	}, metav1.CreateOptions{})
	require.NoError(env.t, err)
}

func (env *environmentOfTest) service(name string) *corev1.Service {
	env.t.Helper()
	s, err := env.client.CoreV1().Services("default").Get(env.t.Context(), name, metav1.GetOptions{})
	require.NoError(env.t, err)
	return s
}

// remove marks a Service, as an API server does that waits for its finalizers.
func (env *environmentOfTest) remove(name string) {
	env.t.Helper()
	s := env.service(name)
	now := metav1.Now()
	s.DeletionTimestamp = &now
	_, err := env.client.CoreV1().Services("default").Update(env.t.Context(), s, metav1.UpdateOptions{})
	require.NoError(env.t, err)
}

// await waits until exactly this was asked, beside machines: the two requests for each at the
// start may take their time.
func (env *environmentOfTest) await(what string, asked ...string) {
	env.t.Helper()
	var got []string
	framework.Eventually(env.t, limit, func(context.Context) error {
		for _, request := range env.take() {
			if request != "GET machine/"+machineID {
				got = append(got, request)
			}
		}
		if len(got) < len(asked) {
			return fmt.Errorf("%s: asked %q", what, got)
		}
		return nil
	})
	assert.Equal(env.t, asked, got, what)
}

// awaitLast waits until this was asked, after whatever else.
func (env *environmentOfTest) awaitLast(asked string) {
	env.t.Helper()
	var got []string
	framework.Eventually(env.t, limit, func(context.Context) error {
		if got = append(got, env.take()...); !slices.Contains(got, asked) {
			return fmt.Errorf("asked %q", got)
		}
		return nil
	})
}

func findAddress(address string) string {
	return fmt.Sprintf(`POST ip/find {"ipaddress":%q,"projectid":%q}`, address, project)
}

func findTag(tag string) string {
	return fmt.Sprintf(`POST ip/find {"projectid":%q,"tags":[%q]}`, project, tag)
}

// TestMetalCCM_AsksWhatWasRecorded holds what is asked to recordings of a real metal-ccm and
// their order: its start, a Service without an address and one with, and both deleted.
func TestMetalCCM_AsksWhatWasRecorded(t *testing.T) {
	t.Parallel()
	env := start(t, unchanged, knownNode())
	env.awaitLast("GET machine/" + machineID)
	framework.Eventually(t, limit, func(context.Context) error {
		if peers := env.ccm.Announcements().Peers; peers["c1"] != 4210000004 {
			return fmt.Errorf("peers: %v", peers)
		}
		return nil
	})
	env.take()

	tag := serviceTagOf("web4")
	env.create("web4", "")
	env.await("without an address",
		fmt.Sprintf(`POST ip/allocate {"name":"NAME","networkid":%q,"projectid":%q,"tags":[%q],"type":"ephemeral"}`, network, project, tag),
		findAll,
		// The address in its spec is a change of the Service.
		findAddress(firstAddr), findTag(tag),
		fmt.Sprintf(`POST ip {"ipaddress":%q,"tags":[%q,%[2]q]}`, firstAddr, tag),
	)
	assert.Equal(t, firstAddr, env.service("web4").Spec.LoadBalancerIP)
	assert.Equal(t, []corev1.LoadBalancerIngress{{IP: firstAddr}}, env.service("web4").Status.LoadBalancer.Ingress)
	assert.Equal(t, map[string][]string{network + "-ephemeral": {firstAddr}}, env.ccm.Announcements().Pools)

	fixed := serviceTagOf("fixed4")
	env.create("fixed4", staticAddr)
	env.await("with an address", findAddress(staticAddr), findTag(fixed), fmt.Sprintf(`POST ip {"ipaddress":%q,"tags":[%q]}`, staticAddr, fixed))
	framework.Eventually(t, limit, func(context.Context) error {
		if s := env.service("fixed4"); len(s.Status.LoadBalancer.Ingress) != 1 {
			return fmt.Errorf("%+v", s.Status)
		}
		return nil
	})

	env.remove("web4")
	env.await("ephemeral address of a deleted Service", findTag(tag), "DELETE ip/free/"+firstAddr)
	env.remove("fixed4")
	env.await("static address of a deleted Service", findTag(fixed), fmt.Sprintf(`POST ip {"ipaddress":%q,"tags":[]}`, staticAddr))
	assert.Empty(t, env.tagsOf(staticAddr))
	assert.Len(t, env.tagsOf(foreignAddr), 1)
	assert.Zero(t, env.ccm.MachineUpdates())
}

// TestMetalCCM_InitializesNodes: provider ID and addresses are there at once, labels a
// minute later.
func TestMetalCCM_InitializesNodes(t *testing.T) {
	t.Parallel()
	env := start(t, unchanged)
	env.awaitLast(findAll)
	_, err := env.client.CoreV1().Nodes().Create(t.Context(), newNode(), metav1.CreateOptions{})
	require.NoError(t, err)
	env.awaitLast(fmt.Sprintf(`POST machine/find {"allocation_hostname":"c1","allocation_project":%q}`, project))
	node := func(check func(*corev1.Node) bool) {
		t.Helper()
		framework.Eventually(t, limit, func(ctx context.Context) error {
			n, err := env.client.CoreV1().Nodes().Get(ctx, "c1", metav1.GetOptions{})
			if err == nil && !check(n) {
				err = fmt.Errorf("node: %+v", n)
			}
			return err
		})
	}
	node(func(n *corev1.Node) bool { return len(n.Status.Addresses) == 3 })
	node(func(n *corev1.Node) bool {
		return n.Spec.ProviderID == "metal://fra-01/"+machineID && len(n.Spec.Taints) == 0 &&
			n.Labels[corev1.LabelInstanceTypeStable] == "v1-small-x86"
	})
	env.clock.SetTime(env.clock.Now().Add(period))
	node(func(n *corev1.Node) bool {
		return n.Labels[asn] == "4210000004" && n.Labels["cluster.metal-stack.io/id"] == clusterID
	})
}

// TestMetalCCM_ServiceBeforeLabelsStaysBroken: its address is freed, and stays in its spec.
func TestMetalCCM_ServiceBeforeLabelsStaysBroken(t *testing.T) {
	t.Parallel()
	node := knownNode()
	node.Labels = nil
	env := start(t, func(_ *Environment, api *metalAPI) { api.tags = api.tags[:1] }, node)
	env.awaitLast(findAll)
	env.create("web", "")
	env.awaitLast("DELETE ip/free/" + firstAddr)
	env.awaitLast(findAddress(firstAddr))
	assert.Equal(t, firstAddr, env.service("web").Spec.LoadBalancerIP)
	assert.Empty(t, env.service("web").Status.LoadBalancer.Ingress)
}

// TestMetalCCM_AsksForItsClusterIDOnMachines: with another cluster id than the machine has.
func TestMetalCCM_AsksForItsClusterIDOnMachines(t *testing.T) {
	t.Parallel()
	env := start(t, func(e *Environment, _ *metalAPI) { e.Cluster = "99999999-9999-4999-8999-999999999999" }, knownNode())
	framework.Eventually(t, limit, func(context.Context) error {
		if env.ccm.MachineUpdates() == 0 {
			return fmt.Errorf("asked %q", env.take())
		}
		return nil
	})
}

func TestReadEnvironment_NamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	_, err := ReadEnvironment(map[string]string{"METAL_PROJECT_ID": project}, nil)
	require.EqualError(t, err, `environment variable "METAL_PARTITION_ID" is required`)
}
