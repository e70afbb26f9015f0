// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// Cluster API's objects, as its controllers leave them when everything is
// there: Cluster c with MetalStackCluster c-infra, and Machine m with
// MetalStackMachine m-infra.
const secretData = "#cloud-config\n# token: very-secret"

func capiCluster(changes ...func(*clusterv1.Cluster)) *clusterv1.Cluster {
	c := &clusterv1.Cluster{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "c", UID: "uid-of-cluster", Finalizers: []string{clusterv1.ClusterFinalizer}},
		Spec: clusterv1.ClusterSpec{InfrastructureRef: clusterv1.ContractVersionedObjectReference{
			APIGroup: v1alpha4.GroupName, Kind: "MetalStackCluster", Name: "c-infra",
		}},
	}
	c.Status.Initialization.InfrastructureProvisioned = ptr.To(true)
	for _, change := range changes {
		change(c)
	}
	return c
}

func capiMachine(changes ...func(*clusterv1.Machine)) *clusterv1.Machine {
	m := &clusterv1.Machine{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "m", UID: "uid-of-machine", Finalizers: []string{clusterv1.MachineFinalizer}},
		Spec: clusterv1.MachineSpec{
			ClusterName:       "c",
			Bootstrap:         clusterv1.Bootstrap{DataSecretName: ptr.To("m-bootstrap")},
			InfrastructureRef: clusterv1.ContractVersionedObjectReference{APIGroup: v1alpha4.GroupName, Kind: "MetalStackMachine", Name: "m-infra"},
		},
	}
	for _, change := range changes {
		change(m)
	}
	return m
}

func bootstrapSecret(data map[string]string) *corev1.Secret {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "m-bootstrap"}, Data: map[string][]byte{}}
	for key, value := range data {
		s.Data[key] = []byte(value)
	}
	return s
}

func infraCluster(changes ...func(client.Object)) metalObject {
	return object(clusters, "c-infra", append([]func(client.Object){of("c"), ownedBy("Cluster", "c", "uid-of-cluster"), with(v1alpha4.AllocationAllocated)}, changes...)...)
}

func infraMachine(changes ...func(client.Object)) metalObject {
	return object(machines, "m-infra", append([]func(client.Object){of("c"), ownedBy("Machine", "m", "uid-of-machine")}, changes...)...)
}

func ownedBy(kind, name string, uid types.UID) func(client.Object) {
	return func(obj client.Object) {
		obj.SetOwnerReferences(append(obj.GetOwnerReferences(), metav1.OwnerReference{
			APIVersion: clusterv1.GroupVersion.String(), Kind: kind, Name: name, UID: uid, Controller: ptr.To(kind == "Machine"),
		}))
	}
}

// everything is what a machine needs to be allocated.
func everything() map[string]client.Object {
	return map[string]client.Object{
		"cluster": capiCluster(), "machine": capiMachine(), "infra": infraCluster(), "obj": infraMachine(),
		"secret": bootstrapSecret(map[string]string{"value": secretData, "format": "cloud-config"}),
	}
}

func harnessOf(t *testing.T, k kind, objects map[string]client.Object) *harness {
	t.Helper()
	var all []client.Object
	for _, obj := range objects {
		if obj != nil {
			all = append(all, obj)
		}
	}
	return newHarness(t, k, false, all...)
}

func condition(obj metalObject, kind string) metav1.Condition {
	if c := meta.FindStatusCondition(obj.GetConditions(), kind); c != nil {
		return *c
	}
	return metav1.Condition{}
}

func TestAllocate_UsesBootstrapDataOfTheMachine(t *testing.T) {
	t.Parallel()
	h := harnessOf(t, machines, everything())
	h.reconcile("m-infra")
	require.Equal(t, []string{"allocate m-infra"}, h.calls)
	require.Equal(t, secretData, string(h.requests[0].UserData))
	require.Equal(t, "c-infra", h.requests[0].ClusterRef.Name, "the MetalStackCluster that the Cluster names, whatever its name")
	m := h.get(machines, "m-infra").(*v1alpha4.MetalStackMachine)
	require.Equal(t, &v1alpha4.SecretReference{Name: "m-bootstrap"}, m.Spec.UserData)
	require.Equal(t, infrastructure.ReasonNotPaused, condition(m, infrastructure.ConditionPaused).Reason)
}

