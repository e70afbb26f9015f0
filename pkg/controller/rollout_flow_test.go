// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

func (e *capiEnvironment) changeFirewallSpec(change func(*v1alpha4.MetalStackFirewallSpec)) {
	e.t.Helper()
	cluster := e.infra()
	changed := cluster.DeepCopy()
	change(changed.Spec.FirewallSpec)
	require.NoError(e.t, e.api.Patch(e.t.Context(), changed, client.MergeFrom(cluster)))
}

// firewallsWithMetal are how many firewalls the metal-api has allocated.
func (e *capiEnvironment) firewallsWithMetal() int {
	n := 0
	for _, m := range e.server.Metal.Sim.Inventory().Machines {
		if m.Allocated && m.Role == "firewall" {
			n++
		}
	}
	return n
}

// giveSeedToken plays the kube-controller-manager for the firewall-controllers' ServiceAccount.
func (e *capiEnvironment) giveSeedToken() {
	ctx := e.t.Context()
	a := newFirewallAccess(newAccessChecks())
	cluster := e.infra()
	account := &corev1.ServiceAccount{ObjectMeta: accessMeta(cluster, a.account(cluster))}
	account.UID = "uid-of-the-account"
	require.NoError(e.t, e.api.memory.Create(ctx, account))
	token := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: a.token(cluster)}, Type: corev1.SecretTypeServiceAccountToken}
	token.Annotations = map[string]string{corev1.ServiceAccountNameKey: account.Name, corev1.ServiceAccountUIDKey: string(account.UID)}
	token.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(account, corev1.SchemeGroupVersion.WithKind("ServiceAccount"))}
	token.Data = map[string][]byte{corev1.ServiceAccountTokenKey: []byte("token")}
	require.NoError(e.t, e.api.memory.Create(ctx, token))
	userData := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: "firewall-user-data"}, Data: map[string][]byte{"value": []byte(`{"ignition":{"version":"2.3.0"}}`)}}
	require.NoError(e.t, e.api.memory.Update(ctx, userData))
}

// reportFirewalls plays the firewall-controllers that run.
func (e *capiEnvironment) reportFirewalls() {
	e.t.Helper()
	all := e.firewalls()
	for i := range all {
		f := all[i].DeepCopy()
		if f.Spec.Controller == nil || !f.Status.Ready || f.DeletionTimestamp != nil {
			continue
		}
		f.Status.Controller = &v1alpha4.FirewallControllerStatus{Version: "v2.4.1", Distance: ptr.To(f.Status.Distance)}
		meta.SetStatusCondition(&f.Status.Conditions, metav1.Condition{
			Type: infrastructure.ConditionControllerConnected, Status: metav1.ConditionTrue, Reason: infrastructure.ReasonControllerConnected,
		})
		patch := client.MergeFromWithOptions(&all[i], client.MergeFromWithOptimisticLock{})
		_ = e.api.Status().Patch(e.t.Context(), f, patch)
	}
}

