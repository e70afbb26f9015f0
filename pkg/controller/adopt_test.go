// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

func unowned(f *v1alpha4.MetalStackFirewall) { f.OwnerReferences = nil }

func unlabelled(f *v1alpha4.MetalStackFirewall) { f.Labels = nil }

func ofAnotherCluster(f *v1alpha4.MetalStackFirewall) {
	f.Labels[infrastructure.ClusterNameLabel] = "d"
}

// controlledAs makes a MetalStackCluster of a name and uid the controller.
func controlledAs(name string, uid types.UID) func(*v1alpha4.MetalStackFirewall) {
	return func(f *v1alpha4.MetalStackFirewall) { f.OwnerReferences[0].Name, f.OwnerReferences[0].UID = name, uid }
}

func (h *harness) allFirewalls() map[string]v1alpha4.MetalStackFirewall {
	h.t.Helper()
	list := &v1alpha4.MetalStackFirewallList{}
	require.NoError(h.t, h.api.List(h.t.Context(), list))
	byName := map[string]v1alpha4.MetalStackFirewall{}
	for _, f := range list.Items {
		byName[f.Name] = f
	}
	return byName
}

func TestAdopt_FirewallThatBelongsToTheCluster(t *testing.T) {
	t.Parallel()
	cluster := infraCluster(withFirewallSpec("firewall-2")).(*v1alpha4.MetalStackCluster)
	made := newFirewall(cluster, nil).Name
	older := firewallNamePrefix(cluster.Name) + "0123abcd"
	type change = []func(*v1alpha4.MetalStackFirewall)
	for name, c := range map[string]struct {
		firewalls map[string]change
		adopted   []string
		// created: another one is made.
		created bool
	}{
		"made for the cluster":                   {map[string]change{made: {home, unowned}}, []string{made}, false},
		"made for it, before it has phoned home": {map[string]change{made: {installing, unowned}}, []string{made}, false},
		"made in place of another one":           {map[string]change{older: {home, unowned}}, []string{older}, false},
		"the old and the new of a roll":          {map[string]change{older: {home, outdated, unowned}, made: {installing, unowned}}, []string{older, made}, false},
		"owned before the cluster was restored":  {map[string]change{made: {home, controlledAs("c-infra", "old")}}, []string{made}, false},
		"like the spec, made by a person":        {map[string]change{"fw": {home, unowned}}, []string{"fw"}, false},
		"one more like the spec":                 {map[string]change{made: {home}, "fw": {home, unowned}}, nil, false},
		"unlike the spec, made by a person":      {map[string]change{"fw": {home, outdated, unowned}}, nil, true},
		"another cluster's":                      {map[string]change{older: {home, unowned, ofAnotherCluster}}, nil, true},
		"controlled by another cluster":          {map[string]change{older: {home, controlledAs("d-infra", "d")}}, nil, true},
		"being deleted":                          {map[string]change{older: {home, unowned, going}}, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			objects := []client.Object{cluster.DeepCopy(), capiCluster()}
			for name, changes := range c.firewalls {
				objects = append(objects, firewallOf(cluster, name, changes...))
			}
			h := newHarness(t, clusters, false, objects...)
			h.clock.SetTime(rollTime)
			h.reconcile("c-infra")
			all := h.allFirewalls()
			var adopted []string
			for name := range c.firewalls {
				was := firewallOf(cluster, name, c.firewalls[name]...)
				if now := all[name]; metav1.IsControlledBy(&now, cluster) && !metav1.IsControlledBy(was, cluster) {
					require.Len(t, now.OwnerReferences, 1)
					require.Nil(t, now.DeletionTimestamp)
					adopted = append(adopted, name)
				}
			}
			require.ElementsMatch(t, c.adopted, adopted)
			require.Equal(t, len(c.adopted), strings.Count(strings.Join(h.takeEvents(), "\n"), EventFirewallAdopted))
			want := len(c.firewalls)
			if c.created {
				want++
			}
			require.Len(t, all, want)
		})
	}
}

func TestAdopt_NothingWithoutFirewallSpec(t *testing.T) {
	t.Parallel()
	cluster := infraCluster(withFirewallSpec("firewall-2")).(*v1alpha4.MetalStackCluster)
	f := firewallOf(cluster, newFirewall(cluster, nil).Name, home, unowned)
	cluster.Spec.FirewallSpec = nil
	h := newHarness(t, clusters, false, cluster, capiCluster(), f)
	h.reconcile("c-infra")
	now := h.allFirewalls()[f.Name]
	require.Empty(t, now.OwnerReferences)
	require.Nil(t, now.DeletionTimestamp)
}