func TestAllocate_MachineWaitsForEachPrerequisite(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(map[string]client.Object)
		reason string
		says   string
	}{
		"no owner": {
			func(o map[string]client.Object) { o["obj"].SetOwnerReferences(nil) },
			infrastructure.ReasonWaitingForOwner, "No Machine owns",
		},
		"owner that is not there": {
			func(o map[string]client.Object) { o["machine"] = nil },
			infrastructure.ReasonWaitingForOwner, "No Machine owns",
		},
		"another Machine of the owner's name": {
			func(o map[string]client.Object) { o["machine"].SetUID("another") },
			infrastructure.ReasonWaitingForOwner, "No Machine owns",
		},
		"Machine that is being deleted": {
			func(o map[string]client.Object) { deleted(o["machine"]) },
			infrastructure.ReasonWaitingForOwner, "Machine m is being deleted",
		},
		"no Cluster": {
			func(o map[string]client.Object) { o["cluster"] = nil },
			infrastructure.ReasonWaitingForClusterInfrastructure, "Cluster c not found",
		},
		"Cluster that is being deleted": {
			func(o map[string]client.Object) { deleted(o["cluster"]) },
			infrastructure.ReasonWaitingForClusterInfrastructure, "Cluster c is being deleted",
		},
		"infrastructure that is not provisioned": {
			func(o map[string]client.Object) {
				o["cluster"].(*clusterv1.Cluster).Status.Initialization.InfrastructureProvisioned = nil
			},
			infrastructure.ReasonWaitingForClusterInfrastructure, "infrastructureProvisioned",
		},
		"no MetalStackCluster": {
			func(o map[string]client.Object) { o["infra"] = nil },
			infrastructure.ReasonWaitingForClusterInfrastructure, "MetalStackCluster c-infra not found",
		},
		"no network": {
			func(o map[string]client.Object) { with(v1alpha4.AllocationAllocating)(o["infra"]) },
			infrastructure.ReasonWaitingForClusterInfrastructure, "network of MetalStackCluster c-infra is not allocated yet",
		},
		"no firewall that has phoned home": {
			func(o map[string]client.Object) {
				o["infra"].(*v1alpha4.MetalStackCluster).Spec.FirewallSpec = &v1alpha4.MetalStackFirewallSpec{Image: "i"}
			},
			infrastructure.ReasonWaitingForFirewall, "No firewall of MetalStackCluster c-infra",
		},
		"no bootstrap data": {
			func(o map[string]client.Object) {
				o["machine"].(*clusterv1.Machine).Spec.Bootstrap.DataSecretName = nil
			},
			infrastructure.ReasonWaitingForBootstrapData, "dataSecretName",
		},
		"no Secret": {
			func(o map[string]client.Object) { o["secret"] = nil },
			infrastructure.ReasonWaitingForBootstrapData, "Secret m-bootstrap, the bootstrap data of Machine m, not found",
		},
		"empty Secret": {
			func(o map[string]client.Object) { o["secret"] = bootstrapSecret(nil) },
			infrastructure.ReasonBootstrapDataInvalid, `"value"`,
		},
		"format that no image boots with": {
			func(o map[string]client.Object) {
				o["secret"] = bootstrapSecret(map[string]string{"value": secretData, "format": "talos"})
			},
			infrastructure.ReasonBootstrapDataInvalid, "talos",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			objects := everything()
			c.change(objects)
			h := harnessOf(t, machines, objects)
			result := h.reconcile("m-infra")
			require.Empty(t, h.calls)
			require.NotZero(t, result.RequeueAfter, "it looks again even if no event comes")
			allocated := condition(h.get(machines, "m-infra"), infrastructure.ConditionAllocated)
			require.Equal(t, metav1.ConditionFalse, allocated.Status)
			require.Equal(t, c.reason, allocated.Reason)
			require.Contains(t, allocated.Message, c.says)

			recorded := slices.DeleteFunc(h.takeEvents(), func(event string) bool { return strings.Contains(event, EventUserDataSet) })
			require.Len(t, recorded, 1)
			require.Contains(t, recorded[0], c.reason)
			require.Contains(t, recorded[0], c.says)
			h.reconcile("m-infra")
			require.Empty(t, h.takeEvents(), "what is waited for is recorded once")
		})
	}
}

