// SPDX-License-Identifier: Apache-2.0

package firewallcontroller

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"metal-stack.io/infrastructure-apiserver/test/framework"
)

// TestController_FollowsBothClusters has the rights that the real one has, and no others.
func TestController_FollowsBothClusters(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	require.ErrorContains(t, New(f.options()).Run(t.Context()), "found no single firewall resource")
	f.createFirewall()
	require.ErrorContains(t, New(f.options()).Run(t.Context()), "no shoot access")
	f.patch(Firewalls, namespace, hostname, fmt.Sprintf(
		`{"status":{"shootAccess":{"genericKubeconfigSecretName":"rose-config","tokenSecretName":"rose-token","namespace":%q,"apiServerURL":%q}}}`,
		namespace, f.Admin().Host), "status")
	require.ErrorContains(t, New(f.options()).Run(t.Context()), "unable to read token secret")
	assert.Equal(t, HostState{Filter: Static}, f.host.State())

	f.shareAccess()
	f.create(Monitors, WorkloadNamespace, map[string]any{"apiVersion": Monitors.GroupVersion().String(), "kind": "FirewallMonitor", "metadata": map[string]any{"name": hostname}})
	ended := f.start()
	f.await("rules", func(s HostState) bool { return s.Filter == Dynamic && s.AuthorizedKeys != nil })
	assert.Empty(t, f.host.State().Rules)
	f.awaitReport(func(fields map[string]any) bool {
		return fields["controllerVersion"] == "v2.0.0" && fields["lastRun"] != nil && fields["lastRunAgainstSeed"] != nil && fields["distanceSupported"] == true
	})
	f.followsPoliciesAndServices()
	f.followsTheFirewall()
	f.followsTheToken()

	f.patch(Firewalls, namespace, hostname, `{"spec":{"controllerVersion":"v2.1.0","controllerURL":"https://example.org/firewall-controller"}}`)
	require.ErrorIs(t, <-ended, ErrUpdated)
	assert.Equal(t, Dynamic, f.host.State().Filter, "rules stay when it ends")
	f.start(func(o *Options) { o.NoDistance = true })
	f.awaitReport(func(fields map[string]any) bool {
		return fields["controllerVersion"] == "v2.1.0" && fields["distance"] == nil && fields["distanceSupported"] == nil
	})
	require.NoError(t, f.dynamic.Resource(Firewalls).Namespace(namespace).Delete(t.Context(), hostname, metav1.DeleteOptions{}))
	f.await("an open firewall", func(s HostState) bool { return s.Filter == Open })
}

func (f *fixture) followsPoliciesAndServices() {
	f.t.Helper()
	f.create(Policies, WorkloadNamespace, map[string]any{
		"apiVersion": Policies.GroupVersion().String(), "kind": "ClusterwideNetworkPolicy", "metadata": map[string]any{"name": "web"},
		"spec": map[string]any{"ingress": []any{map[string]any{"ports": []any{map[string]any{"port": 8443}}, "from": []any{map[string]any{"cidr": "1.1.1.0/24"}}}}},
	})
	f.awaitRule("policy web: allow from 1.1.1.0/24 to tcp ports 8443")
	f.awaitState("web", stateDeployed)
	services := f.Client().CoreV1().Services("default")
	created, err := services.Create(f.t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "mail"}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: 25}}},
	}, metav1.CreateOptions{})
	require.NoError(f.t, err)
	created.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.20"}}
	_, err = services.UpdateStatus(f.t.Context(), created, metav1.UpdateOptions{})
	require.NoError(f.t, err)
	f.awaitRule("service default/mail: allow from anywhere to 203.0.113.20 tcp ports 25")
	for _, exporter := range []string{"node-exporter", "nftables-exporter"} {
		_, err := f.Client().CoreV1().Services(WorkloadNamespace).Get(f.t.Context(), exporter, metav1.GetOptions{})
		require.NoError(f.t, err)
	}
}

