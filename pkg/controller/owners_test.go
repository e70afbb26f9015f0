// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// doomed is everything, with the machine allocated and being deleted.
func doomed(changes ...func(client.Object)) map[string]client.Object {
	objects := everything()
	with(v1alpha4.AllocationAllocated)(objects["obj"])
	deleted(objects["obj"])
	for _, change := range changes {
		change(objects["obj"])
	}
	return objects
}

func TestRelease_MachineWhoseOwnersExist(t *testing.T) {
	t.Parallel()
	objects := doomed()
	// Machine and Cluster wait for it, with a deletionTimestamp of their own.
	deleted(objects["machine"])
	deleted(objects["cluster"])
	h := harnessOf(t, machines, objects)
	h.reconcile("m-infra")
	require.Equal(t, []string{"release m-infra"}, h.calls)
	require.False(t, h.exists(machines, "m-infra"))
	recorded := strings.Join(h.takeEvents(), "\n")
	require.Contains(t, recorded, EventReleasing)
	require.Contains(t, recorded, EventReleased)
}

func TestRelease_HoldsWhenAnOwnerIsMissing(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(map[string]client.Object){
		"Machine is not there":            func(o map[string]client.Object) { o["machine"] = nil },
		"Machine is another one":          func(o map[string]client.Object) { o["machine"].SetUID("another") },
		"Cluster is not there":            func(o map[string]client.Object) { o["cluster"] = nil },
		"second owner is not there":       func(o map[string]client.Object) { ownedBy("MachineSet", "ms", "uid-of-ms")(o["obj"]) },
		"owner of a version that is gone": func(o map[string]client.Object) { o["machine"] = nil; ownedIn("v1alpha1")(o["obj"]) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			objects := doomed()
			change(objects)
			h := harnessOf(t, machines, objects)
			for range 3 {
				require.Equal(t, holdRequeue, h.reconcile("m-infra").RequeueAfter)
				h.clock.Step(time.Hour)
			}
			require.Empty(t, h.calls)
			deleting := condition(h.get(machines, "m-infra"), infrastructure.ConditionDeleting)
			require.Equal(t, metav1.ConditionTrue, deleting.Status)
			require.Equal(t, infrastructure.ReasonOwnerNotFound, deleting.Reason)
			require.Contains(t, deleting.Message, "kubectl annotate metalstackmachines m-infra -n tenant "+infrastructure.ForceReleaseAnnotation+"=true")
			recorded := h.takeEvents()
			require.Len(t, recorded, 1, "it is recorded once")
			require.True(t, strings.HasPrefix(recorded[0], corev1.EventTypeWarning+" "+infrastructure.ReasonOwnerNotFound))

			// The release is forced.
			obj := h.get(machines, "m-infra")
			annotated(infrastructure.ForceReleaseAnnotation)(obj)
			h.update(obj)
			h.reconcile("m-infra")
			require.Equal(t, []string{"release m-infra"}, h.calls)
			require.Contains(t, strings.Join(h.takeEvents(), "\n"), EventReleaseForced)
		})
	}
}

func ownedIn(version string) func(client.Object) {
	return func(obj client.Object) {
		refs := obj.GetOwnerReferences()
		refs[0].APIVersion = clusterv1.GroupVersion.Group + "/" + version
		obj.SetOwnerReferences(refs)
	}
}

func TestRelease_FindsOwnerOfAnUnservedVersion(t *testing.T) {
	t.Parallel()
	h := harnessOf(t, machines, doomed(ownedIn("v1alpha3")))
	h.reconcile("m-infra")
	require.Equal(t, []string{"release m-infra"}, h.calls)
}

func TestRelease_HoldsWhileAnOwnerLookupFails(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"away":      errAway,
		"forbidden": apierrors.NewForbidden(schema.GroupResource{Group: clusterv1.GroupVersion.Group, Resource: "machines"}, "m", errors.New("no RBAC")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := harnessOf(t, machines, doomed())
			h.r.live = unreadable{h.api, "m", err}
			require.Equal(t, ownerLookupRequeue, h.reconcile("m-infra").RequeueAfter)
			require.Empty(t, h.calls)
			deleting := condition(h.get(machines, "m-infra"), infrastructure.ConditionDeleting)
			require.Equal(t, infrastructure.ReasonOwnerLookupFailed, deleting.Reason)
			require.Contains(t, deleting.Message, err.Error())

			h.r.live = unreadable{h.api, "c", err}
			h.reconcile("m-infra")
			require.Empty(t, h.calls, "whether the Cluster is paused is not known")

			h.r.live = h.api
			h.reconcile("m-infra")
			require.Equal(t, []string{"release m-infra"}, h.calls)
		})
	}
}

