// SPDX-License-Identifier: Apache-2.0

package capi

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/test/e2e/capi/firewallcontroller"
	"metal-stack.io/infrastructure-apiserver/test/framework"
)

// seenWithin is how long a change may take to the firewall. Without other load it takes less
// than two seconds (the log has the times), and on a busy machine many times as long.
const seenWithin = time.Minute

// firewallChangesWhileItRuns: what Services, policies and the spec allow is on the firewall
// within seconds, and no server is allocated for it. Then another firewall takes its place.
func firewallChangesWhileItRuns(t *testing.T, env *environment, namespace string, projectMetal ProjectMetal) {
	before := projectMetal.Inventory()
	// firewall-controller makes no rules for source addresses of IPv6.
	c := env.orderChanged(t, Order{Namespace: namespace, Name: "ivy", ControlPlane: 1, Workers: 1},
		"  metalAPIAccess:\n", "  privateNetwork: {addressFamilies: [IPv4]}\n  metalAPIAccess:\n")
	c.AwaitMachines(t, slow, 1, 1)
	firewall := c.AwaitFirewall(t, slow)
	firewallHasRulesOfTheSpec(t, c, firewall)
	mark := projectMetal.Mark()
	workloadChangesTheFirewall(t, c, firewall)
	address := specChangesTheFirewall(t, env, c, firewall, projectMetal.project)
	firewallMayDoNothingElse(t, env, c, firewall)
	assert.Equal(t, 0, projectMetal.Since(mark, "firewall").Allocated, "no firewall for any of it")
	workloadClusterIsAway(t, c, firewall)

	tokenIsInvalid(t, c)
	replacement := firewallIsReplacedWithoutLoss(t, c, firewall)
	account := projectMetal.Since(mark, "firewall")
	assert.Equal(t, Account{Allocated: 1, Freed: 1, Most: 2}, account)

	mark = projectMetal.Mark()
	controllerIsRemoved(t, c, replacement)
	assert.Equal(t, Account{Most: 1}, projectMetal.Since(mark, "firewall"))
	c.Delete(t, slow)
	// The source address is static, and stays.
	framework.Eventually(t, slow, func(context.Context) error {
		if left := projectMetal.since(before); !slices.Equal(left, []string{"ip " + address + " []"}) {
			return fmt.Errorf("the project has %q, and held %q", left, before)
		}
		return nil
	})
}

// firewallHasRulesOfTheSpec: otherwise machines would have had them only until now.
func firewallHasRulesOfTheSpec(t *testing.T, c *Tenant, firewall *Firewall) {
	t.Helper()
	awaitRule(t, firewall, "policy metal-stack-ingress: allow from 0.0.0.0/0 to tcp ports 6443")
	awaitRule(t, firewall, "policy metal-stack-egress: allow to 0.0.0.0/0 tcp ports 80, 443")
	awaitRule(t, firewall, "policy metal-stack-egress: allow to 0.0.0.0/0 udp ports 53, 123")
	assert.Equal(t, "v2.3.0", firewall.Version())
	all, err := c.Firewalls(t.Context())
	require.NoError(t, err)
	require.NotNil(t, all[0].Status.Controller)
	assert.Equal(t, "v2.3.0", all[0].Status.Controller.Version)
}

// workloadChangesTheFirewall opens ports from within the workload cluster.
func workloadChangesTheFirewall(t *testing.T, c *Tenant, firewall *Firewall) {
	t.Helper()
	w := c.Workload(t)
	c.AwaitNodeLabels(t, slow)
	w.CreateService(t, "web", "")
	address := w.AwaitServiceAddress(t, slow, "web")
	rule := fmt.Sprintf("service default/web: allow from anywhere to %s tcp ports 80", address)
	awaitRule(t, firewall, rule)
	seen(t, firewall, "a Service on a new port", rule+", 8443", func(ctx context.Context) error {
		_, err := w.Client().CoreV1().Services("default").Patch(ctx, "web", types.StrategicMergePatchType,
			[]byte(`{"spec":{"ports":[{"name":"http","port":80},{"name":"more","port":8443}]}}`), metav1.PatchOptions{})
		return err
	})
	policies := w.Dynamic(t).Resource(firewallcontroller.Policies).Namespace(firewallcontroller.WorkloadNamespace)
	mail := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": firewallcontroller.Policies.GroupVersion().String(), "kind": "ClusterwideNetworkPolicy", "metadata": map[string]any{"name": "mail"},
		"spec": map[string]any{"egress": []any{map[string]any{
			"ports": []any{map[string]any{"port": int64(25), "protocol": "TCP"}}, "to": []any{map[string]any{"cidr": "198.51.100.0/24"}},
		}}},
	}}
	seen(t, firewall, "a policy", "policy mail: allow to 198.51.100.0/24 tcp ports 25", func(ctx context.Context) error {
		_, err := policies.Create(ctx, mail, metav1.CreateOptions{})
		return err
	})
	framework.Eventually(t, slow, func(ctx context.Context) error {
		p, err := policies.Get(ctx, "mail", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if state, _, _ := unstructured.NestedString(p.Object, "status", "state"); state != "deployed" {
			return fmt.Errorf("the policy is %q", state)
		}
		return nil
	})
}

