// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/client-go/discovery"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	clientgotesting "k8s.io/client-go/testing"
	"k8s.io/utils/ptr"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/scheme"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// served is what Kubernetes 1.30 to 1.35 serve.
var served = []string{
	"validatingadmissionpolicies", "validatingadmissionpolicybindings",
	"validatingwebhookconfigurations", "mutatingwebhookconfigurations",
}

type environment struct {
	*Admission
	client        *fake.Clientset
	dynamicClient *dynamicfake.FakeDynamicClient
	discovery     *fakeDiscovery
	chain         admission.Interface
	quotas        *quotas
}

// quotas counts what is evaluated.
type quotas struct{ evaluated int }

func (q *quotas) Handles(o admission.Operation) bool { return o == admission.Create }

func (q *quotas) Validate(context.Context, admission.Attributes, admission.ObjectInterfaces) error {
	q.evaluated++
	return nil
}

// fakeDiscovery answers with what the cluster serves, or does not answer.
type fakeDiscovery struct {
	discovery.DiscoveryInterface
	resources atomic.Pointer[[]string]
	away      atomic.Bool
}

func (d *fakeDiscovery) ServerResourcesForGroupVersion(string) (*metav1.APIResourceList, error) {
	if d.away.Load() {
		return nil, errors.New("connection refused")
	}
	list := &metav1.APIResourceList{}
	for _, name := range *d.resources.Load() {
		list.APIResources = append(list.APIResources, metav1.APIResource{Name: name})
	}
	return list, nil
}

func (d *fakeDiscovery) serve(resources ...string) { d.resources.Store(&resources) }

// run runs a test, in time of its own, against a cluster that has a namespace and objects.
func run(t *testing.T, test func(t *testing.T, env *environment), objects ...runtime.Object) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		env, stop := newEnvironment(objects...)
		defer stop()
		test(t, env)
	})
}

func newEnvironment(objects ...runtime.Object) (env *environment, stop func()) {
	client := fake.NewClientset(append(objects, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team-a"}})...)
	env = &environment{client: client, discovery: &fakeDiscovery{}, quotas: &quotas{}}
	drained := make(chan struct{})
	env.dynamicClient = dynamicfake.NewSimpleDynamicClient(clientscheme.Scheme, parameters(objects)...)
	env.Admission = newAdmission(clients{kubernetes: client, plugin: client, dynamic: env.dynamicClient, discovery: env.discovery, mapper: newMapper()}, Options{
		Authorizer: authorizerfactory.NewAlwaysAllowAuthorizer(), Drained: drained,
		Reads: func(method, path string) bool { return method == http.MethodGet && path == "v1/ip" },
	})
	var err error
	if env.chain, err = env.Chain(env.quotas); err != nil {
		panic(err)
	}
	env.discovery.serve(served...)
	return env, func() {
		close(drained)
		env.informers.Shutdown()
	}
}

// parameters are the ConfigMaps among objects.
func parameters(objects []runtime.Object) (params []runtime.Object) {
	for _, obj := range objects {
		if _, is := obj.(*corev1.ConfigMap); is {
			params = append(params, obj.DeepCopyObject())
		}
	}
	return params
}

// mapper maps ConfigMaps.
type mapper struct{ meta.RESTMapper }

func (mapper) Reset() {}

func newMapper() mapper {
	m := meta.NewDefaultRESTMapper(nil)
	m.Add(corev1.SchemeGroupVersion.WithKind("ConfigMap"), meta.RESTScopeNamespace)
	return mapper{m}
}

// start runs the admission until the test ends.
func (e *environment) start(t *testing.T) {
	t.Helper()
	go e.Run(t.Context())
}

// admit is a request to create a machine, or a subresource of it.
func (e *environment) admit(t *testing.T, subresource string) error {
	t.Helper()
	return e.request(t.Context(), createRequest(subresource))
}

func (e *environment) request(ctx context.Context, a admission.Attributes) error {
	o := admission.NewObjectInterfacesFromScheme(scheme.Scheme)
	if err := e.chain.(admission.MutationInterface).Admit(ctx, a, o); err != nil {
		return err
	}
	return e.chain.(admission.ValidationInterface).Validate(ctx, a, o)
}

func createRequest(subresource string) admission.Attributes {
	return admission.NewAttributesRecord(&infrastructure.MetalStackMachine{ObjectMeta: metav1.ObjectMeta{Name: "node-1", Namespace: "team-a"}}, nil,
		v1alpha4.SchemeGroupVersion.WithKind("MetalStackMachine"), "team-a", "node-1",
		v1alpha4.SchemeGroupVersion.WithResource("metalstackmachines"), subresource, admission.Create, &metav1.CreateOptions{}, false, &user.DefaultInfo{Name: "alice"})
}

// refusingPolicy refuses all requests for all resources of the group.
func refusingPolicy() []runtime.Object {
	return []runtime.Object{
		&admissionregistrationv1.ValidatingAdmissionPolicy{
			ObjectMeta: metav1.ObjectMeta{Name: "nothing"},
			Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
				FailurePolicy: ptr.To(admissionregistrationv1.Fail),
				MatchConstraints: &admissionregistrationv1.MatchResources{
					NamespaceSelector: &metav1.LabelSelector{}, ObjectSelector: &metav1.LabelSelector{}, MatchPolicy: ptr.To(admissionregistrationv1.Equivalent),
					ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{RuleWithOperations: admissionregistrationv1.RuleWithOperations{
						Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.OperationAll},
						Rule:       admissionregistrationv1.Rule{APIGroups: []string{infrastructure.GroupName}, APIVersions: []string{"*"}, Resources: []string{"*/*"}, Scope: ptr.To(admissionregistrationv1.AllScopes)},
					}}},
				},
				Validations: []admissionregistrationv1.Validation{{Expression: "false", Message: "nothing is allowed"}},
			},
		},
		&admissionregistrationv1.ValidatingAdmissionPolicyBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "nothing"},
			Spec:       admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{PolicyName: "nothing", ValidationActions: []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny}},
		},
	}
}