func TestRelease_HoldsForOwnerOfUnknownKind(t *testing.T) {
	t.Parallel()
	h := harnessOf(t, machines, doomed(func(obj client.Object) {
		obj.SetOwnerReferences(append(obj.GetOwnerReferences(), metav1.OwnerReference{APIVersion: "example.org/v1", Kind: "Thing", Name: "t", UID: "u"}))
	}))
	h.reconcile("m-infra")
	require.Empty(t, h.calls)
	require.Equal(t, infrastructure.ReasonOwnerLookupFailed, condition(h.get(machines, "m-infra"), infrastructure.ConditionDeleting).Reason)
}

func TestRelease_ObjectWithoutMetalIsDeletedWhateverItsOwners(t *testing.T) {
	t.Parallel()
	objects := doomed(with(""))
	objects["machine"], objects["cluster"] = nil, nil
	h := harnessOf(t, machines, objects)
	h.reconcile("m-infra")
	require.Empty(t, h.calls)
	require.False(t, h.exists(machines, "m-infra"))
}

func TestRelease_SkipsMovedObject(t *testing.T) {
	t.Parallel()
	h := harnessOf(t, machines, doomed(annotated(infrastructure.DeleteForMoveAnnotation)))
	h.reconcile("m-infra")
	require.Empty(t, h.calls)
	require.True(t, h.exists(machines, "m-infra"))
}

func TestRelease_ControlPlaneMachineWaitsForLoadBalancers(t *testing.T) {
	t.Parallel()
	h := harnessOf(t, machines, doomed(func(obj client.Object) {
		obj.SetLabels(map[string]string{infrastructure.ClusterNameLabel: "c", infrastructure.ControlPlaneLabel: ""})
		obj.SetDeletionTimestamp(&metav1.Time{Time: time.Date(2026, 1, 1, 0, 0, -10, 0, time.UTC)})
	}))
	require.Equal(t, 20*time.Second, h.reconcile("m-infra").RequeueAfter, "from when it was deleted on")
	require.Empty(t, h.calls)
	require.Equal(t, infrastructure.ReasonWaitingForLoadBalancers, condition(h.get(machines, "m-infra"), infrastructure.ConditionDeleting).Reason)
	h.clock.Step(20 * time.Second)
	h.reconcile("m-infra")
	require.Equal(t, []string{"release m-infra"}, h.calls)
}

func TestRelease_LockedMachineHasTheMetalAPIsMessage(t *testing.T) {
	t.Parallel()
	h := harnessOf(t, machines, doomed())
	h.refuse = refusalOf("m-infra", "the metal-api says: machine is locked")
	h.reconcile("m-infra")
	require.True(t, h.exists(machines, "m-infra"))
	deleting := condition(h.get(machines, "m-infra"), infrastructure.ConditionDeleting)
	require.Equal(t, infrastructure.ReasonReleaseRefused, deleting.Reason)
	require.Equal(t, "the metal-api says: machine is locked", deleting.Message)
	require.Contains(t, strings.Join(h.takeEvents(), "\n"), "Warning ReleaseRefused the metal-api says: machine is locked")

	h.refuse = nil
	h.clock.Step(minBackoff)
	h.reconcile("m-infra")
	require.False(t, h.exists(machines, "m-infra"))
}

func TestRelease_SaysThatTheObjectWasMarkedBeforeTheTakeover(t *testing.T) {
	t.Parallel()
	h := harnessOf(t, machines, doomed())
	var refusal *apierrors.StatusError
	require.ErrorAs(t, refusalOf("m-infra", "its metal is kept"), &refusal)
	refusal.ErrStatus.Details = &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: infrastructure.ReasonMarkedBeforeTakeover, Field: "metadata.annotations[x]", Message: "its metal is kept"}}}
	h.refuse = refusal
	h.reconcile("m-infra")
	require.True(t, h.exists(machines, "m-infra"))
	require.Equal(t, infrastructure.ReasonMarkedBeforeTakeover, condition(h.get(machines, "m-infra"), infrastructure.ConditionDeleting).Reason)
	require.Contains(t, strings.Join(h.takeEvents(), "\n"), "Warning MarkedBeforeTakeover its metal is kept")
}

