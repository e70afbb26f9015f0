// SPDX-License-Identifier: Apache-2.0

package deploy_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/controlplane"
)

// TestWorkload_ObjectsAreServed: what the controller manager applies in workload clusters is
// taken by a kube-apiserver as it is, and its definitions keep what firewall-controllers and
// users write.
func TestWorkload_ObjectsAreServed(t *testing.T) {
	t.Parallel()
	// Its own one: the server leaves the group-version of FirewallMonitors to whoever defines them.
	plane := controlplane.Start(t)
	apply := func(objects string, args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := plane.KubectlCommand(ctx, plane.Admin(), append([]string{"apply", "--server-side", "-f", "-"}, args...)...)
		cmd.Stdin = strings.NewReader(objects)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for _, name := range []string{"namespace", "clusterwidenetworkpolicies", "firewallmonitors", "rbac"} {
		text, err := os.ReadFile(filepath.Join("../../../pkg/controller/workload", name+".yaml"))
		require.NoError(t, err)
		out, err := apply(string(text))
		require.NoError(t, err, out)
		assert.NotContains(t, out, "Warning")
	}
	get := func(what, path string) string {
		t.Helper()
		stdout, stderr, err := plane.Kubectl(t, plane.Admin(), "-n", "firewall", "get", what, "-o", "jsonpath="+path)
		require.NoError(t, err, stderr)
		return stdout
	}
	policy := func(spec string) string {
		return fmt.Sprintf(`{"apiVersion":"metal-stack.io/v1","kind":"ClusterwideNetworkPolicy","metadata":{"namespace":"firewall","name":"p"},"spec":%s}`, spec)
	}
	framework.Eventually(t, time.Minute, func(context.Context) error {
		out, err := apply(policy(`{"description":"x","ingress":[{"ports":[{"protocol":"TCP","port":443},{"protocol":"UDP","port":1000,"endPort":2000}],"from":[{"cidr":"0.0.0.0/0","except":["10.0.0.0/8"]}]}],` +
			`"egress":[{"ports":[{"port":53}],"to":[{"cidr":"8.8.8.8/32"}]},{"ports":[{"port":443}],"toFQDNs":[{"matchName":"example.org"},{"matchPattern":"*.example.org"}]}]}`))
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	assert.Equal(t, "443 1000 2000 10.0.0.0/8", get("cwnp/p", `{.spec.ingress[0].ports[0].port} {.spec.ingress[0].ports[1].port} {.spec.ingress[0].ports[1].endPort} {.spec.ingress[0].from[0].except[0]}`))
	assert.Equal(t, "8.8.8.8/32 example.org *.example.org", get("cwnp/p", `{.spec.egress[0].to[0].cidr} {.spec.egress[1].toFQDNs[0].matchName} {.spec.egress[1].toFQDNs[1].matchPattern}`))
	_, _, err := plane.Kubectl(t, plane.Admin(), "-n", "firewall", "patch", "cwnp", "p", "--subresource=status", "--type=merge", "-p", `{"status":{"state":"ignored","message":"outside","fqdn_state":{"example.org":[{"fqdn":"example.org","ips":["1.2.3.4"],"expirationTime":null,"version":"ip"}]}}}`)
	require.NoError(t, err)
	assert.Equal(t, "ignored outside 1.2.3.4", get("cwnp/p", `{.status.state} {.status.message} {.status.fqdn_state.example\.org[0].ips[0]}`))
	for spec, says := range map[string]string{
		`{"egress":[{"to":[{"except":["10.0.0.0/8"]}]}]}`:                "cidr",
		`{"egress":[{"toFQDNs":[{"matchName":"https://example.org"}]}]}`: "matchName",
		`{"egress":[{"ports":[{"port":true}]}]}`:                         "port",
	} {
		out, err := apply(policy(spec), "--force-conflicts")
		require.Error(t, err)
		assert.Contains(t, out, says)
	}

	monitor := func(fields string) string {
		return fmt.Sprintf(`{"apiVersion":"firewall.metal-stack.io/v2","kind":"FirewallMonitor","metadata":{"namespace":"firewall","name":"m"},%s}`, fields)
	}
	const made = `"size":"small","image":"firewall-1","partition":"fra-01","project":"p","networks":["internet"],"conditions":[]`
	framework.Eventually(t, time.Minute, func(context.Context) error {
		out, err := apply(monitor(made + `,"controllerStatus":{"message":"done","controllerVersion":"v2.4.1","lastRun":"2026-01-01T00:00:00Z","lastRunAgainstSeed":null,"distance":3,"distanceSupported":true,"newer":"field",` +
			`"stats":{"rules":{"accept":{"r":{"counter":{"bytes":1,"packets":2}}}},"devices":null,"idsStats":{}}}`))
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	assert.Equal(t, "v2.4.1 2026-01-01T00:00:00Z 3 true field 2",
		get("fwmon/m", `{.controllerStatus.controllerVersion} {.controllerStatus.lastRun} {.controllerStatus.distance} {.controllerStatus.distanceSupported} {.controllerStatus.newer} {.controllerStatus.stats.rules.accept.r.counter.packets}`))
	out, err := apply(monitor(`"size":"small"`), "--force-conflicts")
	require.Error(t, err)
	assert.Contains(t, out, "image")

	can := func(verb, resource string) string {
		stdout, _, _ := plane.Kubectl(t, plane.Admin(), "auth", "can-i", verb, resource, "-n", "firewall", "--as=system:serviceaccount:firewall:firewall-controller")
		return strings.TrimSpace(stdout)
	}
	for request, allowed := range map[string]string{
		"watch services": "yes", "update services": "yes", "list secrets": "yes", "watch networkpolicies.networking.k8s.io": "yes", "create events": "yes",
		"update firewallmonitors.firewall.metal-stack.io": "yes", "update customresourcedefinitions.apiextensions.k8s.io": "yes",
		"delete services": "no", "create pods": "no", "update secrets": "no", "get nodes": "no", "create clusterrolebindings.rbac.authorization.k8s.io": "no", "delete customresourcedefinitions.apiextensions.k8s.io": "no",
	} {
		verb, resource, _ := strings.Cut(request, " ")
		assert.Equal(t, allowed, can(verb, resource), request)
	}
}
