// SPDX-License-Identifier: Apache-2.0

package capi

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	bootstrapv1 "sigs.k8s.io/cluster-api/api/bootstrap/kubeadm/v1beta2"
	controlplanev1 "sigs.k8s.io/cluster-api/api/controlplane/kubeadm/v1beta2"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/framework"
)

const (
	// KubernetesVersion is what tenants order.
	KubernetesVersion = "v1.36.3"
	// Partition is where.
	Partition = "fra-01"
)

// Variables are what a tenant has to pass to the templates about the simulator's
// default data centre.
var Variables = map[string]string{
	"METAL_PARTITION":             Partition,
	"METAL_PUBLIC_NETWORK":        "internet-" + Partition,
	"FIREWALL_MACHINE_IMAGE":      "firewall-ubuntu-3.0",
	"FIREWALL_MACHINE_SIZE":       simulator.LargeSize,
	"CONTROL_PLANE_MACHINE_IMAGE": "ubuntu-24.04",
	"CONTROL_PLANE_MACHINE_SIZE":  simulator.SmallSize,
	"WORKER_MACHINE_IMAGE":        "ubuntu-24.04",
	"WORKER_MACHINE_SIZE":         simulator.SmallSize,
}

// RemediationTemplate refers to a MetalStackRemediationTemplate, for the variable
// WORKER_REMEDIATION_TEMPLATE.
func RemediationTemplate(name string) string {
	return fmt.Sprintf("{apiVersion: %s, kind: MetalStackRemediationTemplate, name: %s}", v1alpha4.SchemeGroupVersion, name)
}

// Scheme knows the kinds of Cluster API and ours.
var Scheme = func() *runtime.Scheme {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, clusterv1.AddToScheme, bootstrapv1.AddToScheme, controlplanev1.AddToScheme, v1alpha4.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			panic(err)
		}
	}
	return scheme
}()

// Order is a cluster that a tenant wants.
type Order struct {
	Namespace, Name, Flavor string
	ControlPlane, Workers   int
	// Variables are added to the usual ones, and win over them.
	Variables map[string]string
}

// Generate has clusterctl make the objects of an order.
func (m *Management) Generate(t testing.TB, o Order) string {
	t.Helper()
	variables := maps.Clone(Variables)
	maps.Copy(variables, o.Variables)
	args := []string{
		"generate", "cluster", o.Name, "--target-namespace", o.Namespace, "--infrastructure", "metal-stack:" + Version,
		"--kubernetes-version", KubernetesVersion,
		"--control-plane-machine-count", fmt.Sprint(o.ControlPlane), "--worker-machine-count", fmt.Sprint(o.Workers),
	}
	if o.Flavor != "" {
		args = append(args, "--flavor", o.Flavor)
	}
	out, err := m.TryClusterctl(t, variables, args...)
	require.NoError(t, err)
	return out
}

// Tenant is a cluster that was ordered.
type Tenant struct {
	// Key names the Cluster.
	Key types.NamespacedName
	// Client is an administrator's, of the management cluster.
	Client client.Client

	m *Management
}

// Order generates and applies a cluster, and does not wait for it.
func (m *Management) Order(t testing.TB, o Order) *Tenant {
	t.Helper()
	require.NoError(t, m.Apply(t.Context(), m.Generate(t, o)))
	return m.Tenant(t, o.Namespace, o.Name)
}

// Tenant is a cluster that is there.
func (m *Management) Tenant(t testing.TB, namespace, name string) *Tenant {
	t.Helper()
	c, err := client.New(m.plane.Admin(), client.Options{Scheme: Scheme})
	require.NoError(t, err)
	return &Tenant{Key: types.NamespacedName{Namespace: namespace, Name: name}, Client: c, m: m}
}

// Cluster reads the Cluster.
func (tenant *Tenant) Cluster(ctx context.Context) (*clusterv1.Cluster, error) {
	cluster := &clusterv1.Cluster{}
	return cluster, tenant.Client.Get(ctx, tenant.Key, cluster)
}

// Machines lists the Machines of the control plane, or the workers.
func (tenant *Tenant) Machines(ctx context.Context, controlPlane bool) ([]clusterv1.Machine, error) {
	list := &clusterv1.MachineList{}
	if err := tenant.Client.List(ctx, list, tenant.mine(), client.InNamespace(tenant.Key.Namespace)); err != nil {
		return nil, err
	}
	var found []clusterv1.Machine
	for _, machine := range list.Items {
		if _, has := machine.Labels[clusterv1.MachineControlPlaneLabel]; has == controlPlane {
			found = append(found, machine)
		}
	}
	return found, nil
}

// Hardware lists the MetalStackMachines.
func (tenant *Tenant) Hardware(ctx context.Context) ([]v1alpha4.MetalStackMachine, error) {
	list := &v1alpha4.MetalStackMachineList{}
	err := tenant.Client.List(ctx, list, tenant.mine(), client.InNamespace(tenant.Key.Namespace))
	return list.Items, err
}

