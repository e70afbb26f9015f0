// SPDX-License-Identifier: Apache-2.0

package firewallcontroller

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/controlplane"
)

// limit is how long a request may be waited for.
const limit = time.Minute

const (
	namespace = "team-a"
	hostname  = "fw"
)

func TestMain(m *testing.M) { os.Exit(controlplane.Main(m)) }

// fixture is one control plane that is management cluster and workload cluster.
type fixture struct {
	*controlplane.ControlPlane

	t       *testing.T
	dynamic dynamic.Interface
	host    *Host
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	plane := controlplane.Start(t)
	objects, err := dynamic.NewForConfig(plane.Admin())
	require.NoError(t, err)
	f := &fixture{ControlPlane: plane, t: t, dynamic: objects, host: NewHost("v2.0.0")}
	for kind, resource := range map[string]schema.GroupVersionResource{"Firewall": Firewalls, "FirewallMonitor": Monitors, "ClusterwideNetworkPolicy": Policies} {
		f.define(kind, resource)
	}
	for _, name := range []string{namespace, WorkloadNamespace} {
		_, err := plane.Client().CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	f.grant(namespace, "rose-firewall-controller", rbacv1.PolicyRule{
		APIGroups: []string{Firewalls.Group}, Resources: []string{"firewalls", "firewalls/status"}, Verbs: []string{"get", "list", "watch"},
	}, rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"get"}, ResourceNames: []string{"rose-config", "rose-token"}})
	f.grant(WorkloadNamespace, "firewall-controller",
		rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods", "secrets", "services"}, Verbs: []string{"get", "list", "watch"}},
		rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"services", "endpoints"}, Verbs: []string{"get", "create", "update", "list", "watch"}},
		rbacv1.PolicyRule{
			APIGroups: []string{Policies.Group, Monitors.Group}, Resources: []string{"clusterwidenetworkpolicies", "clusterwidenetworkpolicies/status", "firewallmonitors"},
			Verbs: []string{"get", "list", "watch", "create", "update", "patch", "delete"},
		})
	return f
}

// define makes a definition that takes all fields.
func (f *fixture) define(kind string, resource schema.GroupVersionResource) {
	f.t.Helper()
	version := map[string]any{
		"name": resource.Version, "served": true, "storage": true,
		"schema": map[string]any{"openAPIV3Schema": map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
	}
	if resource != Monitors {
		version["subresources"] = map[string]any{"status": map[string]any{}}
	}
	definition := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": map[string]any{"name": resource.Resource + "." + resource.Group, "annotations": map[string]any{"api-approved.kubernetes.io": "unapproved"}},
		"spec": map[string]any{
			"group": resource.Group, "scope": "Namespaced", "names": map[string]any{"kind": kind, "plural": resource.Resource}, "versions": []any{version},
		},
	}}
	definitions := schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	_, err := f.dynamic.Resource(definitions).Create(f.t.Context(), definition, metav1.CreateOptions{})
	require.NoError(f.t, err)
	framework.Eventually(f.t, limit, func(ctx context.Context) error {
		_, err := f.dynamic.Resource(resource).List(ctx, metav1.ListOptions{})
		return err
	})
}

// grant makes a service account with these rights: in its namespace, or, in that of the
// workload cluster, in the cluster.
func (f *fixture) grant(ns, name string, rules ...rbacv1.PolicyRule) {
	f.t.Helper()
	ctx, about := f.t.Context(), metav1.ObjectMeta{Name: name}
	_, err := f.Client().CoreV1().ServiceAccounts(ns).Create(ctx, &corev1.ServiceAccount{ObjectMeta: about}, metav1.CreateOptions{})
	require.NoError(f.t, err)
	subjects := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: ns, Name: name}}
	if ns == WorkloadNamespace {
		_, err = f.Client().RbacV1().ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: about, Rules: rules}, metav1.CreateOptions{})
		require.NoError(f.t, err)
		_, err = f.Client().RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
			ObjectMeta: about, Subjects: subjects, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		}, metav1.CreateOptions{})
		require.NoError(f.t, err)
		return
	}
	_, err = f.Client().RbacV1().Roles(ns).Create(ctx, &rbacv1.Role{ObjectMeta: about, Rules: rules}, metav1.CreateOptions{})
	require.NoError(f.t, err)
	_, err = f.Client().RbacV1().RoleBindings(ns).Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: about, Subjects: subjects, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name},
	}, metav1.CreateOptions{})
	require.NoError(f.t, err)
}

