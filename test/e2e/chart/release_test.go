// SPDX-License-Identifier: Apache-2.0

package chart_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator/simtest"
	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
	"metal-stack.io/infrastructure-apiserver/test/framework/controlplane"
)

// blockForm is a block of commands in README.md that a test runs, or says why none does.
var blockForm = regexp.MustCompile("(?m)^<!-- (test|not tested): (.+) -->\n```sh\n((?s:.*?))^```$")

// release is an installation by the commands of README.md.
type release struct {
	plane      *controlplane.ControlPlane
	kubeconfig string
	blocks     map[string]string
	ran        map[string]bool
	env        []string
}

func newRelease(t *testing.T, plane *controlplane.ControlPlane, metal *simtest.Server) *release {
	t.Helper()
	key := filepath.Join(t.TempDir(), "hmac")
	require.NoError(t, os.WriteFile(key, []byte(metal.Key("Metal-Edit")), 0o600))
	text, err := os.ReadFile(filepath.Join(chart(), "README.md"))
	require.NoError(t, err)
	all := blockForm.FindAllStringSubmatch(string(text), -1)
	require.Len(t, all, strings.Count(string(text), "```sh\n"), "every block of commands has a marker")
	r := &release{plane: plane, kubeconfig: plane.Kubeconfig(plane.Admin()), blocks: map[string]string{}, ran: map[string]bool{}, env: []string{
		"CHART=" + chart(), "METAL_API_URL=" + metal.URL, "HMAC_FILE=" + key,
	}}
	for _, block := range all {
		if block[1] == "test" {
			r.blocks[block[2]] = block[3]
		}
	}
	return r
}

// run runs a block of README.md, with flags added to the command of helm in it.
func (r *release) run(t *testing.T, name string, flags ...string) (stdout string) {
	t.Helper()
	script, ok := r.blocks[name]
	require.True(t, ok, "README.md has no block %q", name)
	r.ran[name] = true
	if flags != nil {
		script = strings.TrimSpace(script) + " " + strings.Join(flags, " ")
	}
	cmd := command(t, r.kubeconfig, "bash", "-euo", "pipefail", "-c", script)
	cmd.Env = append(cmd.Env, r.env...)
	stdout, stderr, err := run(cmd)
	require.NoError(t, err, "%s\n%s", script, stderr)
	return stdout
}