func (f *fixture) followsTheFirewall() {
	f.t.Helper()
	f.patch(Firewalls, namespace, hostname, `{"spec":{"rateLimits":[{"networkID":"internet","rate":5}],"sshPublicKeys":["ssh-ed25519 AAAA"]},"distance":3}`)
	f.awaitRule("limit internet: 5 MiB/s")
	f.await("distance and keys", func(s HostState) bool {
		return s.Distance == 3 && slices.Equal(s.AuthorizedKeys, []string{"ssh-ed25519 AAAA"})
	})
	f.awaitReport(func(fields map[string]any) bool { return fields["distance"] == int64(3) })
	before := f.host.State().Rules
	f.patch(Firewalls, namespace, hostname, `{"spec":{"egressRules":[{"networkID":"internet","ips":["198.51.100.1"]}]}}`)
	f.await("a failure", func(s HostState) bool { return s.Failed != "" })
	assert.Equal(f.t, before, f.host.State().Rules, "the last rules stay")
	f.patch(Firewalls, namespace, hostname, `{"spec":{"egressRules":[{"networkID":"internet","ips":["203.0.113.40"]}]}}`)
	f.awaitRule("snat internet: from 10.0.0.0/22 as 203.0.113.40")
	f.patch(Firewalls, namespace, hostname, `{"spec":{"allowedNetworks":{"ingress":["203.0.113.0/24"]}}}`)
	f.awaitState("web", stateIgnored)
	f.patch(Firewalls, namespace, hostname, `{"spec":{"allowedNetworks":null}}`)
	f.awaitState("web", stateDeployed)
}

// followsTheToken: the account is another one, and the Secret has its token.
func (f *fixture) followsTheToken() {
	f.t.Helper()
	accounts := f.Client().CoreV1().ServiceAccounts(WorkloadNamespace)
	require.NoError(f.t, accounts.Delete(f.t.Context(), "firewall-controller", metav1.DeleteOptions{}))
	_, err := accounts.Create(f.t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "firewall-controller"}}, metav1.CreateOptions{})
	require.NoError(f.t, err)
	secret, err := f.Client().CoreV1().Secrets(namespace).Get(f.t.Context(), "rose-token", metav1.GetOptions{})
	require.NoError(f.t, err)
	secret.Data["token"] = []byte(f.token(WorkloadNamespace, "firewall-controller"))
	_, err = f.Client().CoreV1().Secrets(namespace).Update(f.t.Context(), secret, metav1.UpdateOptions{})
	require.NoError(f.t, err)
	began := metav1.Now()
	f.awaitReport(func(fields map[string]any) bool {
		text, _ := fields["lastRun"].(string)
		last := metav1.Time{}
		return last.UnmarshalQueryParameter(text) == nil && last.After(began.Time)
	})
}

func (f *fixture) awaitRule(rule string) {
	f.t.Helper()
	f.await(rule, func(s HostState) bool { return slices.Contains(s.Rules, rule) })
}

func (f *fixture) awaitReport(ok func(controllerStatus map[string]any) bool) {
	f.t.Helper()
	framework.Eventually(f.t, limit, func(ctx context.Context) error {
		monitor, err := f.dynamic.Resource(Monitors).Namespace(WorkloadNamespace).Get(ctx, hostname, metav1.GetOptions{})
		if err != nil {
			return err
		}
		fields, _, _ := unstructured.NestedMap(monitor.Object, "controllerStatus")
		if !ok(fields) {
			return fmt.Errorf("it reports %v", fields)
		}
		return nil
	})
}

func (f *fixture) awaitState(policy, wanted string) {
	f.t.Helper()
	framework.Eventually(f.t, limit, func(ctx context.Context) error {
		p, err := f.dynamic.Resource(Policies).Namespace(WorkloadNamespace).Get(ctx, policy, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if state, _, _ := unstructured.NestedString(p.Object, "status", "state"); state != wanted {
			return fmt.Errorf("policy %s is %q", policy, state)
		}
		return nil
	})
}