// specChangesTheFirewall changes the controller of the MetalStackCluster, and returns the
// source address that it has then.
func specChangesTheFirewall(t *testing.T, env *environment, c *Tenant, firewall *Firewall, project string) (address string) {
	t.Helper()
	network := Variables["METAL_PUBLIC_NETWORK"]
	seen(t, firewall, "a rate limit", "limit "+network+": 7 MiB/s", func(context.Context) error {
		return c.patchController(t, fmt.Sprintf(`{"rateLimits":[{"networkID":%q,"rate":7}]}`, network))
	})
	address, err := env.Site.Metal.Sim.AllocateIPFor(project, network, "egress", nil)
	require.NoError(t, err)
	awaitAddress(t, c, network, address)
	awaitRulesBeginning(t, firewall, "snat "+network+": from ", " as "+address)
	const mail = "policy mail: allow to 198.51.100.0/24 tcp ports 25"
	require.NoError(t, c.patchController(t, `{"allowedNetworks":{"ingress":["0.0.0.0/0"],"egress":["203.0.113.0/24"]}}`))
	framework.Eventually(t, seenWithin, func(context.Context) error {
		if firewall.hasRule(mail) == nil {
			return fmt.Errorf("the policy is still allowed")
		}
		return nil
	})
	seen(t, firewall, "all networks", mail, func(context.Context) error { return c.patchController(t, `{"allowedNetworks":null}`) })
	require.NoError(t, c.patchController(t, `{"version":"v2.4.0","url":"https://images.example.org/firewall-controller"}`))
	framework.Eventually(t, slow, func(ctx context.Context) error {
		all, err := c.Firewalls(ctx)
		if err != nil {
			return err
		}
		if status := all[0].Status.Controller; status == nil || status.Version != "v2.4.0" {
			return fmt.Errorf("version %q runs, reported is %+v:\n%s", firewall.Version(), status, firewall.Log())
		}
		return nil
	})
	return address
}

// awaitAddress has the firewall use an address, as soon as the server knows it.
func awaitAddress(t *testing.T, c *Tenant, network, address string) {
	t.Helper()
	framework.Eventually(t, slow, func(context.Context) error {
		return c.patchController(t, fmt.Sprintf(`{"egressIPs":[{"networkID":%q,"ips":[%q]}]}`, network, address))
	})
}

// workloadClusterIsAway: the rules stay, changes of the spec arrive, and reports go on
// afterwards.
func workloadClusterIsAway(t *testing.T, c *Tenant, firewall *Firewall) {
	t.Helper()
	network := Variables["METAL_PUBLIC_NETWORK"]
	rules := firewall.State().Rules
	reconnect := c.Workload(t).Disconnect()
	defer reconnect()
	assert.Equal(t, rules, firewall.State().Rules)
	seen(t, firewall, "a rate limit without workload cluster", "limit "+network+": 9 MiB/s", func(context.Context) error {
		return c.patchController(t, fmt.Sprintf(`{"rateLimits":[{"networkID":%q,"rate":9}]}`, network))
	})
	reconnect()
	back := time.Now()
	framework.Eventually(t, slow, func(ctx context.Context) error {
		all, err := c.Firewalls(ctx)
		if err != nil {
			return err
		}
		f := &all[0]
		if s := f.Status.Controller; s == nil || s.LastRun == nil || !meta.IsStatusConditionTrue(f.Status.Conditions, infrastructure.ConditionControllerConnected) {
			return fmt.Errorf("not connected:%s", describeFirewalls(all))
		}
		return nil
	})
	t.Logf("connected %s after the workload cluster is back", time.Since(back).Round(100*time.Millisecond))
}

// tokenIsInvalid: the account of firewall-controllers is gone, and with it their token, as when
// that expires. They get another one when the workload cluster is looked at again, such as for
// another firewall.
func tokenIsInvalid(t *testing.T, c *Tenant) {
	t.Helper()
	accounts := c.Workload(t).Client().CoreV1().ServiceAccounts(firewallcontroller.WorkloadNamespace)
	require.NoError(t, accounts.Delete(t.Context(), "firewall-controller", metav1.DeleteOptions{}))
}

