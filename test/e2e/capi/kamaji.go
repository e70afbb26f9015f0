// SPDX-License-Identifier: Apache-2.0

package capi

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"metal-stack.io/infrastructure-apiserver/pkg/pki"
	"metal-stack.io/infrastructure-apiserver/test/framework/controlplane"
)

// kamajiComponents are what Kamaji's control-plane provider installs, as far as a played
// one needs it, with the rights that it asks for.
const kamajiComponents = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: kamajicontrolplanes.controlplane.cluster.x-k8s.io
  labels: {cluster.x-k8s.io/v1beta2: v1alpha2}
spec:
  group: controlplane.cluster.x-k8s.io
  names: {kind: KamajiControlPlane, listKind: KamajiControlPlaneList, plural: kamajicontrolplanes, singular: kamajicontrolplane}
  scope: Namespaced
  versions:
  - name: v1alpha2
    served: true
    storage: true
    subresources: {status: {}}
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: kamaji-manager}
rules:
- {apiGroups: [""], resources: [secrets], verbs: [create, get, list, patch, update, watch]}
- {apiGroups: [cluster.x-k8s.io], resources: [clusters], verbs: [get, list, watch]}
- {apiGroups: [controlplane.cluster.x-k8s.io], resources: [kamajicontrolplanes], verbs: [create, delete, get, list, patch, update, watch]}
- {apiGroups: [controlplane.cluster.x-k8s.io], resources: [kamajicontrolplanes/finalizers], verbs: [update]}
- {apiGroups: [controlplane.cluster.x-k8s.io], resources: [kamajicontrolplanes/status], verbs: [get, patch, update]}
- {apiGroups: [infrastructure.cluster.x-k8s.io], resources: [metal3clusters, metalstackclusters], verbs: [get, list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: kamaji-manager}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: kamaji-manager}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: User, name: kamaji}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: capi-kamaji}
rules:
- {apiGroups: [controlplane.cluster.x-k8s.io], resources: [kamajicontrolplanes], verbs: [get, list, patch, update, watch]}
- {apiGroups: [controlplane.cluster.x-k8s.io], resources: [kamajicontrolplanes/finalizers], verbs: [update]}
- {apiGroups: [controlplane.cluster.x-k8s.io], resources: [kamajicontrolplanes/status], verbs: [get, patch, update]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: capi-kamaji}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: capi-kamaji}
subjects:
- {kind: ServiceAccount, namespace: capi-system, name: capi-manager}
- {kind: ServiceAccount, namespace: capi-kubeadm-bootstrap-system, name: capi-kubeadm-bootstrap-manager}
`

// kamaji plays Kamaji and its control-plane provider for one KamajiControlPlane: it runs
// a control plane at an address of the management cluster's load balancer.
type kamaji struct {
	// Client has the provider's rights.
	client.Client

	site     *Site
	key      types.NamespacedName
	endpoint string

	authority pki.Pair
	workload  *workload

	mu sync.Mutex
	// last is why the control plane is not ready.
	last error
}

// installKamaji installs it, and returns the one of a control plane.
func installKamaji(t *testing.T, m *Management, key types.NamespacedName, endpoint string) *kamaji {
	t.Helper()
	require.NoError(t, m.Apply(t.Context(), kamajiComponents))
	c, err := client.New(m.plane.User("kamaji"), client.Options{Scheme: Scheme})
	require.NoError(t, err)
	k := &kamaji{Client: c, site: m.Site, key: key, endpoint: endpoint, last: errors.New("not started")}
	k.authority, err = pki.NewAuthority("kubernetes", time.Now(), 24*time.Hour)
	require.NoError(t, err)
	return k
}

// run reconciles until the test ends, and then stops the control plane.
func (k *kamaji) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for tick := time.NewTicker(lookEvery); ; {
			err := k.reconcile(ctx)
			k.mu.Lock()
			k.last = err
			k.mu.Unlock()
			select {
			case <-ctx.Done():
				tick.Stop()
				return
			case <-tick.C:
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
		if k.workload != nil {
			k.workload.machines(-1)
			k.site.abandon(k.workload)
		}
	})
}

// waitsFor is why the control plane is not ready; nil if it is.
func (k *kamaji) waitsFor() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.last
}

// reconcile goes the steps of the provider's reconcile, in their order.
func (k *kamaji) reconcile(ctx context.Context) error {
	plane := &unstructured.Unstructured{}
	plane.SetAPIVersion("controlplane.cluster.x-k8s.io/v1alpha2")
	plane.SetKind("KamajiControlPlane")
	if err := k.Get(ctx, k.key, plane); err != nil {
		return err
	}
	if len(plane.GetOwnerReferences()) == 0 {
		return errors.New("the Cluster does not own the control plane yet")
	}
	name := types.NamespacedName{Namespace: k.key.Namespace, Name: plane.GetOwnerReferences()[0].Name}
	if k.workload == nil {
		var err error
		if k.workload, err = k.site.host(ctx, k.endpoint, k.authority); err != nil {
			return err
		}
	}
	host, text, err := net.SplitHostPort(k.endpoint)
	if err != nil {
		return err
	}
	port, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return err
	}
	if err := unstructured.SetNestedMap(plane.Object, map[string]any{"host": host, "port": port}, "spec", "controlPlaneEndpoint"); err != nil {
		return err
	}
	if err := k.Update(ctx, plane); err != nil {
		return err
	}
	cluster := &clusterv1.Cluster{}
	if err := k.Get(ctx, name, cluster); err != nil {
		return err
	}
	if err := k.checkInfrastructure(ctx, cluster, host, port); err != nil {
		return err
	}
	switch {
	case cluster.Spec.ControlPlaneEndpoint.Host == "":
		return errors.New("the Cluster has no endpoint yet")
	case !ptr.Deref(cluster.Status.Initialization.InfrastructureProvisioned, false):
		return errors.New("the infrastructure of the Cluster is not provisioned yet")
	}
	if err := k.writeSecrets(ctx, plane, cluster.Name); err != nil {
		return err
	}
	version, _, _ := unstructured.NestedString(plane.Object, "spec", "version")
	if err := unstructured.SetNestedMap(plane.Object, map[string]any{
		"initialization": map[string]any{"controlPlaneInitialized": true}, "ready": true, "version": version, "externalManagedControlPlane": true,
		"replicas": int64(1), "readyReplicas": int64(1), "availableReplicas": int64(1), "upToDateReplicas": int64(1),
	}, "status"); err != nil {
		return err
	}
	return k.Status().Update(ctx, plane)
}

// checkInfrastructure compares the endpoint of the infrastructure: of this kind the provider
// writes none.
func (k *kamaji) checkInfrastructure(ctx context.Context, cluster *clusterv1.Cluster, host string, port int64) error {
	ref := cluster.Spec.InfrastructureRef
	mapping, err := k.RESTMapper().RESTMapping(schema.GroupKind{Group: ref.APIGroup, Kind: ref.Kind})
	if err != nil {
		return err
	}
	infra := &unstructured.Unstructured{}
	infra.SetGroupVersionKind(mapping.GroupVersionKind)
	if err := k.Get(ctx, types.NamespacedName{Namespace: cluster.Namespace, Name: ref.Name}, infra); err != nil {
		return err
	}
	hasHost, _, err := unstructured.NestedString(infra.Object, "spec", "controlPlaneEndpoint", "host")
	if err != nil {
		return err
	}
	hasPort, _, err := unstructured.NestedInt64(infra.Object, "spec", "controlPlaneEndpoint", "port")
	if err != nil {
		return err
	}
	if hasHost != host || hasPort != port {
		return fmt.Errorf("%s %s has the endpoint %q:%d, not %s:%d", ref.Kind, ref.Name, hasHost, hasPort, host, port)
	}
	return nil
}

// writeSecrets writes the Secrets that Cluster API's contract asks of a control plane.
func (k *kamaji) writeSecrets(ctx context.Context, plane *unstructured.Unstructured, cluster string) error {
	config, err := k.workload.kubeconfig(k.authority, "https://"+k.endpoint)
	if err != nil {
		return err
	}
	for suffix, data := range map[string]map[string][]byte{
		"-ca":         {corev1.TLSCertKey: k.authority.Certificate, corev1.TLSPrivateKeyKey: k.authority.Key},
		"-kubeconfig": {"value": config},
	} {
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
			Namespace: k.key.Namespace, Name: cluster + suffix, Labels: map[string]string{clusterv1.ClusterNameLabel: cluster},
		}, Type: clusterv1.ClusterSecretType, Data: data}
		if err := controllerutil.SetControllerReference(plane, secret, Scheme); err != nil {
			return err
		}
		if err := k.Create(ctx, secret); err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
	}
	return nil
}

// host runs a control plane that is on no machine of the Site.
func (s *Site) host(ctx context.Context, endpoint string, authority pki.Pair) (*workload, error) {
	host, _, err := net.SplitHostPort(endpoint)
	if err != nil {
		return nil, err
	}
	running, err := controlplane.Run(ctx, controlplane.AsWorkload(controlplane.Workload{
		CA: authority.Certificate, CAKey: authority.Key, ServiceAccountKey: authority.Key, Hosts: []string{host},
	}))
	if err != nil {
		return nil, err
	}
	c := &workload{ControlPlane: running, endpoint: endpoint, version: KubernetesVersion, client: running.Client(), kubelet: startKubelet()}
	c.machines(+1)
	if err := s.add(c); err != nil {
		return nil, err
	}
	return c, nil
}

// kubeconfig is an administrator's.
func (c *workload) kubeconfig(authority pki.Pair, server string) ([]byte, error) {
	admin := c.Admin()
	encode := base64.StdEncoding.EncodeToString
	config, err := clientcmd.Load(fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Config","current-context":"admin",
"clusters":[{"name":"admin","cluster":{"server":%q,"certificate-authority-data":%q}}],
"users":[{"name":"admin","user":{"client-certificate-data":%q,"client-key-data":%q}}],
"contexts":[{"name":"admin","context":{"cluster":"admin","user":"admin"}}]}`,
		server, encode(authority.Certificate), encode(admin.CertData), encode(admin.KeyData)))
	if err != nil {
		return nil, err
	}
	return clientcmd.Write(*config)
}
