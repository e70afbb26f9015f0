// SPDX-License-Identifier: Apache-2.0

package chart_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
)

// get decodes one of the objects strictly.
func get[T any](t *testing.T, objects map[string]*unstructured.Unstructured, id string) *T {
	t.Helper()
	require.Contains(t, objects, id)
	typed := new(T)
	require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(objects[id].Object, typed, true))
	return typed
}

// TestValues_TakeEffect: testdata/all.yaml sets all values to others than the defaults.
func TestValues_TakeEffect(t *testing.T) {
	t.Parallel()
	objects := index(t, render(t, "metal", "--values=testdata/all.yaml"))

	server := get[appsv1.Deployment](t, objects, "Deployment/metal/"+cluster.APIServer).Spec
	pod, container := server.Template.Spec, server.Template.Spec.Containers[0]
	assert.EqualValues(t, 3, *server.Replicas)
	assert.Equal(t, "example.com/other/server:v0.1.1@sha256:"+strings.Repeat("0123456789abcdef", 4), container.Image)
	assert.Equal(t, corev1.PullAlways, container.ImagePullPolicy)
	assert.Equal(t, []corev1.LocalObjectReference{{Name: "registry"}}, pod.ImagePullSecrets)
	assert.Equal(t, []string{
		"--metal-api-url=https://api.example.org/metal", "--metal-api-hmac-file=/etc/metal-api/hmac", "--logging-format=json",
		"--tls-cert-file=/etc/serving/tls.crt", "--tls-private-key-file=/etc/serving/tls.key", "--ca-bundle-file=/etc/serving/ca.crt",
		"--region=north", "--metal-api-polling-budget=0.1", "--v=4", "--sweep-interval=30s", "--serve-firewalls=false",
	}, container.Args)
	for _, env := range container.Env {
		assert.NotEqual(t, "METAL_API_URL", env.Name, "the URL is a value")
	}
	assert.Equal(t, "1", container.Resources.Requests.Cpu().String())
	assert.Equal(t, "2Gi", container.Resources.Limits.Memory().String())
	assert.Equal(t, "system-node-critical", pod.PriorityClassName)
	assert.Equal(t, map[string]string{"role": "control"}, pod.NodeSelector)
	assert.Equal(t, []corev1.Toleration{{Key: "role", Operator: corev1.TolerationOpEqual, Value: "control", Effect: corev1.TaintEffectNoSchedule}}, pod.Tolerations)
	assert.Nil(t, pod.Affinity.PodAntiAffinity)
	assert.NotNil(t, pod.Affinity.NodeAffinity)
	assert.Equal(t, "50%", get[policyv1.PodDisruptionBudget](t, objects, "PodDisruptionBudget/metal/"+cluster.APIServer).Spec.MinAvailable.String())

	manager := get[appsv1.Deployment](t, objects, "Deployment/metal/"+cluster.Manager).Spec
	pod, container = manager.Template.Spec, manager.Template.Spec.Containers[0]
	assert.EqualValues(t, 1, *manager.Replicas)
	assert.Equal(t, "example.com/other/manager:v0.1.1@sha256:"+strings.Repeat("fedcba9876543210", 4), container.Image)
	assert.Equal(t, []string{
		"--leader-elect", "--health-probe-bind-address=:8081", "--metrics-bind-address=:8443", "--metrics-secure", "--logging-format=json",
		"--management-cluster-url=https://kubernetes.example.org:6443", "--management-cluster-ca-file=/etc/management-cluster/ca.crt", "--v=7", "--watch-filter=metal",
	}, container.Args)
	assert.Equal(t, "/etc/management-cluster", container.VolumeMounts[0].MountPath)
	assert.Equal(t, "management-ca", pod.Volumes[0].Secret.SecretName)
	assert.Equal(t, "system-cluster-critical", pod.PriorityClassName)
	assert.Nil(t, pod.Affinity)
	assert.NotContains(t, objects, "PodDisruptionBudget/metal/"+cluster.Manager)

	assert.Equal(t, "the-key", string(get[corev1.Secret](t, objects, "Secret/metal/metal-api").Data["hmac"]))
	for _, id := range []string{"ServiceMonitor/metal/" + cluster.APIServer, "ServiceMonitor/metal/" + cluster.Manager, "PrometheusRule/metal/metalstack"} {
		require.Contains(t, objects, id)
		assert.Equal(t, "kube-prometheus-stack", objects[id].GetLabels()["release"], id)
	}
	issuer, _, err := unstructured.NestedStringMap(objects["Certificate/metal/metalstack-apiserver-tls"].Object, "spec", "issuerRef")
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"name": "company", "kind": "ClusterIssuer", "group": "cert-manager.io"}, issuer)
	assert.NotContains(t, objects, "Certificate/metal/metalstack-apiserver-ca", "the issuer exists")

	ingress := get[networkingv1.NetworkPolicy](t, objects, "NetworkPolicy/metal/"+cluster.APIServer).Spec.Ingress[0]
	assert.Equal(t, "https", ingress.Ports[0].Port.StrVal)
	require.Len(t, ingress.From, 2)
	assert.Equal(t, &networkingv1.IPBlock{CIDR: "10.1.2.0/28", Except: []string{"10.1.2.0/30"}}, ingress.From[0].IPBlock)
	ingress = get[networkingv1.NetworkPolicy](t, objects, "NetworkPolicy/metal/"+cluster.Manager).Spec.Ingress[0]
	assert.Equal(t, "metrics", ingress.Ports[0].Port.StrVal)
	assert.Equal(t, []string{"prometheus"}, ingress.From[0].PodSelector.MatchExpressions[0].Values)

	objects = index(t, render(t, "metal", "--set=networkPolicy.enabled=false,managementCluster.url=https://x,managementCluster.publicCA=true,metalAPI.existingSecret=other"))
	for id := range objects {
		assert.NotContains(t, id, "NetworkPolicy")
	}
	assert.Contains(t, get[appsv1.Deployment](t, objects, "Deployment/metal/"+cluster.Manager).Spec.Template.Spec.Containers[0].Args, "--management-cluster-ca-file=-")
	pod = get[appsv1.Deployment](t, objects, "Deployment/metal/"+cluster.APIServer).Spec.Template.Spec
	assert.Equal(t, "other", pod.Volumes[0].Secret.SecretName)
	assert.Equal(t, "other", pod.Containers[0].Env[0].ValueFrom.SecretKeyRef.Name)
}