// The controller manager is killed after each of its writes.
func TestRollout_ExchangesFirewallsByDistance(t *testing.T) {
	t.Parallel()
	w := newCAPIEnvironment(t)
	w.options.ManagementCluster.URL = "https://kubernetes.example.org"
	w.crashes = &crashInjector{left: 1}
	w.restart()
	w.createCluster(0)
	w.reconcileUntil("the first firewall is ready", w.allReady())
	first := w.firewalls()[0]

	w.changeFirewallSpec(func(spec *v1alpha4.MetalStackFirewallSpec) {
		spec.Controller = &v1alpha4.FirewallController{LogAcceptedConnections: true}
		spec.ProvisioningTimeout = &metav1.Duration{Duration: 2 * time.Hour}
	})
	w.reconcileUntil("the firewall has what can be changed while it runs", func() bool {
		f := w.firewalls()[0]
		return f.Spec.Controller != nil && f.Spec.Controller.LogAcceptedConnections && f.Spec.ProvisioningTimeout != nil
	})
	require.Equal(t, 1, operations(w.server, "allocate"))

	w.giveSeedToken()
	f := &w.firewalls()[0]
	marked := f.DeepCopy()
	metav1.SetMetaDataAnnotation(&marked.ObjectMeta, infrastructure.ReplaceAnnotation, "")
	require.NoError(t, w.api.Patch(t.Context(), marked, client.MergeFrom(f)))
	var seen [][2]int32
	w.reconcileUntil("another one has taken its place", func() bool {
		w.reportFirewalls()
		all := w.firewalls()
		if len(all) == 2 {
			i := slices.IndexFunc(all, func(f v1alpha4.MetalStackFirewall) bool { return f.UID == first.UID })
			distances := [2]int32{all[i].Status.Distance, all[1-i].Status.Distance}
			if all[i].DeletionTimestamp == nil && (len(seen) == 0 || seen[len(seen)-1] != distances) {
				seen = append(seen, distances)
			}
		}
		require.LessOrEqual(t, len(all), maxFirewalls)
		return len(all) == 1 && all[0].UID != first.UID && w.allReady()()
	})
	require.Equal(t, [][2]int32{{0, 3}, {8, 3}, {8, 0}}, seen[max(0, len(seen)-3):], "%v", seen)
	require.Equal(t, 2, operations(w.server, "allocate"))
	require.Zero(t, w.firewalls()[0].Status.Distance)
	w.deleteCluster()
	w.requireNoMetal()
}

func TestRollout_HoldsTwoFirewallsAtMostHoweverOftenTheSpecChanges(t *testing.T) {
	t.Parallel()
	w := newCAPIEnvironment(t)
	w.crashes = &crashInjector{left: 1}
	w.restart()
	w.createCluster(0)
	w.reconcileUntil("the first firewall is ready", w.allReady())
	w.changeFirewallSpec(func(spec *v1alpha4.MetalStackFirewallSpec) { spec.DNSServers = []string{"192.0.2.1"} })
	changes := 0
	w.reconcileUntil("the last change is rolled out", func() bool {
		require.LessOrEqual(t, w.firewallsWithMetal(), maxFirewalls)
		if changes < 10 {
			if w.firewallsWithMetal() < maxFirewalls && changes%2 == 0 {
				// It is changed while two hold metal, and once more soon.
				return false
			}
			changes++
			port := int32(changes)
			w.changeFirewallSpec(func(spec *v1alpha4.MetalStackFirewallSpec) {
				spec.Rules = &v1alpha4.FirewallRules{Egress: []v1alpha4.FirewallEgressRule{{Ports: []int32{port}, To: []string{"0.0.0.0/0"}}}}
			})
			return false
		}
		all := w.firewalls()
		require.True(t, slices.ContainsFunc(all, func(f v1alpha4.MetalStackFirewall) bool { return f.DeletionTimestamp == nil && f.Status.Ready }), "one serves at all times")
		return len(all) == 1 && all[0].Spec.Rules != nil && all[0].Spec.Rules.Egress[0].Ports[0] == 10 && all[0].Status.Ready
	})
	w.deleteCluster()
	w.requireNoMetal()
}

func TestStaleReads_NoticeWhatTheServerAnswersWithoutTheMetalAPI(t *testing.T) {
	t.Parallel()
	w := newCAPIEnvironment(t)
	w.createCluster(0)
	w.reconcileUntil("the firewall is ready", w.allReady())
	f := &w.firewalls()[0]
	live, err := client.New(withStaleReads(w.server.Config), client.Options{Scheme: w.api.Scheme()})
	require.NoError(t, err)
	ctx, stale := watchForStaleReads(t.Context())
	require.Eventually(t, func() bool {
		ctx, stale := watchForStaleReads(t.Context())
		return live.Get(ctx, client.ObjectKeyFromObject(f), f) == nil && !stale()
	}, patience, 10*time.Millisecond)

	t.Cleanup(w.server.Metal.Sim.Inject(simulator.Fault{Endpoint: "*", Kind: simulator.FaultRefused}))
	require.NoError(t, live.Get(ctx, client.ObjectKeyFromObject(f), f))
	require.True(t, stale())
}
