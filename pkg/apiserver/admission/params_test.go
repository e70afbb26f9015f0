// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	clientgotesting "k8s.io/client-go/testing"
	"k8s.io/component-base/metrics/testutil"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/ktesting"
	"k8s.io/utils/ptr"
)

// policyOfParameter is one that a ConfigMap allows requests by.
func policyOfParameter() (policy *admissionregistrationv1.ValidatingAdmissionPolicy, binding *admissionregistrationv1.ValidatingAdmissionPolicyBinding) {
	objects := refusingPolicy()
	policy, binding = objects[0].(*admissionregistrationv1.ValidatingAdmissionPolicy), objects[1].(*admissionregistrationv1.ValidatingAdmissionPolicyBinding)
	policy.Spec.ParamKind = &admissionregistrationv1.ParamKind{APIVersion: "v1", Kind: "ConfigMap"}
	policy.Spec.Validations = []admissionregistrationv1.Validation{{Expression: "params.data.allowed == 'yes'", Message: "the parameter says no"}}
	binding.Spec.ParamRef = &admissionregistrationv1.ParamRef{Name: "limits", Namespace: "team-a", ParameterNotFoundAction: ptr.To(admissionregistrationv1.DenyAction)}
	return policy, binding
}

func TestAdmission_FollowsParametersOfPolicyThatIsCreatedAgain(t *testing.T) {
	t.Parallel()
	policy, binding := policyOfParameter()
	params := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "limits", Namespace: "team-a"}, Data: map[string]string{"allowed": "no"}}
	run(t, func(t *testing.T, env *environment) {
		ctx, api := t.Context(), env.client.AdmissionregistrationV1()
		const refresh = 3 * time.Second
		env.start(t)
		<-time.After(refresh)
		require.ErrorContains(t, env.admit(t, ""), "the parameter says no")

		require.NoError(t, api.ValidatingAdmissionPolicyBindings().Delete(ctx, binding.Name, metav1.DeleteOptions{}))
		require.NoError(t, api.ValidatingAdmissionPolicies().Delete(ctx, policy.Name, metav1.DeleteOptions{}))
		<-time.After(refresh)
		require.NoError(t, env.admit(t, ""))
		again, bindingAgain := policyOfParameter()
		_, err := api.ValidatingAdmissionPolicies().Create(ctx, again, metav1.CreateOptions{})
		require.NoError(t, err)
		_, err = api.ValidatingAdmissionPolicyBindings().Create(ctx, bindingAgain, metav1.CreateOptions{})
		require.NoError(t, err)
		<-time.After(refresh)
		require.ErrorContains(t, env.admit(t, ""), "the parameter says no")

		change := []byte(`{"data":{"allowed":"yes"}}`)
		_, err = env.client.CoreV1().ConfigMaps("team-a").Patch(ctx, "limits", types.MergePatchType, change, metav1.PatchOptions{})
		require.NoError(t, err)
		_, err = env.dynamicClient.Resource(corev1.SchemeGroupVersion.WithResource("configmaps")).Namespace("team-a").Patch(ctx, "limits", types.MergePatchType, change, metav1.PatchOptions{})
		require.NoError(t, err)
		<-time.After(refresh)
		require.NoError(t, env.admit(t, ""))
	}, policy, binding, params)
}

func TestParams_ReportsThoseThatMayNotBeReadOnce(t *testing.T) {
	t.Parallel()
	registerMetrics()
	logger := ktesting.NewLogger(t, ktesting.NewConfig(ktesting.BufferLogs(true)))
	ctx := klog.NewContext(t.Context(), logger)
	fake := dynamicfake.NewSimpleDynamicClient(clientscheme.Scheme)
	may := false
	fake.PrependReactor("list", "secrets", func(a clientgotesting.Action) (bool, runtime.Object, error) {
		return !may, nil, apierrors.NewForbidden(a.GetResource().GroupResource(), "", errors.New("no right"))
	})
	read := newParamsClient(fake).Resource(corev1.SchemeGroupVersion.WithResource("secrets")).Namespace(metav1.NamespaceAll)
	for range 3 {
		_, err := read.List(ctx, metav1.ListOptions{})
		require.True(t, apierrors.IsForbidden(err), "%v", err)
	}
	log := logger.GetSink().(ktesting.Underlier).GetBuffer()
	require.Len(t, log.Data(), 1)
	assert.Contains(t, log.String(), ParamsLabel)
	may = true
	_, err := read.List(ctx, metav1.ListOptions{})
	require.NoError(t, err)
	may = false
	_, err = read.List(ctx, metav1.ListOptions{})
	require.Error(t, err)
	assert.Len(t, log.Data(), 2, "the right was taken away again")
	count, err := testutil.GetCounterMetricValue(forbiddenParams.WithLabelValues("secrets"))
	require.NoError(t, err)
	assert.InDelta(t, 4, count, 0)
}
