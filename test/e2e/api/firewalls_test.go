// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	firewallv2 "metal-stack.io/infrastructure-apiserver/pkg/apis/firewall/v2"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/options"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/testserver"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
)

var firewallsGVR = firewallv2.SchemeGroupVersion.WithResource("firewalls")

// firewalls is a client of what firewall-controllers read.
func (env *environment) firewalls(t *testing.T, namespace string) dynamic.ResourceInterface {
	t.Helper()
	client, err := dynamic.NewForConfig(env.config)
	require.NoError(t, err)
	return client.Resource(firewallsGVR).Namespace(namespace)
}

// allocateFirewall makes a firewall in team A, with a cluster for its network, and returns
// its hostname.
func (env *environment) allocateFirewall(t *testing.T, name string, controller *v1alpha4.FirewallController) (hostname string) {
	t.Helper()
	ctx := t.Context()
	_, err := env.clusters(teamA).Create(ctx, cluster("of-"+name), metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = env.clusters(teamA).Allocate(ctx, "of-"+name, &v1alpha4.Allocation{}, metav1.CreateOptions{})
	require.NoError(t, err)
	api := env.client.InfrastructureV1alpha4().MetalStackFirewalls(teamA)
	_, err = api.Create(ctx, objects.Firewall(name, func(f *v1alpha4.MetalStackFirewall) {
		f.Spec.Controller, f.Spec.Partition = controller, partition
	}), metav1.CreateOptions{})
	require.NoError(t, err)
	f, err := api.Allocate(ctx, name, &v1alpha4.Allocation{ClusterRef: &v1alpha4.LocalReference{Name: "of-" + name}}, metav1.CreateOptions{})
	require.NoError(t, err)
	require.NotEmpty(t, f.Status.Metal.Hostname)
	return f.Status.Metal.Hostname
}

func asFirewall(t *testing.T, obj *unstructured.Unstructured) *firewallv2.Firewall {
	t.Helper()
	f := &firewallv2.Firewall{}
	require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(obj.Object, f, true))
	return f
}

// collected are the events of an informer.
type collected chan string

func (c collected) OnAdd(obj any, _ bool) { c <- "added " + obj.(metav1.Object).GetName() }
func (c collected) OnUpdate(_, obj any)   { c <- "updated " + obj.(metav1.Object).GetName() }
func (c collected) OnDelete(obj any)      { c <- "deleted " + obj.(metav1.Object).GetName() }

func (c collected) await(t *testing.T, want string) {
	t.Helper()
	for deadline := time.After(time.Minute); ; {
		select {
		case got := <-c:
			if got == want {
				return
			}
			require.False(t, strings.HasPrefix(got, "deleted "), "%s instead of %s", got, want)
		case <-deadline:
			t.Fatalf("not %s", want)
		}
	}
}