func TestWaitForFirewall_OnePhonedHomeIsEnough(t *testing.T) {
	t.Parallel()
	objects := everything()
	infra := objects["infra"].(*v1alpha4.MetalStackCluster)
	infra.Spec.FirewallSpec = &v1alpha4.MetalStackFirewallSpec{Image: "i"}
	objects["firewall"] = firewallOf(infra, "f", silent)
	h := harnessOf(t, machines, objects)
	h.reconcile("m-infra")
	require.Equal(t, []string{"allocate m-infra"}, h.calls)
}

func TestUserData_AreInNoEventConditionOrObject(t *testing.T) {
	t.Parallel()
	h := harnessOf(t, machines, everything())
	h.reconcile("m-infra")
	h.reconcile("m-infra")
	require.NotContains(t, strings.Join(h.takeEvents(), "\n"), "very-secret")
	written, err := jsonOf(h.get(machines, "m-infra"))
	require.NoError(t, err)
	require.NotContains(t, written, "very-secret")
}

func TestSyncSpec_FailureDomainIsThePartition(t *testing.T) {
	t.Parallel()
	objects := everything()
	objects["machine"].(*clusterv1.Machine).Spec.FailureDomain = "fra-02"
	objects["obj"].(*v1alpha4.MetalStackMachine).Spec.Partition = "fra-01"
	h := harnessOf(t, machines, objects)
	h.reconcile("m-infra")
	require.Equal(t, []string{"allocate m-infra"}, h.calls)
	require.Equal(t, "fra-02", h.get(machines, "m-infra").(*v1alpha4.MetalStackMachine).Spec.Partition)
	require.Contains(t, strings.Join(h.takeEvents(), "\n"), EventPartitionSet)
}

func TestBootstrapData_WaitsWhileTheSecretMayNotBeRead(t *testing.T) {
	t.Parallel()
	h := harnessOf(t, machines, everything())
	allowed := false
	h.r.live = interceptor.NewClient(h.api.(client.WithWatch), interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			if _, isSecret := obj.(*corev1.Secret); isSecret && !allowed {
				return apierrors.NewForbidden(corev1.Resource("secrets"), key.Name, errors.New("no RoleBinding"))
			}
			return c.Get(ctx, key, obj, opts...)
		},
	})
	result := h.reconcile("m-infra")
	require.Empty(t, h.calls)
	require.LessOrEqual(t, result.RequeueAfter, 10*time.Second)
	require.NotZero(t, result.RequeueAfter)
	allocated := condition(h.get(machines, "m-infra"), infrastructure.ConditionAllocated)
	require.Equal(t, metav1.ConditionFalse, allocated.Status)
	require.Equal(t, infrastructure.ReasonWaitingForBootstrapData, allocated.Reason)
	require.Contains(t, allocated.Message, "Secret m-bootstrap cannot be read yet")
	require.Contains(t, allocated.Message, "RoleBinding metalstack-bootstrap-data")

	allowed = true
	h.clock.Step(result.RequeueAfter)
	h.reconcile("m-infra")
	require.Equal(t, []string{"allocate m-infra"}, h.calls)
}

