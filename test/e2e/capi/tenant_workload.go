// SPDX-License-Identifier: Apache-2.0

package capi

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/test/framework"
)

// Workload is the workload cluster, which has a control plane by now.
func (tenant *Tenant) Workload(t testing.TB) *Workload {
	t.Helper()
	cluster, err := tenant.Cluster(t.Context())
	require.NoError(t, err)
	workload, err := tenant.m.Site.Workload(fmt.Sprintf("%s:%d", cluster.Spec.ControlPlaneEndpoint.Host, cluster.Spec.ControlPlaneEndpoint.Port))
	require.NoError(t, err)
	return workload
}

// Infrastructure is the cluster's MetalStackCluster.
func (tenant *Tenant) Infrastructure(ctx context.Context) (*v1alpha4.MetalStackCluster, error) {
	cluster, err := tenant.Cluster(ctx)
	if err != nil {
		return nil, err
	}
	infra := &v1alpha4.MetalStackCluster{}
	return infra, tenant.Client.Get(ctx, types.NamespacedName{Namespace: tenant.Key.Namespace, Name: cluster.Spec.InfrastructureRef.Name}, infra)
}

// CreateService makes a Service of type LoadBalancer in the namespace default. It asks for
// an address, unless that is empty.
func (w *Workload) CreateService(t testing.TB, name, address string) {
	t.Helper()
	_, err := w.c.client.CoreV1().Services(metav1.NamespaceDefault).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, LoadBalancerIP: address, Ports: []corev1.ServicePort{{Port: 80}},
		},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
}

// AwaitServiceAddress waits until a Service has its address.
func (w *Workload) AwaitServiceAddress(t testing.TB, limit time.Duration, name string) (address string) {
	t.Helper()
	framework.Eventually(t, limit, func(ctx context.Context) error {
		service, err := w.c.client.CoreV1().Services(metav1.NamespaceDefault).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if len(service.Status.LoadBalancer.Ingress) != 1 {
			return fmt.Errorf("service %s has the addresses %v", name, service.Status.LoadBalancer.Ingress)
		}
		address = service.Status.LoadBalancer.Ingress[0].IP
		return nil
	})
	return address
}

// DeleteService deletes a Service, and waits until its address is given up.
func (w *Workload) DeleteService(t testing.TB, limit time.Duration, name string) {
	t.Helper()
	services := w.c.client.CoreV1().Services(metav1.NamespaceDefault)
	require.NoError(t, services.Delete(t.Context(), name, metav1.DeleteOptions{}))
	framework.Eventually(t, limit, func(ctx context.Context) error {
		service, err := services.Get(ctx, name, metav1.GetOptions{})
		if client.IgnoreNotFound(err) == nil && err != nil {
			return nil
		}
		return fmt.Errorf("service %s is still there (%v): %v", name, err, service.Finalizers)
	})
}

// AwaitNodeLabels puts the clock forward by the minute after which metal-ccm makes labels
// of machines' tags, and waits until all Nodes have them.
func (tenant *Tenant) AwaitNodeLabels(t testing.TB, limit time.Duration) {
	t.Helper()
	w := tenant.Workload(t)
	infra, err := tenant.Infrastructure(t.Context())
	require.NoError(t, err)
	tenant.m.Site.Later(time.Minute)
	framework.Eventually(t, limit, func(ctx context.Context) error {
		nodes, err := w.c.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for i := range nodes.Items {
			node := &nodes.Items[i]
			if node.Labels["machine.metal-stack.io/network.primary.asn"] == "" || node.Labels["cluster.metal-stack.io/id"] != infra.Status.ClusterID ||
				node.Labels[corev1.LabelTopologyZone] != Partition {
				return fmt.Errorf("node %s has the labels %v", node.Name, node.Labels)
			}
		}
		return nil
	})
}

// RestartMetalCCM waits until the workload cluster has the access to the metal-api that the
// management cluster gives it now, and restarts metal-ccm, as kubectl rollout restart does.
func (tenant *Tenant) RestartMetalCCM(t testing.TB, limit time.Duration) {
	t.Helper()
	w := tenant.Workload(t)
	framework.Eventually(t, limit, func(ctx context.Context) error { return tenant.checkAccess(ctx, w) })
	patch := fmt.Appendf(nil, `{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":%q}}}}}`, time.Now().Format(time.RFC3339Nano))
	_, err := w.c.client.AppsV1().Deployments(metav1.NamespaceSystem).Patch(t.Context(), metalCCM, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	require.NoError(t, err)
}

// checkAccess returns an error unless the workload cluster has a token of the service
// account that is there now, and all else that the management cluster has for it.
func (tenant *Tenant) checkAccess(ctx context.Context, w *Workload) error {
	infra, err := tenant.Infrastructure(ctx)
	if err != nil {
		return err
	}
	read := func(name string, into client.Object) error {
		return tenant.Client.Get(ctx, types.NamespacedName{Namespace: tenant.Key.Namespace, Name: name}, into)
	}
	account, token, config := &corev1.ServiceAccount{}, &corev1.Secret{}, &corev1.Secret{}
	for name, object := range map[string]client.Object{
		infra.Name + "-metalapi": account, infra.Name + "-metalapi-token": token, tenant.Key.Name + "-metal-ccm": config,
	} {
		if err := read(name, object); err != nil {
			return err
		}
	}
	if token.Annotations[corev1.ServiceAccountUIDKey] != string(account.UID) || len(token.Data[corev1.ServiceAccountTokenKey]) == 0 {
		return fmt.Errorf("%s has no token of its service account", token.Name)
	}
	wanted := &corev1.Secret{}
	if err := yaml.Unmarshal(config.Data["metal-ccm.yaml"], wanted); err != nil {
		return err
	}
	if wanted.StringData["token"] != string(token.Data[corev1.ServiceAccountTokenKey]) {
		return fmt.Errorf("%s has another token than %s", config.Name, token.Name)
	}
	delivered, err := w.c.client.CoreV1().Secrets(wanted.Namespace).Get(ctx, wanted.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for key, value := range wanted.StringData {
		if string(delivered.Data[key]) != value {
			return fmt.Errorf("the workload cluster has another %s than the management cluster says", key)
		}
	}
	return nil
}