// TestPodDisruptionBudget_LeavesPodsToEvict: a drain of nodes would wait forever otherwise.
func TestPodDisruptionBudget_LeavesPodsToEvict(t *testing.T) {
	t.Parallel()
	for values, want := range map[string]string{
		"apiServer.replicas=1": "",
		"apiServer.replicas=2": "1",
		"apiServer.replicas=2,apiServer.podDisruptionBudget.minAvailable=50%":  "50%",
		"apiServer.replicas=3,apiServer.podDisruptionBudget.minAvailable=2":    "2",
		"apiServer.replicas=3,apiServer.podDisruptionBudget.minAvailable=66%":  "66%",
		"apiServer.replicas=1,apiServer.podDisruptionBudget.minAvailable=100%": "",
	} {
		objects := index(t, render(t, "metal", "--set="+values))
		const id = "PodDisruptionBudget/metal/" + cluster.APIServer
		if want == "" {
			assert.NotContains(t, objects, id, values)
			continue
		}
		assert.Equal(t, want, get[policyv1.PodDisruptionBudget](t, objects, id).Spec.MinAvailable.String(), values)
	}
	_, stderr, err := template(t, "metal", "--set=apiServer.replicas=3,apiServer.podDisruptionBudget.minAvailable=67%")
	require.Error(t, err)
	assert.Contains(t, stderr, "must leave one of 3 replicas to evict")
}

// TestValues_StayValues: none of them can add a flag or a field.
func TestValues_StayValues(t *testing.T) {
	t.Parallel()
	text := "north\n        - --standalone\n      hostNetwork: true # \"{{ fail \\\"x\\\" }}"
	quoted, err := json.Marshal(text)
	require.NoError(t, err)
	const flag = `--feature-gates={{ fail "x" }}: - '--standalone' # $%s`
	quotedFlag, err := json.Marshal(flag)
	require.NoError(t, err)
	values := fmt.Sprintf(`apiServer={"extraArgs":[%[2]s],"priorityClassName":%[1]s,"nodeSelector":{"a":%[1]s}}`, quoted, quotedFlag)
	objects := index(t, render(t, "metal", "--set-json="+values))
	pod := get[appsv1.Deployment](t, objects, "Deployment/metal/"+cluster.APIServer).Spec.Template.Spec
	assert.Equal(t, flag, pod.Containers[0].Args[3])
	assert.Len(t, pod.Containers[0].Args, 4)
	assert.Equal(t, text, pod.PriorityClassName)
	assert.Equal(t, map[string]string{"a": text}, pod.NodeSelector)
	assert.False(t, pod.HostNetwork)
}