func TestBootstrapData_SecretOfAnotherNamespaceIsNeverRead(t *testing.T) {
	t.Parallel()
	objects := everything()
	objects["obj"].(*v1alpha4.MetalStackMachine).Spec.UserData = &v1alpha4.SecretReference{Name: "m-bootstrap", Namespace: "victim"}
	stolen := bootstrapSecret(map[string]string{"value": "stolen"})
	stolen.Namespace = "victim"
	objects["stolen"] = stolen
	h := harnessOf(t, machines, objects)
	h.reconcile("m-infra")
	require.Equal(t, secretData, string(h.requests[0].UserData))
	require.Equal(t, &v1alpha4.SecretReference{Name: "m-bootstrap"}, h.get(machines, "m-infra").(*v1alpha4.MetalStackMachine).Spec.UserData)
}

func TestAllocate_MachineOfAnotherProvidersClusterHasNoClusterRef(t *testing.T) {
	t.Parallel()
	objects := everything()
	objects["cluster"].(*clusterv1.Cluster).Spec.InfrastructureRef.Kind = "DockerCluster"
	h := harnessOf(t, machines, objects)
	h.reconcile("m-infra")
	require.Equal(t, []string{"allocate m-infra"}, h.calls)
	require.Nil(t, h.requests[0].ClusterRef)
}

func TestAllocate_ClusterWaitsForItsOwner(t *testing.T) {
	t.Parallel()
	h := newHarness(t, clusters, false, object(clusters, "c-infra", of("c")), capiCluster())
	h.reconcile("c-infra")
	require.Empty(t, h.calls)
	require.Equal(t, infrastructure.ReasonWaitingForOwner, condition(h.get(clusters, "c-infra"), infrastructure.ConditionAllocated).Reason)

	obj := h.get(clusters, "c-infra")
	ownedBy("Cluster", "c", "uid-of-cluster")(obj)
	h.update(obj)
	h.reconcile("c-infra")
	require.Equal(t, []string{"allocate c-infra"}, h.calls)
}

func TestPaused_NothingIsDone(t *testing.T) {
	t.Parallel()
	pausedCluster := func(c *clusterv1.Cluster) { c.Spec.Paused = ptr.To(true) }
	for name, c := range map[string]struct {
		cluster func(*clusterv1.Cluster)
		object  func(client.Object)
		says    string
	}{
		"Cluster": {pausedCluster, func(client.Object) {}, "Cluster spec.paused"},
		"object":  {func(*clusterv1.Cluster) {}, annotated(infrastructure.PausedAnnotation), "annotation"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, k := range []kind{clusters, machines, firewalls} {
				h := newHarness(t, k, false, capiCluster(c.cluster), capiMachine(), bootstrapSecret(map[string]string{"value": "x"}),
					object(k, "new", of("c"), ownedBy("Machine", "m", "uid-of-machine"), c.object),
					object(k, "old", of("c"), ownedBy("Machine", "m", "uid-of-machine"), c.object, with(v1alpha4.AllocationAllocated), deleted))
				h.reconcile("new")
				h.reconcile("old")
				require.Empty(t, h.calls, k.name)
				for _, name := range []string{"new", "old"} {
					paused := condition(h.get(k, name), infrastructure.ConditionPaused)
					require.Equal(t, metav1.ConditionTrue, paused.Status)
					require.Equal(t, infrastructure.ReasonPaused, paused.Reason)
					require.Contains(t, paused.Message, c.says)
				}
			}
		})
	}
}

func TestPaused_EndIsACondition(t *testing.T) {
	t.Parallel()
	objects := everything()
	objects["cluster"] = capiCluster(func(c *clusterv1.Cluster) { c.Spec.Paused = ptr.To(true) })
	h := harnessOf(t, machines, objects)
	h.reconcile("m-infra")
	cluster := &clusterv1.Cluster{}
	require.NoError(t, h.api.Get(t.Context(), types.NamespacedName{Namespace: namespace, Name: "c"}, cluster))
	cluster.Spec.Paused = nil
	require.NoError(t, h.api.Update(t.Context(), cluster))
	h.reconcile("m-infra")
	require.Equal(t, []string{"allocate m-infra"}, h.calls)
	paused := condition(h.get(machines, "m-infra"), infrastructure.ConditionPaused)
	require.Equal(t, metav1.ConditionFalse, paused.Status)
	require.Equal(t, infrastructure.ReasonNotPaused, paused.Reason)
}

