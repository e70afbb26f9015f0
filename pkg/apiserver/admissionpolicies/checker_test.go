// SPDX-License-Identifier: Apache-2.0

package admissionpolicies

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/fake"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/component-base/metrics/testutil"
	"k8s.io/utils/clock"
)

// deployed returns the objects of a file of artifacts/deploy.
func deployed(t *testing.T, file string) []runtime.Object {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "..", "..", "artifacts", "deploy", file))
	require.NoError(t, err)
	reader := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(content)))
	var objects []runtime.Object
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return objects
		}
		require.NoError(t, err)
		object, _, err := clientscheme.Codecs.UniversalDeserializer().Decode(document, nil, nil)
		require.NoError(t, err)
		objects = append(objects, object)
	}
}

// fakeCluster is a cluster with the policies of artifacts/deploy.
type fakeCluster struct {
	*fake.Clientset
	mu     sync.Mutex
	logged []string
}

func (c *fakeCluster) log(_, line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.logged = append(c.logged, line)
}

// lines are those that were logged so far.
func (c *fakeCluster) lines() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.logged)
}

func (c *fakeCluster) ctx(ctx context.Context) context.Context {
	return logr.NewContext(ctx, funcr.New(c.log, funcr.Options{}))
}

func start(t *testing.T) (*fakeCluster, *Checker) {
	t.Helper()
	w := &fakeCluster{Clientset: fake.NewClientset(deployed(t, "admission.yaml")...)}
	return w, New(w.Clientset, clock.RealClock{})
}

func value(t *testing.T) float64 {
	t.Helper()
	v, err := testutil.GetGaugeMetricValue(notEnforced)
	require.NoError(t, err)
	return v
}

// The tests share the metric, so they do not run in parallel.

func TestChecker_KnowsThePoliciesOfTheInstallation(t *testing.T) {
	var policies []string
	for _, object := range deployed(t, "admission.yaml") {
		if policy, ok := object.(*admissionregistrationv1.ValidatingAdmissionPolicy); ok {
			policies = append(policies, policy.Name)
		}
	}
	assert.ElementsMatch(t, policies, names)
	readsAll := slices.ContainsFunc(deployed(t, "apiserver-rbac.yaml"), func(object runtime.Object) bool {
		role, ok := object.(*rbacv1.ClusterRole)
		return ok && slices.ContainsFunc(role.Rules, func(rule rbacv1.PolicyRule) bool {
			return slices.Contains(rule.APIGroups, admissionregistrationv1.GroupName) && slices.Contains(rule.Verbs, "get") && len(rule.ResourceNames) == 0 &&
				slices.Contains(rule.Resources, "validatingadmissionpolicies") && slices.Contains(rule.Resources, "validatingadmissionpolicybindings")
		})
	})
	assert.True(t, readsAll, "the server may read policies and their bindings")
	w, c := start(t)
	c.check(w.ctx(t.Context()))
	assert.Zero(t, value(t))
	assert.Empty(t, w.lines())
}

func TestChecker_ReportsPolicyThatIsNotEnforced(t *testing.T) {
	const name = "metalstack-apiserver-pods"
	for what, c := range map[string]struct {
		change func(context.Context, *testing.T, *fakeCluster)
		logged string
	}{
		"policy deleted": {func(ctx context.Context, t *testing.T, w *fakeCluster) {
			require.NoError(t, w.AdmissionregistrationV1().ValidatingAdmissionPolicies().Delete(ctx, name, metav1.DeleteOptions{}))
		}, name + ": ValidatingAdmissionPolicy not found"},
		"binding deleted": {func(ctx context.Context, t *testing.T, w *fakeCluster) {
			require.NoError(t, w.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings().Delete(ctx, name, metav1.DeleteOptions{}))
		}, name + ": ValidatingAdmissionPolicyBinding not found"},
		"binding that only audits": {func(ctx context.Context, t *testing.T, w *fakeCluster) {
			w.rebind(ctx, t, name, func(s *admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec) {
				s.ValidationActions = []admissionregistrationv1.ValidationAction{admissionregistrationv1.Audit}
			})
		}, "validationActions [Audit], without Deny"},
		"binding of another policy": {func(ctx context.Context, t *testing.T, w *fakeCluster) {
			w.rebind(ctx, t, name, func(s *admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec) { s.PolicyName = "other" })
		}, `policyName \"other\"`},
		"no right to read it": {func(_ context.Context, _ *testing.T, w *fakeCluster) {
			w.fail("validatingadmissionpolicies", name, apierrors.NewForbidden(schema.GroupResource{Resource: "validatingadmissionpolicies"}, name, errors.New("no")))
		}, name + ": ValidatingAdmissionPolicy cannot be read"},
	} {
		t.Run(what, func(t *testing.T) {
			w, checker := start(t)
			ctx := w.ctx(t.Context())
			c.change(ctx, t, w)
			checker.check(ctx)
			assert.EqualValues(t, 1, value(t))
			require.Len(t, w.lines(), 1)
			assert.Contains(t, w.lines()[0], c.logged)
		})
	}
}

