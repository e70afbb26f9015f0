// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"
)

// serve answers on address as the host that a Service's clients expect.
func serve(t *testing.T, c *ControlPlane, host, address string, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(handler)
	certificate, key := c.ServingCertificate(host)
	pair, err := tls.X509KeyPair(certificate, key)
	require.NoError(t, err)
	server.Listener.Close()
	server.Listener = listener
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // tests cut connections
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

// echo is an API server of one group-version, that answers every request with
// its own name and the user's.
func echo(version schema.GroupVersion, name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/apis/"+version.String() {
			_ = json.NewEncoder(w).Encode(metav1.APIResourceList{GroupVersion: version.String(), APIResources: []metav1.APIResource{
				{Name: "echos", Kind: "Echo", Verbs: []string{"get"}},
			}})
			return
		}
		fmt.Fprintf(w, "%s for %s", name, r.Header.Get("X-Remote-User"))
	}
}

func TestService_FollowsReadyPod(t *testing.T) {
	t.Parallel()
	c := Start(t)
	namespace := newNamespace(t, c)
	version := schema.GroupVersion{Group: "echo.example.com", Version: "v1"}
	service, err := c.Client().CoreV1().Services(namespace).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "echo"},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"role": "active"},
			Ports:    []corev1.ServicePort{{Port: 443, TargetPort: intstr.FromString("https")}},
		},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	run := func(name string, labels map[string]string) (*Pod, *httptest.Server) {
		server := serve(t, c, "echo."+namespace+".svc", "127.0.0.1:0", echo(version, name))
		return c.RunPod(t, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels},
			Spec: corev1.PodSpec{Containers: []corev1.Container{
				{Name: "echo", Image: "echo", Ports: []corev1.ContainerPort{{Name: "https", ContainerPort: 8443}}},
			}},
		}, map[int32]string{8443: server.Listener.Addr().String()}), server
	}
	podA, serverA := run("a", map[string]string{"role": "active"})
	podB, serverB := run("b", nil)
	c.Aggregate(t, version, namespace, "echo", 443, c.CA())
	c.WaitAvailable(t, version, true)

	_, err = c.Client().RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "alice"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, Name: "alice"}},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	alice, err := kubernetes.NewForConfig(c.User("alice"))
	require.NoError(t, err)
	answers := func(want string) func() error {
		return func() error {
			got, err := alice.Discovery().RESTClient().Get().AbsPath("/apis/" + version.String() + "/echos/x").Do(t.Context()).Raw()
			if err == nil && string(got) != want {
				err = fmt.Errorf("want %q, got %q", want, got)
			}
			return err
		}
	}
	eventually(t, answers("a for alice"))

	for pod, patch := range map[*Pod]string{podA: `{"metadata":{"labels":{"role":null}}}`, podB: `{"metadata":{"labels":{"role":"active"}}}`} {
		_, err := c.Client().CoreV1().Pods(namespace).Patch(t.Context(), pod.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		require.NoError(t, err)
	}
	eventually(t, func() error {
		serverA.CloseClientConnections() // an established connection would stay
		return answers("b for alice")()
	})
	podB.SetReady(t, false)
	c.WaitAvailable(t, version, false)
	podB.SetReady(t, true)
	c.WaitAvailable(t, version, true)

	// The aggregator counts ready Pods only, and sends nothing to one that is
	// going; others that dial the Service, such as webhooks' callers, reach it.
	podB.Terminate(t)
	c.WaitAvailable(t, version, false)
	address := net.JoinHostPort(service.Spec.ClusterIP, "443")
	real, err := c.network.resolve(t.Context(), address)
	require.NoError(t, err)
	require.Equal(t, serverB.Listener.Addr().String(), real)
	podB.Delete(t)
	eventually(t, func() error {
		if real, err := c.network.resolve(t.Context(), address); err == nil {
			return fmt.Errorf("the Service leads to %s, although no Pod is left", real)
		}
		return nil
	})
}

func TestAggregation_DeadServerHarmsNoOtherGroup(t *testing.T) {
	t.Parallel()
	c := Start(t)
	port, err := FreePort()
	require.NoError(t, err)
	version := schema.GroupVersion{Group: "dead.example.com", Version: "v1"}
	c.Expose(t, metav1.NamespaceDefault, "dead", port)
	c.Aggregate(t, version, metav1.NamespaceDefault, "dead", port, c.CA())
	c.WaitAvailable(t, version, false)
	err = c.Client().Discovery().RESTClient().Get().AbsPath("/apis/" + version.String() + "/things").MaxRetries(0).Do(t.Context()).Error()
	require.True(t, apierrors.IsServiceUnavailable(err), "%v", err)

	newConfigMap(t, c.Client().CoreV1().ConfigMaps(metav1.NamespaceDefault), "alive")
	stdout, stderr, err := c.Kubectl(t, c.Admin(), "get", "configmap,role.rbac.authorization.k8s.io", "-o", "name")
	require.NoError(t, err, stderr)
	require.Contains(t, stdout, "configmap/alive")

	// As soon as it lives, it serves.
	serve(t, c, "dead.default.svc", fmt.Sprintf("127.0.0.1:%d", port), echo(version, "risen"))
	c.WaitAvailable(t, version, true)
}

func TestWebhook_BehindServiceIsCalled(t *testing.T) {
	t.Parallel()
	c := StartShared(t)
	namespace := newNamespace(t, c)
	server := serve(t, c, "hook."+namespace+".svc", "127.0.0.1:0", func(w http.ResponseWriter, r *http.Request) {
		var review admissionv1.AdmissionReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Result: &metav1.Status{Message: "the hook says no"}}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(review)
	})
	port := server.Listener.Addr().(*net.TCPAddr).Port
	c.Expose(t, namespace, "hook", port)
	hooks := c.Client().AdmissionregistrationV1().ValidatingWebhookConfigurations()
	hook, err := hooks.Create(t.Context(), &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "hook-"},
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{
			Name: "hook.example.com",
			ClientConfig: admissionregistrationv1.WebhookClientConfig{
				Service:  &admissionregistrationv1.ServiceReference{Namespace: namespace, Name: "hook", Port: ptr.To(int32(port))},
				CABundle: c.CA(),
			},
			Rules: []admissionregistrationv1.RuleWithOperations{{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
				Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"secrets"}},
			}},
			NamespaceSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: namespace}},
			SideEffects:             ptr.To(admissionregistrationv1.SideEffectClassNone),
			AdmissionReviewVersions: []string{"v1"},
		}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), callDeadline)
		defer cancel()
		_ = hooks.Delete(ctx, hook.Name, metav1.DeleteOptions{})
	})
	eventually(t, func() error {
		_, err := c.Client().CoreV1().Secrets(namespace).Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{GenerateName: "refused-"}}, metav1.CreateOptions{})
		if err == nil || !strings.Contains(err.Error(), "the hook says no") {
			return fmt.Errorf("want the hook's refusal, got: %v", err)
		}
		return nil
	})
}