func (f *fixture) token(ns, name string) string {
	f.t.Helper()
	answer, err := f.Client().CoreV1().ServiceAccounts(ns).CreateToken(f.t.Context(), name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	require.NoError(f.t, err)
	return answer.Status.Token
}

// kubeconfig has one cluster, user and context.
func (f *fixture) kubeconfig(context, server, token string) []byte {
	f.t.Helper()
	config := clientcmdapi.NewConfig()
	config.Clusters[context] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: f.CA()}
	config.AuthInfos[context] = &clientcmdapi.AuthInfo{Token: token}
	config.Contexts[context] = &clientcmdapi.Context{Cluster: context, AuthInfo: context}
	config.CurrentContext = context
	text, err := clientcmd.Write(*config)
	require.NoError(f.t, err)
	return text
}

// shareAccess makes the two Secrets for the workload cluster.
func (f *fixture) shareAccess() {
	f.t.Helper()
	for name, data := range map[string]map[string][]byte{
		"rose-config": {"kubeconfig": f.kubeconfig("rose", "https://unused.example.org", "")},
		"rose-token":  {"token": []byte(f.token(WorkloadNamespace, "firewall-controller"))},
	} {
		_, err := f.Client().CoreV1().Secrets(namespace).Create(f.t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data}, metav1.CreateOptions{})
		require.NoError(f.t, err)
	}
}

func (f *fixture) options() Options {
	return Options{
		Kubeconfig: f.kubeconfig(namespace, f.Admin().Host, f.token(namespace, "rose-firewall-controller")), Hostname: hostname, Host: f.host,
		Interval: 100 * time.Millisecond, TokenInterval: 100 * time.Millisecond, Clock: clock.RealClock{}, Logf: f.t.Logf,
	}
}

// start runs a firewall-controller, and returns what says why it has ended.
func (f *fixture) start(changes ...func(*Options)) (ended <-chan error) {
	f.t.Helper()
	o := f.options()
	for _, change := range changes {
		change(&o)
	}
	c, done := New(o), make(chan error, 1)
	ctx, cancel := context.WithCancel(f.t.Context())
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		done <- c.Run(ctx)
	}()
	f.t.Cleanup(func() {
		cancel()
		<-finished
	})
	return done
}

func (f *fixture) create(resource schema.GroupVersionResource, ns string, object any) {
	f.t.Helper()
	fields, err := toMap(object)
	require.NoError(f.t, err)
	_, err = f.dynamic.Resource(resource).Namespace(ns).Create(f.t.Context(), &unstructured.Unstructured{Object: fields}, metav1.CreateOptions{})
	require.NoError(f.t, err)
}

func (f *fixture) patch(resource schema.GroupVersionResource, ns, name, patch string, subresources ...string) {
	f.t.Helper()
	_, err := f.dynamic.Resource(resource).Namespace(ns).Patch(f.t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}, subresources...)
	require.NoError(f.t, err)
}

// createFirewall makes the Firewall, without access to the workload cluster. Its status is
// written afterwards, as a subresource.
func (f *fixture) createFirewall() {
	f.t.Helper()
	fw := firewallOfTest(func(*Firewall) {})
	fw.APIVersion, fw.Kind, fw.Name = Firewalls.GroupVersion().String(), "Firewall", hostname
	f.create(Firewalls, namespace, fw)
	text, err := json.Marshal(map[string]any{"status": fw.Status})
	require.NoError(f.t, err)
	f.patch(Firewalls, namespace, hostname, string(text), "status")
}

// await waits until the host is as wanted.
func (f *fixture) await(wanted string, ok func(HostState) bool) {
	f.t.Helper()
	framework.Eventually(f.t, limit, func(context.Context) error {
		if state := f.host.State(); !ok(state) {
			return fmt.Errorf("%s: %+v", wanted, state)
		}
		return nil
	})
}