// TestNotes_HaveNoSecret: Helm prints them after each installation and upgrade.
func TestNotes_HaveNoSecret(t *testing.T) {
	t.Parallel()
	stdout, stderr, err := run(command(t, "", "helm", "install", "any-name", chart(), "--namespace", "metal", "--dry-run=client", "--hide-secret", "--values=testdata/all.yaml"))
	require.NoError(t, err, stderr)
	assert.Contains(t, stdout, "is installed in the namespace metal")
	assert.NotContains(t, stdout+stderr, "the-key")
}

// TestValues_BadOnesAreRefused: and the message names the value.
func TestValues_BadOnesAreRefused(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ set, says string }{
		{`replicas=3`, "replicas"},
		{`apiServer.replica=3`, "replica"},
		{`apiserver.replicas=3`, "apiserver"},
		{`metalAPI.hmacs="the-key"`, "hmacs"},
		{`apiServer.replicas="3"`, "/apiServer/replicas"},
		{`apiServer.replicas=-1`, "/apiServer/replicas"},
		{`apiServer.image.digest="sha256:1"`, "/apiServer/image/digest"},
		{`apiServer.image.tag="a tag"`, "/apiServer/image/tag"},
		{`controllerManager.image.repository=""`, "/controllerManager/image/repository"},
		{`image.registry="https://me:the-key@example.com"`, "image.registry: must be a host and a path"},
		{`apiServer.image.registry="me:the-key@example.com"`, "apiServer.image.registry: must be a host and a path"},
		{`controllerManager.image.registry="example.com:the-key"`, "controllerManager.image.registry: must be a host and a path"},
		{`image.pullPolicy="Sometimes"`, "/image/pullPolicy"},
		{`image.pullSecrets=["registry"]`, "/image/pullSecrets/0"},
		{`apiServer.extraArgs="--region=north"`, "/apiServer/extraArgs"},
		{`apiServer.extraArgs=["--sweep-interval=30s","region=north"]`, "apiServer.extraArgs[1]: must be a flag with two dashes"},
		{`apiServer.extraArgs=["--metal-api-hmac","the-key"]`, "apiServer.extraArgs[1]: must be a flag with two dashes"},
		{`controllerManager.extraArgs=["-v=4"]`, "controllerManager.extraArgs[0]: must be a flag with two dashes"},
		{`apiServer.extraArgs=[{"region":"north"}]`, "/apiServer/extraArgs/0"},
		{`apiServer.extraArgs=["--metal-api-hmac-file=/tmp/x"]`, "apiServer.extraArgs: --metal-api-hmac-file is set by the chart"},
		{`controllerManager.extraArgs=["--leader-elect=false"]`, "controllerManager.extraArgs: --leader-elect is set by the chart"},
		{`apiServer.region="north west"`, "/apiServer/region"},
		{`apiServer.extraArgs=["--region=a\n- --standalone"]`, "apiServer.extraArgs[0]: must be a flag with two dashes and its value, in one line"},
		{`apiServer.logLevel=8`, "/apiServer/logLevel"},
		{`apiServer.pollingBudget=2`, "/apiServer/pollingBudget"},
		{`apiServer.pollingBudget="0.0001"`, "/apiServer/pollingBudget"},
		{`apiServer.resources={"limits":{"memory":null}}`, "memory"},
		{`apiServer.resources.limit={"memory":"1Gi"}`, "limit"},
		{`apiServer.podDisruptionBudget.minAvailable="some"`, "/apiServer/podDisruptionBudget/minAvailable"},
		{`apiServer.podDisruptionBudget.minAvailable=2`, "apiServer.podDisruptionBudget.minAvailable: 2: no node"},
		{`controllerManager.podDisruptionBudget.minAvailable="51%"`, "controllerManager.podDisruptionBudget.minAvailable: 51%: no node"},
		{`apiServer=null`, "missing property 'apiServer'"},
		{`apiServer.replicas=null`, "missing property 'replicas'"},
		{`controllerManager.image.repository=null`, "missing property 'repository'"},
		{`metalAPI.existingSecret=null`, "missing property 'existingSecret'"},
		{`metalAPI.existingSecret=""`, "metalAPI.existingSecret: must be the name of a Secret"},
		{`metalAPI.existingSecret="the-key of Metal-Edit"`, "metalAPI.existingSecret: must be the name of a Secret"},
		{`metalAPI.existingSecret="a..b"`, "metalAPI.existingSecret: must be the name of a Secret"},
		{`networkPolicy=null`, "missing property 'networkPolicy'"},
		{`apiServer.tolerations=[{"keys":"role"}]`, "keys"},
		{`metalAPI.url="api.example.org/the-key"`, "metalAPI.url: must begin with https:// or http://, and a host"},
		{`metalAPI.url="me:the-key@api.example.org"`, "metalAPI.url: must have no user and no password"},
		{`metalAPI.url="https:///the-key"`, "metalAPI.url: must begin with https:// or http://, and a host"},
		{`metalAPI.url="https://api.example.org/the-key and more"`, "metalAPI.url: must begin with https:// or http://, and a host, and have no spaces"},
		{`metalAPI.url="https://api.example.org:the-key"`, "metalAPI.url: must have a host, or one and a port, before the path"},
		{`metalAPI.url="https://api.example.org:the-key/v1"`, "metalAPI.url: must have a host, or one and a port, before the path"},
		{`metalAPI.url="https://api.example.org:8080:the-key"`, "metalAPI.url: must have a host, or one and a port, before the path"},
		{`metalAPI.url="https://[::1]the-key/metal"`, "metalAPI.url: must have a host, or one and a port, before the path"},
		{`metalAPI.url="https://api.example.org/metal/v1"`, "metalAPI.url: https://api.example.org/metal/v1: must be without /v1"},
		{`metalAPI.url="https://api.example.org/v1/"`, "must be without /v1"},
		{`metalAPI.url="https://me:the-key@api.example.org/metal"`, "metalAPI.url: must have no user and no password"},
		{`metalAPI.url="https://api.example.org/metal?token=the-key"`, "metalAPI.url: must have no query and no fragment"},
		{`managementCluster.url="https://me:the-key@kubernetes.example.org"`, "managementCluster.url: must have no user and no password"},
		{`managementCluster.url="https://kubernetes.example.org#the-key"`, "managementCluster.url: must have no query and no fragment"},
		{`metalAPI.hmac="the-key"`, "metalAPI.url: required with metalAPI.hmac"},
		{`metalAPI={"hmac":"the-key","url":"https://x","existingSecret":"other"}`, "metalAPI.existingSecret: not allowed with metalAPI.hmac"},
		{`managementCluster.url="http://kubernetes.example.org/the-key"`, "managementCluster.url: must begin with https://, and a host"},
		{`managementCluster.url="me:the-key@kubernetes.example.org"`, "managementCluster.url: must have no user and no password"},
		{`managementCluster.url="https://kubernetes.example.org:the-key"`, "managementCluster.url: must have a host, or one and a port, before the path"},
		{`managementCluster.caSecret="ca"`, "managementCluster.url: required"},
		{`managementCluster={"url":"https://x","caSecret":"ca","publicCA":true}`, "managementCluster.publicCA"},
		{`monitoring.enabled="yes"`, "/monitoring/enabled"},
		{`monitoring.labels={"helm.sh/chart":"x"}`, "/monitoring/labels/helm.sh"},
		{`certManager.issuerRef={"kind":"ClusterIssuer"}`, "/certManager/issuerRef"},
		{`networkPolicy.apiServer.from=[{"ipBlocks":{"cidr":"10.0.0.0/8"}}]`, "ipBlocks"},
		{`networkPolicy.apiServer.from=[{}]`, "/networkPolicy/apiServer/from/0"},
	} {
		t.Run(tc.set, func(t *testing.T) {
			t.Parallel()
			_, stderr, err := template(t, "metal", "--set-json="+tc.set)
			require.Error(t, err)
			assert.Contains(t, stderr, tc.says)
			assert.NotContains(t, stderr, "the-key")
		})
	}
}