func TestAdmission_AppliesPoliciesBeforeQuotas(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, env *environment) {
		env.start(t)
		err := env.admit(t, "")
		require.True(t, apierrors.IsInvalid(err), "%v", err)
		require.ErrorContains(t, err, "nothing is allowed")
		assert.Zero(t, env.quotas.evaluated, "what is refused uses no quota")
		require.ErrorContains(t, env.admit(t, "power"), "nothing is allowed")
		require.NoError(t, env.ReadyzCheck().Check(nil))
	}, refusingPolicy()...)
}

func TestAdmission_ExemptsSubresourcesThatAreNotListed(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, env *environment) {
		exempt := []string{"allocation", "consolepassword", "log", "new"}
		for _, subresource := range exempt {
			require.NoError(t, env.admit(t, subresource), "%s before anything is read", subresource)
		}
		env.start(t)
		require.Error(t, env.admit(t, ""))
		for _, subresource := range exempt {
			require.NoError(t, env.admit(t, subresource), subresource)
		}
	}, refusingPolicy()...)
}

func TestAdmission_AdmitsIfThereIsNoPolicy(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, env *environment) {
		env.start(t)
		require.NoError(t, env.admit(t, ""))
		assert.Equal(t, 1, env.quotas.evaluated)
	})
}

// Kubernetes before 1.30 has no policies.
func TestAdmission_AppliesPoliciesOnceTheClusterServesThem(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, env *environment) {
		env.discovery.serve("validatingwebhookconfigurations", "mutatingwebhookconfigurations")
		env.start(t)
		require.NoError(t, env.admit(t, ""))
		require.NoError(t, env.ReadyzCheck().Check(nil))
		for _, a := range env.client.Actions() {
			assert.NotEqual(t, "validatingadmissionpolicies", a.GetResource().Resource, "what is not served is not requested")
		}
		env.discovery.serve(served...)
		<-time.After(discoveryInterval + time.Second)
		require.ErrorContains(t, env.admit(t, ""), "nothing is allowed")
	}, refusingPolicy()...)
}