func TestFirewalls_InformerFollowsThem(t *testing.T) {
	t.Parallel()
	env := start(t)
	static := env.allocateFirewall(t, "static", nil)
	hostname := env.allocateFirewall(t, "fw-1", &v1alpha4.FirewallController{RateLimits: []v1alpha4.FirewallRateLimit{{NetworkID: simulator.InternetNetwork, Rate: 10}}})

	obj, err := env.firewalls(t, teamA).Get(t.Context(), hostname, metav1.GetOptions{})
	require.NoError(t, err)
	f := asFirewall(t, obj)
	assert.Equal(t, []firewallv2.RateLimit{{NetworkID: simulator.InternetNetwork, Rate: 10}}, f.Spec.RateLimits)
	networkTypes := map[string]bool{}
	for _, n := range f.Status.FirewallNetworks {
		networkTypes[*n.NetworkType] = true
	}
	assert.Equal(t, map[string]bool{"privateprimaryunshared": true, "external": true, "underlay": true}, networkTypes)
	assert.Len(t, f.Spec.Networks, 2, "without the underlay")
	// Metal may be observed between the two.
	ours := env.firewalls(t, teamA)
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		obj, err := ours.Get(t.Context(), hostname, metav1.GetOptions{})
		require.NoError(c, err)
		whole, err := ours.Get(t.Context(), hostname, metav1.GetOptions{}, "status")
		require.NoError(c, err)
		assert.Equal(c, obj, whole)
	}, time.Minute, 10*time.Millisecond)
	_, err = env.firewalls(t, teamA).Get(t.Context(), static, metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err), "%v", err)

	client, err := dynamic.NewForConfig(env.config)
	require.NoError(t, err)
	factory := dynamicinformer.NewFilteredDynamicSharedInformerFactory(client, 0, teamA, nil)
	informer, seen := factory.ForResource(firewallsGVR).Informer(), make(collected, 1000)
	_, err = informer.AddEventHandler(seen)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	factory.Start(ctx.Done())
	require.True(t, cache.WaitForCacheSync(ctx.Done(), informer.HasSynced))
	seen.await(t, "added "+hostname)

	origins := env.client.InfrastructureV1alpha4().MetalStackFirewalls(teamA)
	_, err = origins.Patch(t.Context(), "fw-1", types.MergePatchType, []byte(`{"spec":{"controller":{"rateLimits":[{"networkID":"`+simulator.InternetNetwork+`","rate":20}]}}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		obj, found, err := informer.GetStore().GetByKey(teamA + "/" + hostname)
		return err == nil && found && asFirewall(t, obj.(*unstructured.Unstructured)).Spec.RateLimits[0].Rate == 20
	}, time.Minute, 10*time.Millisecond)

	env.restart(t)
	_, err = origins.Patch(t.Context(), "static", types.MergePatchType, []byte(`{"spec":{"controller":{}}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	seen.await(t, "added "+static)
	away := env.metalAPIAway()
	env.restartAway(t)
	assert.Empty(t, drain(seen, "deleted "))
	away()
	env.AwaitReady()
	_, err = origins.Patch(t.Context(), "fw-1", types.MergePatchType, []byte(`{"spec":{"controller":{"interval":"20s"}}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	seen.await(t, "updated "+hostname)
}

// restartAway restarts a server that does not get ready, and has it refuse reads.
func (env *environment) restartAway(t *testing.T) {
	t.Helper()
	env.Kill()
	env.RestartUnready()
	require.Eventually(t, func() bool {
		_, err := env.firewalls(t, teamA).List(t.Context(), metav1.ListOptions{})
		return apierrors.IsServiceUnavailable(err)
	}, time.Minute, 10*time.Millisecond)
}

// drain returns the events so far that begin with a word.
func drain(events collected, word string) (found []string) {
	for {
		select {
		case e := <-events:
			if strings.HasPrefix(e, word) {
				found = append(found, e)
			}
		default:
			return found
		}
	}
}

func TestFirewalls_AreReadOnly(t *testing.T) {
	t.Parallel()
	env := start(t)
	hostname := env.allocateFirewall(t, "fw-1", &v1alpha4.FirewallController{})
	path := "/apis/firewall.metal-stack.io/v2/namespaces/" + teamA + "/firewalls"
	for verb, of := range map[string]string{
		http.MethodPost: path, http.MethodPut: path + "/" + hostname, http.MethodPatch: path + "/" + hostname + "/status", http.MethodDelete: path + "/" + hostname,
	} {
		resp := env.do(t, verb, of, "", `{"apiVersion":"firewall.metal-stack.io/v2","kind":"Firewall"}`)
		assert.Equal(t, http.StatusMethodNotAllowed, resp.StatusCode, verb)
		resp.Body.Close()
	}
	resp := env.do(t, http.MethodDelete, path, "", "")
	assert.Equal(t, http.StatusMethodNotAllowed, resp.StatusCode, "the collection")
	resp.Body.Close()
	_, err := env.firewalls(t, teamA).Get(t.Context(), hostname, metav1.GetOptions{})
	require.NoError(t, err)
}

func (env *environment) do(t *testing.T, verb, path, accept, body string) *http.Response {
	t.Helper()
	client, err := rest.HTTPClientFor(env.config)
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), verb, env.URL+path, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", accept)
	resp, err := client.Do(req)
	require.NoError(t, err)
	return resp
}

func TestFirewalls_AreFoundAndDescribed(t *testing.T) {
	t.Parallel()
	env := start(t, func(o *testserver.Options) { o.OpenAPI = true })
	patient := rest.CopyConfig(env.config)
	patient.Timeout = 5 * time.Minute // OpenAPI is built when it is asked for
	found := discovery.NewDiscoveryClientForConfigOrDie(patient)
	list, err := found.ServerResourcesForGroupVersion("firewall.metal-stack.io/v2")
	require.NoError(t, err)
	verbs := map[string][]string{}
	for _, r := range list.APIResources {
		assert.Equal(t, "Firewall", r.Kind)
		assert.True(t, r.Namespaced)
		verbs[r.Name] = r.Verbs
		if r.Name == "firewalls" {
			assert.Equal(t, "firewall", r.SingularName)
			assert.Equal(t, []string{"fw"}, r.ShortNames)
		}
	}
	assert.Equal(t, map[string][]string{"firewalls": {"get", "list", "watch"}, "firewalls/status": {"get"}}, verbs)

	// What kubectl explain reads.
	resp := env.do(t, http.MethodGet, "/openapi/v3/apis/firewall.metal-stack.io/v2", "application/json", "")
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	var schemas struct {
		Components struct {
			Schemas map[string]struct {
				GVK []metav1.GroupVersionKind `json:"x-kubernetes-group-version-kind"`
			} `json:"schemas"`
		} `json:"components"`
	}
	require.NoError(t, json.Unmarshal(raw, &schemas))
	assert.Contains(t, schemas.Components.Schemas["io.metal-stack.firewall.v2.Firewall"].GVK, metav1.GroupVersionKind{Group: "firewall.metal-stack.io", Version: "v2", Kind: "Firewall"})
	whole, err := found.OpenAPISchema()
	require.NoError(t, err)
	assert.Contains(t, whole.String(), "io.metal-stack.firewall.v2.FirewallSpec")

	hostname := env.allocateFirewall(t, "fw-1", &v1alpha4.FirewallController{})
	for _, path := range []string{"firewalls", "firewalls/" + hostname, "firewalls/" + hostname + "/status"} {
		resp := env.do(t, http.MethodGet, "/apis/firewall.metal-stack.io/v2/namespaces/"+teamA+"/"+path, "application/json;as=Table;v=v1;g=meta.k8s.io", "")
		raw, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		resp.Body.Close()
		table := &metav1.Table{}
		require.NoError(t, json.Unmarshal(raw, table))
		require.Len(t, table.Rows, 1, path)
		assert.Equal(t, hostname, table.Rows[0].Cells[0], path)
	}
}

func TestFirewalls_AreReadLikeOtherKinds(t *testing.T) {
	t.Parallel()
	env := start(t, noSweep)
	hostname := env.allocateFirewall(t, "fw-1", &v1alpha4.FirewallController{})
	client := env.firewalls(t, teamA)
	for _, selector := range []string{"spec.providerID=", "status.metal.phase=", "name of the derived object=" + hostname, "derived object is unknown=true"} {
		_, err := client.List(t.Context(), metav1.ListOptions{FieldSelector: selector})
		require.True(t, apierrors.IsBadRequest(err), "%s: %v", selector, err)
	}
	partial, err := metadata.NewForConfig(env.config)
	require.NoError(t, err)
	list, err := partial.Resource(firewallsGVR).Namespace(teamA).List(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + hostname})
	require.NoError(t, err)
	require.Len(t, list.Items, 1)
	assert.Equal(t, hostname, list.Items[0].Name)
	origin, err := env.client.InfrastructureV1alpha4().MetalStackFirewalls(teamA).Get(t.Context(), "fw-1", metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, origin.UID, list.Items[0].UID)
	assert.Empty(t, list.Items[0].Finalizers)

	// A consistent read refreshes, or says that it could not.
	defer env.metalAPIAway()()
	for name, read := range map[string]func() error{
		"get":  func() error { _, err := client.Get(t.Context(), hostname, metav1.GetOptions{}); return err },
		"list": func() error { _, err := client.List(t.Context(), metav1.ListOptions{}); return err },
	} {
		env.warnings.reset()
		require.NoError(t, read(), name)
		assert.Contains(t, env.warnings.all(), "stale", name)
	}
	env.warnings.reset()
	_, err = client.Get(t.Context(), hostname, metav1.GetOptions{ResourceVersion: "0"})
	require.NoError(t, err)
	assert.Empty(t, env.warnings.all())
}

func TestFirewalls_FlagTurnsThemOff(t *testing.T) {
	t.Parallel()
	env := start(t, func(o *testserver.Options) { o.Flags = func(o *options.Options) { o.ServeFirewalls = false } })
	env.allocateFirewall(t, "fw-1", &v1alpha4.FirewallController{})
	_, err := env.firewalls(t, teamA).List(t.Context(), metav1.ListOptions{})
	require.True(t, apierrors.IsNotFound(err), "%v", err)
	_, err = discovery.NewDiscoveryClientForConfigOrDie(env.config).ServerResourcesForGroupVersion("firewall.metal-stack.io/v2")
	require.True(t, apierrors.IsNotFound(err), "%v", err)
}