// TestImages_OfReleaseHaveItsDigests, unless values name others: hack/release/chart writes them.
func TestImages_OfReleaseHaveItsDigests(t *testing.T) {
	t.Parallel()
	released, own := "sha256:"+strings.Repeat("1", 64), "sha256:"+strings.Repeat("2", 64)
	next := nextChart(t)
	file := filepath.Join(next, "Chart.yaml")
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	content = fmt.Appendf(content, "annotations:\n  metal-stack.io/digest-of-%s: %s\n", cluster.APIServer, released)
	require.NoError(t, os.WriteFile(file, content, 0o600))
	for set, image := range map[string]string{
		"":                              "ghcr.io/metal-stack/metalstack-apiserver:v9.8.7@" + released,
		"image.registry=example.com":    "example.com/metalstack-apiserver:v9.8.7@" + released,
		"image.tag=v9":                  "ghcr.io/metal-stack/metalstack-apiserver:v9",
		"apiServer.image.tag=v9":        "ghcr.io/metal-stack/metalstack-apiserver:v9",
		"apiServer.image.digest=" + own: "ghcr.io/metal-stack/metalstack-apiserver:v9.8.7@" + own,
		"image.tag=v9,apiServer.image.digest=" + own:         "ghcr.io/metal-stack/metalstack-apiserver:v9@" + own,
		"apiServer.image.repository=another":                 "ghcr.io/metal-stack/another:v9.8.7",
		"controllerManager.image.tag=v9,image.registry=a.io": "a.io/metalstack-apiserver:v9.8.7@" + released,
	} {
		text, stderr, err := run(command(t, "", "helm", "template", "any-name", next, "--namespace", "metal", "--set="+set))
		require.NoError(t, err, stderr)
		objects := index(t, decode(t, text))
		server := get[appsv1.Deployment](t, objects, "Deployment/metal/"+cluster.APIServer).Spec
		assert.Equal(t, image, server.Template.Spec.Containers[0].Image, set)
		manager := get[appsv1.Deployment](t, objects, "Deployment/metal/metalstack-controller-manager").Spec
		assert.NotContains(t, manager.Template.Spec.Containers[0].Image, "@", "the chart has no digest of it")
	}
}

