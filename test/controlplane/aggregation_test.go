package controlplane

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
)

// echo is an API server of one group-version, that answers every request with
// its own name and the user's.
func echo(t *testing.T, c *ControlPlane, version schema.GroupVersion, host, name, address string) *httptest.Server {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/apis/"+version.String() {
			_ = json.NewEncoder(w).Encode(metav1.APIResourceList{GroupVersion: version.String(), APIResources: []metav1.APIResource{
				{Name: "echos", Kind: "Echo", Verbs: []string{"get"}},
			}})
			return
		}
		fmt.Fprintf(w, "%s for %s", name, r.Header.Get("X-Remote-User"))
	}))
	certificate, key := c.ServingCertificate(host)
	pair, err := tls.X509KeyPair(certificate, key)
	require.NoError(t, err)
	server.Listener.Close()
	server.Listener = listener
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

func TestAServiceFollowsTheReadyPodThatItSelects(t *testing.T) {
	t.Parallel()
	c := Start(t)
	namespace := newNamespace(t, c)
	version := schema.GroupVersion{Group: "echo.example.com", Version: "v1"}
	_, err := c.Client().CoreV1().Services(namespace).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "echo"},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"role": "active"},
			Ports:    []corev1.ServicePort{{Port: 443, TargetPort: intstr.FromString("https")}},
		},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	run := func(name string, labels map[string]string) (*Pod, *httptest.Server) {
		server := echo(t, c, version, "echo."+namespace+".svc", name, "127.0.0.1:0")
		return c.RunPod(t, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels},
			Spec: corev1.PodSpec{Containers: []corev1.Container{
				{Name: "echo", Image: "echo", Ports: []corev1.ContainerPort{{Name: "https", ContainerPort: 8443}}},
			}},
		}, map[int32]string{8443: server.Listener.Addr().String()}), server
	}
	podA, serverA := run("a", map[string]string{"role": "active"})
	podB, _ := run("b", nil)
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
	serverA.CloseClientConnections()
	eventually(t, func() error {
		serverA.CloseClientConnections() // an established connection would stay
		return answers("b for alice")()
	})
	podB.SetReady(t, false)
	c.WaitAvailable(t, version, false)
	podB.SetReady(t, true)
	c.WaitAvailable(t, version, true)
	podB.Terminate(t)
	eventually(t, answers("b for alice"))
	podB.Delete(t)
	c.WaitAvailable(t, version, false)
}

func TestADeadAggregatedServerHarmsNoOtherGroup(t *testing.T) {
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
	echo(t, c, version, "dead.default.svc", "risen", fmt.Sprintf("127.0.0.1:%d", port))
	c.WaitAvailable(t, version, true)
}