// mine selects what has the cluster's label.
func (tenant *Tenant) mine() client.MatchingLabels {
	return client.MatchingLabels{clusterv1.ClusterNameLabel: tenant.Key.Name}
}

// AwaitMachines waits until there are exactly so many Machines, and all run.
func (tenant *Tenant) AwaitMachines(t testing.TB, limit time.Duration, controlPlane, workers int) {
	t.Helper()
	framework.Eventually(t, limit, func(ctx context.Context) error {
		var short []string
		for _, want := range []struct {
			what         string
			controlPlane bool
			number       int
		}{{"control plane", true, controlPlane}, {"workers", false, workers}} {
			machines, err := tenant.Machines(ctx, want.controlPlane)
			if err != nil {
				return err
			}
			if len(machines) != want.number {
				short = append(short, fmt.Sprintf("%s: %d of %d Machines", want.what, len(machines), want.number))
			}
			for _, machine := range machines {
				if machine.Status.Phase != string(clusterv1.MachinePhaseRunning) || machine.DeletionTimestamp != nil {
					short = append(short, describe(&machine))
				}
			}
		}
		if len(short) > 0 {
			return fmt.Errorf("%s", strings.Join(short, "\n"))
		}
		return nil
	})
}

// describe is a Machine's state in words.
func describe(machine *clusterv1.Machine) string {
	text := fmt.Sprintf("%s: %s", machine.Name, machine.Status.Phase)
	for _, c := range machine.Status.Conditions {
		if c.Status != metav1.ConditionTrue && c.Message != "" && (c.Type == clusterv1.MachineInfrastructureReadyCondition || c.Type == clusterv1.MachineBootstrapConfigReadyCondition || c.Type == clusterv1.MachineNodeReadyCondition || c.Type == clusterv1.MachineDeletingCondition) {
			text += fmt.Sprintf("; %s: %s", c.Type, strings.ReplaceAll(c.Message, "\n", " "))
		}
	}
	return text
}

// Scale has another number of workers.
func (tenant *Tenant) Scale(t testing.TB, workers int32) {
	t.Helper()
	md := &clusterv1.MachineDeployment{ObjectMeta: metav1.ObjectMeta{Namespace: tenant.Key.Namespace, Name: tenant.Key.Name + "-md-0"}}
	require.NoError(t, tenant.Client.Patch(t.Context(), md, client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, workers))))
}

// Delete deletes the cluster, and waits until it is gone.
func (tenant *Tenant) Delete(t testing.TB, limit time.Duration) {
	t.Helper()
	doomed := &clusterv1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: tenant.Key.Namespace, Name: tenant.Key.Name}}
	require.NoError(t, tenant.Client.Delete(t.Context(), doomed))
	framework.Eventually(t, limit, func(ctx context.Context) error {
		err := tenant.Client.Get(ctx, tenant.Key, doomed)
		if client.IgnoreNotFound(err) == nil && err != nil {
			return nil
		}
		return fmt.Errorf("cluster %s is still there (%v): %s%s", tenant.Key, err, standing(doomed.Status.Conditions), tenant.left(ctx))
	})
}

// left returns what there is of a cluster yet, but for its Cluster.
func (tenant *Tenant) left(ctx context.Context) string {
	var text strings.Builder
	for _, list := range []client.ObjectList{
		&clusterv1.MachineList{}, &controlplanev1.KubeadmControlPlaneList{},
		&v1alpha4.MetalStackClusterList{}, &v1alpha4.MetalStackFirewallList{}, &v1alpha4.MetalStackMachineList{},
	} {
		if err := tenant.Client.List(ctx, list, tenant.mine(), client.InNamespace(tenant.Key.Namespace)); err != nil {
			fmt.Fprintf(&text, "\n%T: %v", list, err)
			continue
		}
		_ = meta.EachListItem(list, func(item runtime.Object) error {
			obj := item.(client.Object)
			fmt.Fprintf(&text, "\n%T %s: deleted %v, finalizers %v", obj, obj.GetName(), obj.GetDeletionTimestamp(), obj.GetFinalizers())
			if conditioned, ok := obj.(interface{ GetConditions() []metav1.Condition }); ok {
				text.WriteString("; " + standing(conditioned.GetConditions()))
			}
			return nil
		})
	}
	return text.String()
}

// standing is what an object says about its deletion, or of how it is.
func standing(conditions []metav1.Condition) string {
	for _, of := range []string{clusterv1.DeletingCondition, clusterv1.ReadyCondition} {
		if said := meta.FindStatusCondition(conditions, of); said != nil {
			return fmt.Sprintf("%s, %s: %s", of, said.Reason, said.Message)
		}
	}
	return ""
}