// firewallIsReplacedWithoutLoss: the new one has the same rules before it gets the traffic,
// and the old one goes after that.
func firewallIsReplacedWithoutLoss(t *testing.T, c *Tenant, old *Firewall) *Firewall {
	t.Helper()
	all, err := c.Firewalls(t.Context())
	require.NoError(t, err)
	former := all[0].Name
	history := c.watchFirewalls(t)
	c.replaceFirewalls(t)
	began := time.Now()
	replacement := c.AwaitOtherFirewall(t, slow, old)
	t.Logf("replaced after %s", time.Since(began).Round(100*time.Millisecond))
	var steps []string
	for _, f := range history() {
		who := "new"
		if f.Name == former {
			who = "old"
		}
		step := fmt.Sprintf("%s %d", who, f.Status.Distance)
		if f.DeletionTimestamp != nil {
			step = who + " goes"
		}
		if !slices.Contains(steps, step) {
			steps = append(steps, step)
		}
	}
	t.Logf("steps: %q", steps)
	order := []string{"new 3", "old 8", "new 0", "old goes"}
	last := -1
	for _, step := range order {
		i := slices.Index(steps, step)
		// A new firewall may be seen with 0 before it gets its distance.
		if assert.GreaterOrEqual(t, i, 0, step) && step != "new 0" {
			assert.Greater(t, i, last, step)
			last = i
		}
	}
	assert.Equal(t, firewallcontroller.Dynamic, old.State().Filter, "log:\n%s", old.Log())
	assert.Equal(t, old.State().Rules, replacement.State().Rules)
	return replacement
}

// firewallKeepsItsRules: its kubeconfig is one of a management cluster from which it was moved
// away, and where its Firewall is gone. The new one says what to do.
func firewallKeepsItsRules(t *testing.T, there *Tenant, firewall *Firewall) {
	t.Helper()
	framework.Eventually(t, slow, func(ctx context.Context) error {
		all, err := there.Firewalls(ctx)
		if err != nil {
			return err
		}
		if len(all) != 1 {
			return fmt.Errorf("there are %d firewalls", len(all))
		}
		c := meta.FindStatusCondition(all[0].Status.Conditions, infrastructure.ConditionSeedConnected)
		if c == nil || c.Status != metav1.ConditionFalse || c.Reason != infrastructure.ReasonNoKubeconfig || !strings.Contains(c.Message, infrastructure.ReplaceAnnotation) {
			return fmt.Errorf("firewalls:%s", describeFirewalls(all))
		}
		return nil
	})
	state := firewall.State()
	assert.Equal(t, firewallcontroller.Dynamic, state.Filter, "log:\n%s", firewall.Log())
	assert.Contains(t, state.Rules, "policy metal-stack-ingress: allow from 0.0.0.0/0 to tcp ports 6443")
}

// replaceFirewalls has other firewalls take the place of those that there are.
func (tenant *Tenant) replaceFirewalls(t *testing.T) {
	t.Helper()
	all, err := tenant.Firewalls(t.Context())
	require.NoError(t, err)
	for i := range all {
		require.NoError(t, tenant.Client.Patch(t.Context(), &all[i], client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"annotations":{%q:""}}}`, infrastructure.ReplaceAnnotation))))
	}
}

// controllerIsRemoved: access ends in both clusters, and the rules stay.
func controllerIsRemoved(t *testing.T, c *Tenant, firewall *Firewall) {
	t.Helper()
	infra, err := c.Infrastructure(t.Context())
	require.NoError(t, err)
	require.NotEmpty(t, firewallObjects(t, c), "there is something to remove")
	rules := firewall.State().Rules
	require.NoError(t, c.Client.Patch(t.Context(), infra, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"firewallSpec":{"controller":null}}}`))))
	framework.Eventually(t, slow, func(context.Context) error {
		if left := firewallObjects(t, c); len(left) > 0 {
			return fmt.Errorf("there is yet: %q", left)
		}
		return nil
	})
	state := firewall.State()
	assert.Equal(t, firewallcontroller.Dynamic, state.Filter)
	// Limits and addresses were of the controller's spec, and may have gone before the access.
	for _, rule := range rules {
		if strings.HasPrefix(rule, "policy ") || strings.HasPrefix(rule, "service ") {
			assert.Contains(t, state.Rules, rule)
		}
	}
}