func TestFirewallNameTaken_NamesTheOwnerAndWhatToDo(t *testing.T) {
	t.Parallel()
	cluster := infraCluster(withFirewallSpec("firewall-2")).(*v1alpha4.MetalStackCluster)
	made := newFirewall(cluster, nil).Name
	for name, c := range map[string]struct {
		there []func(*v1alpha4.MetalStackFirewall)
		says  []string
	}{
		"controlled by another cluster": {[]func(*v1alpha4.MetalStackFirewall){home, controlledAs("d-infra", "d")},
			[]string{"is controlled by MetalStackCluster d-infra", "delete it"}},
		"of another cluster": {[]func(*v1alpha4.MetalStackFirewall){home, unowned, ofAnotherCluster},
			[]string{"already exists and has the label cluster.x-k8s.io/cluster-name=d", "kubectl label --overwrite metalstackfirewalls " + made + " -n tenant cluster.x-k8s.io/cluster-name=c"}},
		"without a label": {[]func(*v1alpha4.MetalStackFirewall){home, unowned, unlabelled},
			[]string{"without the label", "kubectl label metalstackfirewalls " + made + " -n tenant cluster.x-k8s.io/cluster-name=c"}},
		"being deleted": {[]func(*v1alpha4.MetalStackFirewall){home, unowned, ofAnotherCluster, going, func(f *v1alpha4.MetalStackFirewall) {
			f.Status.Conditions = append(f.Status.Conditions, metav1.Condition{Type: infrastructure.ConditionDeleting, Status: "True", Message: "machine is locked"})
		}}, []string{"is being deleted", "machine is locked", "To keep its metal"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, clusters, false, cluster.DeepCopy(), capiCluster(), firewallOf(cluster, made, c.there...))
			require.Equal(t, fallbackRequeue, h.reconcile("c-infra").RequeueAfter)
			ready := condition(h.get(clusters, "c-infra"), infrastructure.ConditionFirewallReady)
			require.Equal(t, metav1.ConditionFalse, ready.Status)
			require.Equal(t, infrastructure.ReasonFirewallNameTaken, ready.Reason, ready.Message)
			for _, words := range append(c.says, made) {
				require.Contains(t, ready.Message, words)
			}
			require.Contains(t, strings.Join(h.takeEvents(), "\n"), "Warning "+infrastructure.ReasonFirewallNameTaken)
			require.Len(t, h.allFirewalls(), 1)
		})
	}
}

// withoutFirewalls is a cache that does not show firewalls yet.
type withoutFirewalls struct{ client.Client }

func (c withoutFirewalls) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	if _, of := list.(*v1alpha4.MetalStackFirewallList); of {
		return nil
	}
	return c.Client.List(ctx, list, opts...)
}

func TestFirewallNameTaken_ReadsTheFirewallFromTheServer(t *testing.T) {
	t.Parallel()
	cluster := infraCluster(withFirewallSpec("firewall-2")).(*v1alpha4.MetalStackCluster)
	made := newFirewall(cluster, nil).Name
	for name, changes := range map[string][]func(*v1alpha4.MetalStackFirewall){"owned": {home}, "unowned": {home, unowned}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, clusters, false, cluster.DeepCopy(), capiCluster(), firewallOf(cluster, made, changes...))
			h.r.cached = withoutFirewalls{h.api}
			require.Equal(t, inFlightRequeue, h.reconcile("c-infra").RequeueAfter)
			now := h.allFirewalls()[made]
			require.True(t, metav1.IsControlledBy(&now, cluster))
			require.Equal(t, infrastructure.ReasonFirewallProvisioning, condition(h.get(clusters, "c-infra"), infrastructure.ConditionFirewallReady).Reason)
		})
	}
}

func TestClusterDeletion_DeletesFirewallsWithoutController(t *testing.T) {
	t.Parallel()
	cluster := infraCluster(withFirewallSpec("firewall-2")).(*v1alpha4.MetalStackCluster)
	h := newHarness(t, clusters, false, infraCluster(withFirewallSpec("firewall-2"), deleted), capiCluster(),
		firewallOf(cluster, "owned", home),
		firewallOf(cluster, "unowned", home, unowned),
		firewallOf(cluster, "restored", home, controlledAs("c-infra", "old")),
		firewallOf(cluster, "theirs", home, controlledAs("d-infra", "d")),
		firewallOf(cluster, "other", home, unowned, ofAnotherCluster))
	h.reconcile("c-infra")
	all := h.allFirewalls()
	for name, goes := range map[string]bool{"owned": true, "unowned": true, "restored": true, "theirs": false, "other": false} {
		f := all[name]
		require.Equal(t, goes, f.DeletionTimestamp != nil, name)
	}
	deleting := condition(h.get(clusters, "c-infra"), infrastructure.ConditionDeleting)
	require.Equal(t, infrastructure.ReasonWaitingForFirewalls, deleting.Reason)
	require.Contains(t, deleting.Message, "theirs (controlled by MetalStackCluster d-infra)", "what does not go by itself is named")
}

