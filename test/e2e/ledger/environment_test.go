// SPDX-License-Identifier: Apache-2.0

// Package ledger_test holds the kubernetes ledger to its contract against a
// real kube-apiserver and etcd, with what can happen between them.
package ledger_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/kubernetes"
	"metal-stack.io/infrastructure-apiserver/test/framework/controlplane"
)

const key = "metalstackmachines/team-a/node-1"

func TestMain(m *testing.M) { os.Exit(controlplane.Main(m)) }

// environment is a namespace, and a user who has just the rights that the ledger
// says it needs.
type environment struct {
	t         testing.TB
	plane     *controlplane.ControlPlane
	namespace string
	user      *rest.Config
	// configMaps are read and changed by an administrator.
	configMaps typedcorev1.ConfigMapInterface
}

func newEnvironment(t testing.TB) *environment {
	t.Helper()
	plane := controlplane.StartShared(t)
	namespace, err := plane.Client().CoreV1().Namespaces().Create(t.Context(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "ledger-"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	env := &environment{t: t, plane: plane, namespace: namespace.Name, user: plane.User(namespace.Name), configMaps: plane.Client().CoreV1().ConfigMaps(namespace.Name)}
	env.grant("get", "list", "create", "update", "delete")
	return env
}

// grant gives the user the verbs, and waits until they count.
func (env *environment) grant(verbs ...string) {
	env.t.Helper()
	rbac := env.plane.Client().RbacV1()
	role, err := rbac.Roles(env.namespace).Create(env.t.Context(), &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: "records"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: verbs}},
	}, metav1.CreateOptions{})
	require.NoError(env.t, err)
	_, err = rbac.RoleBindings(env.namespace).Create(env.t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "records"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, Name: env.namespace}},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: role.Name},
	}, metav1.CreateOptions{})
	require.NoError(env.t, err)
	l := env.ledger(nil)
	require.NoError(env.t, wait.PollUntilContextTimeout(env.t.Context(), 10*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		_, err := l.List(ctx)
		if apierrors.IsForbidden(err) {
			return false, nil
		}
		return err == nil, err
	}))
}

// ledger returns a ledger of one more process, which reaches the API server
// through wire.
func (env *environment) ledger(wire *wire) ledger.Ledger {
	env.t.Helper()
	config := rest.CopyConfig(env.user)
	if wire != nil {
		config.Wrap(func(next http.RoundTripper) http.RoundTripper {
			wire.next = next
			return wire
		})
	}
	l, err := kubernetes.New(config, env.namespace)
	require.NoError(env.t, err)
	return l
}

// wire is the network between a ledger and the API server. Its hook plays what
// is in between: it may pass a request on, once, never or repeatedly, and may
// answer what it likes.
type wire struct {
	next http.RoundTripper
	mu   sync.Mutex
	hook func(req *http.Request, pass pass) (*http.Response, error)
	sent map[string]int // by method
}

// pass passes the request on to the API server; it can be called repeatedly.
type pass func() (*http.Response, error)

// on sets the hook for the requests of one method.
func (w *wire) on(method string, hook func(pass pass) (*http.Response, error)) {
	w.set(func(req *http.Request, pass pass) (*http.Response, error) {
		if req.Method != method {
			return pass()
		}
		return hook(pass)
	})
}

func (w *wire) set(hook func(*http.Request, pass) (*http.Response, error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hook, w.sent = hook, map[string]int{}
}

func (w *wire) count(method string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sent[method]
}

// RoundTrip implements http.RoundTripper.
func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	w.mu.Lock()
	hook := w.hook
	if w.sent == nil {
		w.sent = map[string]int{}
	}
	w.sent[req.Method]++
	w.mu.Unlock()
	pass := func() (*http.Response, error) {
		clone := req.Clone(req.Context())
		if req.GetBody != nil {
			clone.Body, _ = req.GetBody()
		}
		return w.next.RoundTrip(clone)
	}
	if hook == nil {
		return pass()
	}
	return hook(req, pass)
}

var errLost = errors.New("connection lost")

// once lets a hook act on the first request, and passes all later ones.
func once(hook func(pass) (*http.Response, error)) func(pass) (*http.Response, error) {
	var mu sync.Mutex
	acted := false
	return func(p pass) (*http.Response, error) {
		mu.Lock()
		first := !acted
		acted = true
		mu.Unlock()
		if first {
			return hook(p)
		}
		return p()
	}
}

// recordOf returns the record of a key as a new process finds it, or nil.
func (env *environment) recordOf(key string) *ledger.Record {
	env.t.Helper()
	for _, r := range env.list(env.ledger(nil)) {
		if r.Key == key {
			return &r
		}
	}
	return nil
}

func (env *environment) list(l ledger.Ledger) []ledger.Record {
	env.t.Helper()
	list, err := l.List(env.t.Context())
	require.NoError(env.t, err)
	return list
}

func (env *environment) create(l ledger.Ledger, key, value string) string {
	env.t.Helper()
	version, err := l.Create(env.t.Context(), key, []byte(value))
	require.NoError(env.t, err)
	return version
}

// expect checks that a key has just this value and version.
func (env *environment) expect(key, value, version string) {
	env.t.Helper()
	r := env.recordOf(key)
	require.NotNil(env.t, r)
	require.Equal(env.t, value, string(r.Value))
	require.Equal(env.t, version, r.Version)
}

// configMapOf returns what stores the record of a key.
func (env *environment) configMapOf(key string) *corev1.ConfigMap {
	env.t.Helper()
	list, err := env.configMaps.List(env.t.Context(), metav1.ListOptions{})
	require.NoError(env.t, err)
	for _, cm := range list.Items {
		if cm.Annotations[kubernetes.KeyAnnotation] == key {
			return &cm
		}
	}
	env.t.Fatalf("no ConfigMap stores %s", key)
	return nil
}