// Before 1.30 every path of the kinds is answered 404.
func TestChecker_ReportsKubernetesWithoutTheKind(t *testing.T) {
	w, c := start(t)
	w.PrependReactor("get", "*", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewGenericServerResponse(404, "get", schema.GroupResource{}, "", "the server could not find the requested resource", 0, true)
	})
	c.check(w.ctx(t.Context()))
	assert.EqualValues(t, len(names), value(t))
	known, err := c.Enforced(MetalAPIAccess)
	require.True(t, known)
	require.ErrorContains(t, err, "is not enforced (ValidatingAdmissionPolicy not found)")
	require.Len(t, w.lines(), 1)
	for _, name := range names {
		assert.Contains(t, w.lines()[0], name)
	}
}

func TestChecker_KeepsTheLastResultWhileTheClusterDoesNotAnswer(t *testing.T) {
	w, c := start(t)
	ctx := w.ctx(t.Context())
	require.NoError(t, w.AdmissionregistrationV1().ValidatingAdmissionPolicies().Delete(ctx, names[0], metav1.DeleteOptions{}))
	c.check(ctx)
	w.fail("*", names[1], apierrors.NewTooManyRequests("busy", 1))
	c.check(ctx)
	assert.EqualValues(t, 1, value(t))
	require.Len(t, w.lines(), 2)
	assert.Contains(t, w.lines()[1], "Failed to check")
}

func TestChecker_RepeatsTheCheckAndLogsChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, c := start(t)
		changes := 0
		c.OnChange(func() { changes++ })
		known, _ := c.Enforced(names[0])
		require.False(t, known)
		enforced := func(want bool) {
			t.Helper()
			known, err := c.Enforced(names[0])
			require.True(t, known)
			require.Equal(t, want, err == nil, err)
			_, other := c.Enforced(names[1])
			require.NoError(t, other)
		}
		ctx, stop := context.WithCancel(w.ctx(t.Context()))
		defer stop()
		ended := make(chan struct{})
		go func() { defer close(ended); c.Run(ctx) }()
		synctest.Wait()
		require.Zero(t, value(t))
		enforced(true)
		require.Equal(t, 1, changes)

		policies := w.AdmissionregistrationV1().ValidatingAdmissionPolicies()
		policy, err := policies.Get(ctx, names[0], metav1.GetOptions{})
		require.NoError(t, err)
		require.NoError(t, policies.Delete(ctx, names[0], metav1.DeleteOptions{}))
		time.Sleep(interval + interval/10)
		synctest.Wait()
		assert.EqualValues(t, 1, value(t))
		require.Len(t, w.lines(), 1)
		enforced(false)
		require.Equal(t, 2, changes)
		time.Sleep(3 * interval)
		synctest.Wait()
		require.Len(t, w.lines(), 1, "what is known is not repeated at every check")
		time.Sleep(logAgain)
		synctest.Wait()
		require.Len(t, w.lines(), 2)

		_, err = policies.Create(ctx, policy, metav1.CreateOptions{})
		require.NoError(t, err)
		time.Sleep(missingInterval + missingInterval/10)
		synctest.Wait()
		assert.Zero(t, value(t))
		require.Len(t, w.lines(), 3)
		assert.Contains(t, w.lines()[2], "again")
		enforced(true)
		require.Equal(t, 3, changes)

		require.NoError(t, policies.Delete(ctx, names[0], metav1.DeleteOptions{}))
		time.Sleep(interval + interval/10)
		synctest.Wait()
		assert.EqualValues(t, 1, value(t))
		stop()
		<-ended
		known, _ = c.Enforced(names[0])
		assert.False(t, known)
		assert.Zero(t, value(t), "a server that is not the active one any more reports nothing")
	})
}

// rebind changes a binding.
func (c *fakeCluster) rebind(ctx context.Context, t *testing.T, name string, change func(*admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec)) {
	t.Helper()
	bindings := c.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings()
	binding, err := bindings.Get(ctx, name, metav1.GetOptions{})
	require.NoError(t, err)
	change(&binding.Spec)
	_, err = bindings.Update(ctx, binding, metav1.UpdateOptions{})
	require.NoError(t, err)
}

// fail answers reads of one object with an error.
func (c *fakeCluster) fail(resource, name string, err error) {
	c.PrependReactor("get", resource, func(action clienttesting.Action) (bool, runtime.Object, error) {
		return action.(clienttesting.GetAction).GetName() == name, nil, err
	})
}