func TestClusterDeletion_SaysWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	cluster := infraCluster(deleted, withFirewallSpec("firewall-2")).(*v1alpha4.MetalStackCluster)
	h := newHarness(t, clusters, false, cluster, capiCluster(), infraMachine(with(v1alpha4.AllocationAllocated)), firewallOf(cluster, "f", home))
	deleting := func() metav1.Condition {
		return condition(h.get(clusters, "c-infra"), infrastructure.ConditionDeleting)
	}

	h.reconcile("c-infra")
	require.Equal(t, infrastructure.ReasonWaitingForMachines, deleting().Reason)
	require.Nil(t, h.get(firewalls, "f").GetDeletionTimestamp(), "machines still need it")

	require.NoError(t, client.IgnoreNotFound(h.drop(machines, "m-infra")))
	h.reconcile("c-infra")
	require.Equal(t, infrastructure.ReasonWaitingForFirewalls, deleting().Reason)
	require.NotNil(t, h.get(firewalls, "f").GetDeletionTimestamp())
	require.Empty(t, h.calls)

	require.NoError(t, client.IgnoreNotFound(h.drop(firewalls, "f")))
	h.reconcile("c-infra")
	require.Equal(t, []string{"release c-infra"}, h.calls)
	require.False(t, h.exists(clusters, "c-infra"))
}

func TestClusterDeletion_CountsMembersWithoutLabel(t *testing.T) {
	t.Parallel()
	m := infraMachine(with(v1alpha4.AllocationAllocated))
	m.SetLabels(nil)
	m.(*v1alpha4.MetalStackMachine).Status.Allocation.ClusterName = "c-infra"
	h := newHarness(t, clusters, false, infraCluster(deleted), capiCluster(), m)
	h.reconcile("c-infra")
	require.Empty(t, h.calls)
	require.True(t, h.exists(clusters, "c-infra"))
}

// unreadable is a server that does not answer about an object.
type unreadable struct {
	client.Client
	name string
	err  error
}

func (c unreadable) Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	if key.Name == c.name {
		return c.err
	}
	return c.Client.Get(ctx, key, obj, opts...)
}

func TestRollout_OneFirewallIsKeptAndReplaced(t *testing.T) {
	t.Parallel()
	h := newHarness(t, clusters, false, infraCluster(withFirewallSpec("firewall-1")), capiCluster())
	all := func() []v1alpha4.MetalStackFirewall {
		list := &v1alpha4.MetalStackFirewallList{}
		require.NoError(t, h.api.List(t.Context(), list))
		return list.Items
	}
	ready := func() string {
		return condition(h.get(clusters, "c-infra"), infrastructure.ConditionFirewallReady).Reason
	}
	h.reconcile("c-infra")
	require.Len(t, all(), 1)
	h.reconcile("c-infra")
	require.Len(t, all(), 1)
	require.Equal(t, infrastructure.ReasonFirewallProvisioning, ready())

	first := all()[0]
	first.UID, first.Finalizers = "uid-of-first", []string{infrastructure.FirewallFinalizer}
	home(&first)
	h.update(&first)
	h.reconcile("c-infra")
	require.Equal(t, infrastructure.ReasonPhonedHome, ready())

	cluster := h.get(clusters, "c-infra")
	withFirewallSpec("firewall-2")(cluster)
	h.update(cluster)
	h.reconcile("c-infra")
	h.reconcile("c-infra")
	require.Len(t, all(), 2)
	require.Equal(t, infrastructure.ReasonFirewallRollingOut, ready())
	for _, f := range all() {
		require.Nil(t, f.DeletionTimestamp, "the old one serves")
		if f.Name != first.Name {
			home(&f)
			h.update(&f)
		}
	}
	h.reconcile("c-infra")
	require.NotNil(t, h.get(firewalls, first.Name).GetDeletionTimestamp())
	require.Equal(t, infrastructure.ReasonPhonedHome, ready())
	recorded := strings.Join(h.takeEvents(), "\n")
	require.Equal(t, 2, strings.Count(recorded, EventFirewallCreated), recorded)
	require.Equal(t, 1, strings.Count(recorded, EventFirewallRetired), recorded)
}

func TestRollout_RefusedFirewallIsACondition(t *testing.T) {
	t.Parallel()
	h := newHarness(t, clusters, false, infraCluster(withFirewallSpec("firewall-1")), capiCluster())
	h.r.cached = uncreatable{h.api}
	require.NotZero(t, h.reconcile("c-infra").RequeueAfter)
	c := condition(h.get(clusters, "c-infra"), infrastructure.ConditionFirewallReady)
	require.Equal(t, infrastructure.ReasonFirewallCreationRefused, c.Reason)
	require.Contains(t, c.Message, "unsupported image")
}

type uncreatable struct{ client.Client }

func (uncreatable) Create(context.Context, client.Object, ...client.CreateOption) error {
	return refusalOf("f", "unsupported image")
}