// leftBehind is a MetalStackCluster with the label of Cluster c, which names another.
func leftBehind(changes ...func(client.Object)) *v1alpha4.MetalStackCluster {
	return object(clusters, "stale", append([]func(client.Object){of("c"), with(v1alpha4.AllocationAllocated), withFirewallSpec("firewall-2")}, changes...)...).(*v1alpha4.MetalStackCluster)
}

func TestRollout_ReplacesDeletingFirewallUnderAnotherName(t *testing.T) {
	t.Parallel()
	cluster := infraCluster(withFirewallSpec("firewall-2")).(*v1alpha4.MetalStackCluster)
	held := firewallOf(cluster, newFirewall(cluster, nil).Name, home, unowned, going)
	h := newHarness(t, clusters, false, cluster.DeepCopy(), capiCluster(), held)
	for range 2 {
		h.reconcile("c-infra")
		require.Len(t, h.allFirewalls(), 2, "it stays as it is, and there is one more")
	}
	require.Empty(t, h.get(firewalls, held.Name).GetOwnerReferences())
	for name, f := range h.allFirewalls() {
		require.True(t, name == held.Name || metav1.IsControlledBy(&f, cluster), name)
	}
}

func TestWaitForFirewall_DeletingFirewallThatServesIsEnough(t *testing.T) {
	t.Parallel()
	freed := func(f *v1alpha4.MetalStackFirewall) { f.Status.Allocation.Phase = v1alpha4.AllocationReleased }
	for name, c := range map[string]struct {
		changes []func(*v1alpha4.MetalStackFirewall)
		serves  bool
	}{
		"holds its metal":       {[]func(*v1alpha4.MetalStackFirewall){home, unowned, going}, true},
		"has released it":       {[]func(*v1alpha4.MetalStackFirewall){home, unowned, going, freed}, false},
		"has never phoned home": {[]func(*v1alpha4.MetalStackFirewall){installing, unowned, going}, false},
		"another cluster's":     {[]func(*v1alpha4.MetalStackFirewall){home, unowned, going, ofAnotherCluster}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			objects := everything()
			infra := objects["infra"].(*v1alpha4.MetalStackCluster)
			withFirewallSpec("firewall-2")(infra)
			objects["firewall"] = firewallOf(infra, "f", c.changes...)
			h := harnessOf(t, machines, objects)
			h.reconcile("m-infra")
			if c.serves {
				require.Equal(t, []string{"allocate m-infra"}, h.calls)
				return
			}
			require.Empty(t, h.calls)
		})
	}
}

func TestAdopt_OnlyByTheClusterThatInfrastructureRefNames(t *testing.T) {
	t.Parallel()
	cluster := infraCluster(withFirewallSpec("firewall-2")).(*v1alpha4.MetalStackCluster)
	f := firewallOf(cluster, "theirs", home, unowned)
	machine := object(machines, "m", of("c"), with(v1alpha4.AllocationAllocated))
	t.Run("adopts none", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t, clusters, false, cluster.DeepCopy(), leftBehind(), capiCluster(), f.DeepCopy())
		h.reconcile("stale")
		require.Empty(t, h.get(firewalls, "theirs").GetOwnerReferences())
		h.reconcile("c-infra")
		require.True(t, metav1.IsControlledBy(h.get(firewalls, "theirs"), cluster))
	})
	t.Run("adopts none of a name that it wants", func(t *testing.T) {
		t.Parallel()
		named := f.DeepCopy()
		named.Name = newFirewall(leftBehind(), nil).Name
		h := newHarness(t, clusters, false, leftBehind(), capiCluster(), named)
		h.reconcile("stale")
		require.Empty(t, h.get(firewalls, named.Name).GetOwnerReferences())
		ready := condition(h.get(clusters, "stale"), infrastructure.ConditionFirewallReady)
		require.Equal(t, infrastructure.ReasonFirewallNameTaken, ready.Reason)
		require.Contains(t, ready.Message, "belongs to MetalStackCluster c-infra, which Cluster c names")
	})
	t.Run("deletes none", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t, clusters, false, cluster.DeepCopy(), leftBehind(deleted), capiCluster(), f.DeepCopy(), machine.DeepCopyObject().(client.Object))
		h.reconcile("stale")
		left := h.get(firewalls, "theirs")
		require.Nil(t, left.GetDeletionTimestamp())
		require.Empty(t, left.GetOwnerReferences())
		require.Equal(t, []string{"release stale"}, h.calls, "it does not wait for members of the other")
	})
}

func TestWatches_AdoptedFirewallTriggersMachines(t *testing.T) {
	t.Parallel()
	cluster := infraCluster(withFirewallSpec("firewall-2")).(*v1alpha4.MetalStackCluster)
	was, now := firewallOf(cluster, "f", home, unowned), firewallOf(cluster, "f", home)
	require.True(t, firewallProvisioned.Update(event.UpdateEvent{ObjectOld: was, ObjectNew: now}))
	require.False(t, firewallProvisioned.Update(event.UpdateEvent{ObjectOld: now, ObjectNew: now}))
}