func TestNamespace_OfOthersIsRefused(t *testing.T) {
	t.Parallel()
	for _, namespace := range []string{"default", "kube-system", "kube-public", "kube-node-lease"} {
		_, stderr, err := template(t, namespace)
		require.Error(t, err)
		assert.Contains(t, stderr, fmt.Sprintf("namespace %q: install into a namespace of its own", namespace))
	}
}

// TestSchema_DescribesEveryValue as values.yaml and README.md do.
func TestSchema_DescribesEveryValue(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile(filepath.Join(chart(), "values.schema.json"))
	require.NoError(t, err)
	schema := map[string]any{}
	require.NoError(t, json.Unmarshal(content, &schema))
	readme, err := os.ReadFile(filepath.Join(chart(), "README.md"))
	require.NoError(t, err)
	content, err = os.ReadFile(filepath.Join(chart(), "values.yaml"))
	require.NoError(t, err)
	values := map[string]any{}
	require.NoError(t, yaml.UnmarshalStrict(content, &values))

	described := 0
	var walk func(path string, schema map[string]any, value any)
	walk = func(path string, schema map[string]any, value any) {
		if path == "global" {
			return // a parent chart's
		}
		require.NotNil(t, schema, "%s: not in values.schema.json", path)
		if description, ok := schema["description"].(string); ok {
			described++
			initial, err := json.Marshal(value)
			require.NoError(t, err)
			row := fmt.Sprintf("| `%s` | `%s` | %s |\n", path, initial, description)
			assert.True(t, strings.Contains(string(readme), row), "README.md has no row %s", row)
			return
		}
		properties, _ := schema["properties"].(map[string]any)
		require.NotEmpty(t, properties, "%s: no description in values.schema.json", path)
		assert.Equal(t, false, schema["additionalProperties"], path)
		fields, _ := value.(map[string]any)
		for name := range fields {
			assert.Contains(t, properties, name, path)
		}
		for name, property := range properties {
			if name != "global" {
				assert.Contains(t, fields, name, "%s: not in values.yaml", path)
			}
			inner, _ := property.(map[string]any)
			walk(strings.TrimPrefix(path+"."+name, "."), inner, fields[name])
		}
	}
	walk("", schema, values)
	assert.Equal(t, described, strings.Count(string(readme), "\n| `"), "rows of README.md")
}