func TestEvents_RefusalIsRecordedOnceInTheServersWords(t *testing.T) {
	t.Parallel()
	h := harnessOf(t, machines, everything())
	h.refuse = refusalOf("m-infra", "the metal-api says: no machine of size v1-small-x86 is left")
	for range 3 {
		h.reconcile("m-infra")
		h.clock.Step(maxBackoff)
	}
	require.Len(t, h.calls, 3)
	recorded := strings.Join(h.takeEvents(), "\n")
	require.Equal(t, 1, strings.Count(recorded, EventAllocationRefused), recorded)
	require.Contains(t, recorded, "the metal-api says: no machine of size v1-small-x86 is left")
	require.Equal(t, 1, strings.Count(recorded, EventAllocating+" "), recorded)
}

func TestEvents_RefusalIsNotRepeatedForOtherNumbers(t *testing.T) {
	t.Parallel()
	h := harnessOf(t, machines, everything())
	refusals := func(message string) int {
		h.refuse = refusalOf("m-infra", message)
		h.reconcile("m-infra")
		h.clock.Step(maxBackoff)
		return strings.Count(strings.Join(h.takeEvents(), "\n"), EventAllocationRefused)
	}
	require.Equal(t, 1, refusals("no machine available: 0 of 12 v1-small-x86 in fra-01 are available (free: 3, reserved for other projects: 3)"))
	require.Zero(t, refusals("no machine available: 0 of 13 v1-small-x86 in fra-01 are available (free: 4, reserved for other projects: 4)"))
	require.Equal(t, 1, refusals("no machine available: 0 of 13 v1-small-x86 in fra-02 are available (free: 4, reserved for other projects: 4)"), "another partition")
	require.Equal(t, 1, refusals(`image "ubuntu-24.04" not found`))
	require.Equal(t, 1, refusals(`image "ubuntu-24.10" not found`), "another image")
}

func TestEvents_RefusedFieldsAreNamedInOneSentence(t *testing.T) {
	t.Parallel()
	spec := field.NewPath("spec")
	for name, c := range map[string]struct {
		answer error
		want   string
	}{
		"a field": {
			refusalsOf("m-infra", field.Invalid(spec.Child("image"), "ubuntu-99", "refused by the metal-api: no image")),
			`Warning AllocationRefused spec.image: Invalid value: "ubuntu-99": refused by the metal-api: no image`,
		},
		"two fields": {
			refusalsOf("m-infra", field.Required(spec.Child("networks"), "must be set"), field.Forbidden(spec.Child("tags").Index(0), "is reserved")),
			"Warning AllocationRefused spec.networks: Required value: must be set; spec.tags[0]: Forbidden: is reserved",
		},
		"no field": {
			refusalsOf("m-infra", field.Forbidden(spec, "refused by the metal-api: no machine available")),
			"Warning AllocationRefused refused by the metal-api: no machine available",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := harnessOf(t, machines, everything())
			h.refuse = c.answer
			h.reconcile("m-infra")
			require.Contains(t, h.takeEvents(), c.want)
		})
	}
}

func TestAllocate_WaitsForTheServersBackoffAfterARefusal(t *testing.T) {
	t.Parallel()
	objects := everything()
	notBefore(time.Date(2026, 1, 1, 0, 0, 7, 0, time.UTC))(objects["obj"])
	objects["obj"].(*v1alpha4.MetalStackMachine).Status.Allocation.Phase = ""
	h := harnessOf(t, machines, objects)
	require.Equal(t, 7*time.Second, h.reconcile("m-infra").RequeueAfter)
	require.Empty(t, h.calls)
}