// firewallObjects are the objects that the controller of a cluster has in both clusters, but
// for definitions and policies.
func firewallObjects(t *testing.T, c *Tenant) (names []string) {
	t.Helper()
	infra, err := c.Infrastructure(t.Context())
	require.NoError(t, err)
	names = append(names, managementObjects(t, c, infra.Name)...)
	w := c.Workload(t)
	if _, err := w.Client().CoreV1().ServiceAccounts(firewallcontroller.WorkloadNamespace).Get(t.Context(), "firewall-controller", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		names = append(names, fmt.Sprintf("service account firewall-controller (%v)", err))
	}
	if _, err := w.Client().RbacV1().ClusterRoleBindings().Get(t.Context(), "metal-stack:firewall-controller", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		names = append(names, fmt.Sprintf("cluster role binding metal-stack:firewall-controller (%v)", err))
	}
	monitors, err := w.Dynamic(t).Resource(firewallcontroller.Monitors).Namespace(firewallcontroller.WorkloadNamespace).List(t.Context(), metav1.ListOptions{})
	if !apierrors.IsNotFound(err) {
		require.NoError(t, err)
		for _, monitor := range monitors.Items {
			names = append(names, "monitor "+monitor.GetName())
		}
	}
	return names
}

// managementObjects are those in the management cluster.
func managementObjects(t *testing.T, c *Tenant, infra string) (names []string) {
	t.Helper()
	for _, list := range []client.ObjectList{&corev1.ServiceAccountList{}, &rbacv1.RoleList{}, &rbacv1.RoleBindingList{}, &corev1.SecretList{}} {
		require.NoError(t, c.Client.List(t.Context(), list, client.InNamespace(c.Key.Namespace)))
		items, err := meta.ExtractList(list)
		require.NoError(t, err)
		for _, item := range items {
			if name := item.(client.Object).GetName(); strings.HasPrefix(name, infra+"-firewall-") {
				names = append(names, fmt.Sprintf("%T %s", item, name))
			}
		}
	}
	return names
}

// awaitNoManagementObjects waits until the garbage collector has deleted those of a cluster
// that is gone, or was moved away.
func awaitNoManagementObjects(t *testing.T, c *Tenant, infra string) {
	t.Helper()
	framework.Eventually(t, slow, func(context.Context) error {
		if left := managementObjects(t, c, infra); len(left) > 0 {
			return fmt.Errorf("left over: %q", left)
		}
		return nil
	})
}

// patchController changes the controller of the MetalStackCluster.
func (tenant *Tenant) patchController(t testing.TB, patch string) error {
	t.Helper()
	infra, err := tenant.Infrastructure(t.Context())
	if err != nil {
		return err
	}
	return tenant.Client.Patch(t.Context(), infra, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"firewallSpec":{"controller":`+patch+`}}}`)))
}

// watchFirewalls collects what firewalls were, one after the other.
func (tenant *Tenant) watchFirewalls(t *testing.T) (history func() []v1alpha4.MetalStackFirewall) {
	t.Helper()
	c, err := client.NewWithWatch(tenant.m.Admin(), client.Options{Scheme: Scheme})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	watch, err := c.Watch(ctx, &v1alpha4.MetalStackFirewallList{}, tenant.mine(), client.InNamespace(tenant.Key.Namespace))
	require.NoError(t, err)
	var seen []v1alpha4.MetalStackFirewall
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for event := range watch.ResultChan() {
			if f, ok := event.Object.(*v1alpha4.MetalStackFirewall); ok {
				seen = append(seen, *f)
			}
		}
	}()
	return func() []v1alpha4.MetalStackFirewall {
		watch.Stop()
		cancel()
		<-ended
		return seen
	}
}

// seen makes a change, and waits until the firewall has a rule because of it.
func seen(t *testing.T, firewall *Firewall, what, rule string, change func(context.Context) error) {
	t.Helper()
	require.NoError(t, change(t.Context()), what)
	began := time.Now()
	framework.Eventually(t, seenWithin, func(context.Context) error { return firewall.hasRule(rule) })
	t.Logf("%s: on the firewall after %s", what, time.Since(began).Round(10*time.Millisecond))
}

func awaitRule(t testing.TB, firewall *Firewall, rule string) {
	t.Helper()
	framework.Eventually(t, slow, func(context.Context) error { return firewall.hasRule(rule) })
}

// awaitRulesBeginning waits for a rule of which the middle is not known.
func awaitRulesBeginning(t testing.TB, firewall *Firewall, begin, end string) {
	t.Helper()
	framework.Eventually(t, slow, func(context.Context) error {
		state := firewall.State()
		if !slices.ContainsFunc(state.Rules, func(rule string) bool { return strings.HasPrefix(rule, begin) && strings.HasSuffix(rule, end) }) {
			return fmt.Errorf("no rule %q…%q: %q, failed: %s", begin, end, state.Rules, state.Failed)
		}
		return nil
	})
}

func (f *Firewall) hasRule(rule string) error {
	if state := f.State(); !slices.Contains(state.Rules, rule) {
		return fmt.Errorf("no rule %q: %q, failed: %s; log:\n%s", rule, state.Rules, state.Failed, f.Log())
	}
	return nil
}