func TestRelease_InstallUpgradeRollbackUninstall(t *testing.T) {
	t.Parallel()
	// Its own one: the installation is a cluster's only one.
	plane, metal := controlplane.Start(t), simtest.Start(t, simulator.Config{})
	r := newRelease(t, plane, metal)

	stdout := r.run(t, "install")
	assert.Contains(t, stdout, "pod-security.kubernetes.io/enforce=restricted")
	assert.Contains(t, stdout, "registered-by="+cluster.Namespace)
	manifest, stderr, err := run(command(t, r.kubeconfig, "helm", "get", "manifest", cluster.APIServer, "--namespace", cluster.Namespace))
	require.NoError(t, err, stderr)
	installed := decode(t, manifest)

	c := cluster.Start(t, cluster.Options{ControlPlane: plane, Metal: metal, Installed: true, ControllerManager: true})
	c.Bind(t, "team-a", simulator.ProjectA)
	kubectl := func(args ...string) string {
		t.Helper()
		stdout, stderr, err := plane.Kubectl(t, plane.Admin(), args...)
		require.NoError(t, err, stderr)
		return stdout
	}
	kubectl("get", "msm", "-A")
	object := filepath.Join(t.TempDir(), "template.json")
	require.NoError(t, os.WriteFile(object, []byte(`{"apiVersion":"infrastructure.cluster.x-k8s.io/v1alpha4","kind":"MetalStackMachineTemplate",
		"metadata":{"namespace":"team-a","name":"worker"},"spec":{"template":{"spec":{"machineType":"v1-small-x86","image":"ubuntu-24.04"}}}}`), 0o600))
	kubectl("create", "-f", object)
	uid := func(args ...string) string {
		return kubectl(append([]string{"get", "-o=jsonpath={.metadata.uid}"}, args...)...)
	}
	record := uid("-n", "team-a", "metalstackmachinetemplates", "worker")
	deployment := uid("-n", cluster.Namespace, "deployment", cluster.APIServer)
	arguments := func() string {
		return kubectl("get", "-n", cluster.Namespace, "deployment", cluster.APIServer, "-o=jsonpath={.spec.replicas} {.spec.template.spec.containers[0].args}")
	}
	before := arguments()
	restart := func() {
		t.Helper()
		old := c.Servers[0]
		next := c.StartServer(t)
		old.Stop(t)
		old.Pod.Delete(t)
		next.AwaitReady(t)
		c.Servers[0] = next
		c.AwaitAvailable(t)
		assert.Equal(t, record, uid("-n", "team-a", "metalstackmachinetemplates", "worker"))
		assert.Equal(t, deployment, uid("-n", cluster.Namespace, "deployment", cluster.APIServer))
	}

	t.Log("a second installation is refused")
	_, stderr, err = run(command(t, r.kubeconfig, "helm", "install", "second", chart(), "--namespace", "second", "--create-namespace"))
	require.Error(t, err)
	assert.Contains(t, stderr, "invalid ownership metadata")

	t.Log("upgrade")
	flags := []string{"--set=apiServer.replicas=3,apiServer.logLevel=2,apiServer.region=north,apiServer.pollingBudget=0.5"}
	r.run(t, "upgrade", append(flags, "--dry-run=server")...)
	assert.Equal(t, before, arguments(), "a dry run changes nothing")
	r.run(t, "upgrade", flags...)
	assert.Regexp(t, `^3 .*"--region=north","--metal-api-polling-budget=0.5","--v=2"\]$`, arguments())
	restart()
	r.run(t, "upgrade")
	assert.Contains(t, arguments(), "north", "values are kept")

	t.Log("rollback")
	r.run(t, "rollback", "1")
	assert.Equal(t, before, arguments())
	restart()

	t.Log("what kubectl has changed is not overwritten")
	kubectl("scale", "-n", cluster.Namespace, "deployment", cluster.APIServer, "--replicas=1")
	_, stderr, err = run(command(t, r.kubeconfig, "helm", "upgrade", cluster.APIServer, chart(), "--namespace", cluster.Namespace, "--set=apiServer.replicas=4"))
	require.Error(t, err)
	assert.Contains(t, stderr, "conflict")

	t.Log("uninstall")
	for _, program := range append(c.Servers, c.ControllerManager) {
		// As the Deployment's controller and the kubelet do.
		program.Stop(t)
		program.Pod.Delete(t)
	}
	r.run(t, "uninstall")
	client, err := dynamic.NewForConfig(plane.Admin())
	require.NoError(t, err)
	groups, err := restmapper.GetAPIGroupResources(plane.Client().Discovery())
	require.NoError(t, err)
	mapper := restmapper.NewDiscoveryRESTMapper(groups)
	for _, object := range installed {
		mapping, err := mapper.RESTMapping(object.GroupVersionKind().GroupKind(), object.GroupVersionKind().Version)
		require.NoError(t, err)
		resource := dynamic.ResourceInterface(client.Resource(mapping.Resource))
		if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
			resource = client.Resource(mapping.Resource).Namespace(object.GetNamespace())
		}
		_, err = resource.Get(t.Context(), object.GetName(), metav1.GetOptions{})
		assert.True(t, apierrors.IsNotFound(err), "%s %s: %v", object.GetKind(), object.GetName(), err)
	}
	// Kubernetes' controllers delete the endpoints of the Services.
	framework.Eventually(t, commandLimit, func(context.Context) error {
		isRecord := func(name string) bool { return strings.HasPrefix(name, "configmaps record-") }
		left := objectsIn(t, plane, client, cluster.Namespace)
		require.True(t, slices.ContainsFunc(left, isRecord), "records stay: %v", left)
		left = slices.DeleteFunc(left, isRecord)
		if slices.Sort(left); !slices.Equal(left, []string{
			"configmaps kube-root-ca.crt", // every namespace's, as the last one
			"leases metalstack-apiserver", "leases metalstack-controller-manager",
			"secrets metal-api", "secrets metalstack-apiserver-serving",
			"serviceaccounts default",
		}) {
			return fmt.Errorf("left: %q", left)
		}
		return nil
	})

	t.Log("an installation into the same namespace has the records")
	_, stderr, err = run(command(t, r.kubeconfig, "helm", "install", cluster.APIServer, chart(), "--namespace", cluster.Namespace))
	require.NoError(t, err, stderr)
	c.Servers[0] = c.StartServer(t)
	c.Servers[0].AwaitReady(t)
	c.AwaitAvailable(t)
	assert.Equal(t, record, uid("-n", "team-a", "metalstackmachinetemplates", "worker"))
	c.Servers[0].Stop(t)
	c.Servers[0].Pod.Delete(t)
	r.run(t, "uninstall")

	r.run(t, "delete")
	framework.Eventually(t, commandLimit, func(ctx context.Context) error {
		_, err := plane.Client().CoreV1().Namespaces().Get(ctx, cluster.Namespace, metav1.GetOptions{})
		if !apierrors.IsNotFound(err) {
			return fmt.Errorf("the namespace is still there: %w", err)
		}
		return nil
	})
	for name := range r.blocks {
		assert.True(t, r.ran[name], "no test runs the block %q of README.md", name)
	}
}

// objectsIn are the resources and names of all objects in a namespace, but for Events.
func objectsIn(t *testing.T, plane *controlplane.ControlPlane, client dynamic.Interface, namespace string) []string {
	t.Helper()
	lists, err := plane.Client().Discovery().ServerPreferredResources()
	require.NoError(t, err)
	lists = discovery.FilteredBy(discovery.SupportsAllVerbs{Verbs: []string{"list"}}, lists)
	var found []string
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		require.NoError(t, err)
		for _, resource := range list.APIResources {
			if !resource.Namespaced || resource.Name == "events" {
				continue
			}
			objects, err := client.Resource(version.WithResource(resource.Name)).Namespace(namespace).List(t.Context(), metav1.ListOptions{})
			require.NoError(t, err, resource.Name)
			for _, object := range objects.Items {
				found = append(found, resource.Name+" "+object.GetName())
			}
		}
	}
	return found
}