// Kubernetes' log of errors sleeps by a clock of the process, so the time is real here.
func TestAdmission_RefusesWritesWhileItMayNotRead(t *testing.T) {
	t.Parallel()
	env, stop := newEnvironment()
	t.Cleanup(stop)
	env.client.PrependReactor("list", "validatingwebhookconfigurations", func(a clientgotesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(a.GetResource().GroupResource(), "", errors.New("no right"))
	})
	env.start(t)
	err := env.admit(t, "")
	require.True(t, apierrors.IsServiceUnavailable(err), "%v", err)
	const reason = "this server may not read validatingwebhookconfigurations.admissionregistration.k8s.io: grant the ServiceAccount metalstack-apiserver get, list and watch of them"
	require.ErrorContains(t, err, reason)
	_, retries := apierrors.SuggestsClientDelay(err)
	assert.False(t, retries, "a right does not appear by itself")
	requireNotAdmitted(t, err)
	require.ErrorContains(t, env.ReadyzCheck().Check(nil), reason)
	require.NoError(t, env.admit(t, "allocation"))
}

func TestAdmission_RefusesWritesUntilTheClusterHasAnswered(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, env *environment) {
		env.discovery.away.Store(true)
		env.start(t)
		began := time.Now()
		err := env.admit(t, "")
		require.True(t, apierrors.IsServiceUnavailable(err), "%v", err)
		require.ErrorContains(t, err, "it is not known yet which admission policies and webhooks the cluster serves")
		delay, retries := apierrors.SuggestsClientDelay(err)
		assert.True(t, retries)
		assert.Equal(t, retryAfterSeconds, delay)
		assert.Equal(t, readyTimeout, time.Since(began))
		requireNotAdmitted(t, err)
		require.Error(t, env.ReadyzCheck().Check(nil))

		env.discovery.away.Store(false)
		require.NoError(t, env.admit(t, ""), "a request waits")
		require.NoError(t, env.ReadyzCheck().Check(nil))
	})
}

// A CONNECT is admitted if it changes something.
func TestAdmission_ExemptsReadsOfTheMetalAPIOfClusters(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, env *environment) {
		connect := func(verb, path string) error {
			ctx := request.WithRequestInfo(t.Context(), &request.RequestInfo{Verb: verb})
			return env.request(ctx, admission.NewAttributesRecord(&infrastructure.MetalAPIOptions{Path: path}, nil,
				v1alpha4.SchemeGroupVersion.WithKind("MetalAPIOptions"), "team-a", "c",
				v1alpha4.SchemeGroupVersion.WithResource("metalstackclusters"), "metalapi", admission.Connect, nil, false, &user.DefaultInfo{Name: "alice"}))
		}
		require.NoError(t, connect("get", "v1/ip"), "before anything is read")
		env.start(t)
		require.NoError(t, connect("get", "v1/ip"))
		require.ErrorContains(t, connect("create", "v1/ip"), "nothing is allowed")
		require.ErrorContains(t, connect("delete", "v1/ip"), "nothing is allowed")
	}, refusingPolicy()...)
}

// BenchmarkChain is what admission costs a create if no policy or webhook is there.
func BenchmarkChain(b *testing.B) {
	env, stop := newEnvironment()
	defer stop()
	go env.Run(b.Context())
	chain, err := env.Chain(nil)
	require.NoError(b, err)
	o := admission.NewObjectInterfacesFromScheme(scheme.Scheme)
	request := createRequest("")
	require.NoError(b, chain.(admission.ValidationInterface).Validate(b.Context(), request, o))
	b.ReportAllocs()
	for b.Loop() {
		if err := errors.Join(chain.(admission.MutationInterface).Admit(b.Context(), request, o), chain.(admission.ValidationInterface).Validate(b.Context(), request, o)); err != nil {
			b.Fatal(err)
		}
	}
}
