// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/admission"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/framework/build"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
)

var dryRun = []string{metav1.DryRunAll}

// examples are a valid object of each kind that clients write. The controller manager leaves
// them alone.
var examples = map[string]runtime.Object{
	"metalstackclusters":             objects.Cluster("x"),
	"metalstackmachines":             objects.Machine("x", objects.InDefaultPartition),
	"metalstackfirewalls":            objects.Firewall("x", func(f *v1alpha4.MetalStackFirewall) { f.Spec.Partition = simulator.DefaultPartition }),
	"metalstackmachinetemplates":     objects.MachineTemplate("x"),
	"metalstackclustertemplates":     &v1alpha4.MetalStackClusterTemplate{Spec: v1alpha4.MetalStackClusterTemplateSpec{Template: v1alpha4.MetalStackClusterTemplateResource{Spec: objects.Cluster("x").Spec}}},
	"metalstackremediations":         &v1alpha4.MetalStackRemediation{},
	"metalstackremediationtemplates": &v1alpha4.MetalStackRemediationTemplate{},
	"metalstacknetworks":             &v1alpha4.MetalStackNetwork{Spec: v1alpha4.MetalStackNetworkSpec{Partition: simulator.DefaultPartition}},
	"metalstackips":                  &v1alpha4.MetalStackIP{Spec: v1alpha4.MetalStackIPSpec{NetworkID: simulator.InternetNetwork}},
}

// exampleBlock matches examples that are whole objects.
var exampleBlock = regexp.MustCompile("(?s)```yaml\n(apiVersion: .*?)```")

func documentationHasValidExamples(s *space) {
	page, err := os.ReadFile(filepath.Join(build.Root(), "docs", "admission.md"))
	require.NoError(s.t, err)
	blocks := exampleBlock.FindAllSubmatch(page, -1)
	require.Len(s.t, blocks, 2)
	for i, block := range blocks {
		file := filepath.Join(s.t.TempDir(), fmt.Sprintf("%d.yaml", i))
		require.NoError(s.t, os.WriteFile(file, block[1], 0o600))
		_, stderr, err := s.Kubectl(s.t, s.Admin(), "apply", "-f", file)
		require.NoError(s.t, err, stderr)
	}

	const message = "machines of the size g1-large-x86 are only for namespaces with the label gpu=true"
	ctx, machines := s.t.Context(), s.as(s.Admin()).MetalStackMachines(s.Namespace)
	ofGPUs := func(opts metav1.PatchOptions) error {
		_, err := machines.Patch(ctx, "node-1", types.MergePatchType, []byte(`{"spec":{"machineType":"`+gpuSize+`"}}`), opts)
		return err
	}
	label := func(gpu string) {
		_, err := s.Client().CoreV1().Namespaces().Patch(ctx, s.Namespace, types.MergePatchType, []byte(`{"metadata":{"labels":{"gpu":`+gpu+`}}}`), metav1.PatchOptions{})
		require.NoError(s.t, err)
	}
	refused := func(ctx context.Context) error {
		m := pausedMachine("node-2")
		m.Spec.MachineType = gpuSize
		if _, err := machines.Create(ctx, m, metav1.CreateOptions{DryRun: dryRun}); err == nil || !strings.Contains(err.Error(), message) {
			return fmt.Errorf("want %q, got: %v", message, err)
		}
		return nil
	}
	_, err = machines.Create(ctx, pausedMachine("node-1"), metav1.CreateOptions{})
	require.NoError(s.t, err)
	s.eventually(refused)
	require.ErrorContains(s.t, ofGPUs(metav1.PatchOptions{}), message)
	label(`"true"`)
	s.eventually(func(context.Context) error { return ofGPUs(metav1.PatchOptions{DryRun: dryRun}) })
	require.NoError(s.t, ofGPUs(metav1.PatchOptions{}))
	label("null")
	s.eventually(refused)
	_, err = machines.Patch(ctx, "node-1", types.MergePatchType, []byte(`{"metadata":{"labels":{"color":"red"}}}`), metav1.PatchOptions{})
	require.NoError(s.t, err, "the size stays")
}

// written are the resources that clients create, with the verbs of each and of its status.
func (s *space) written() map[string]metav1.APIResource {
	s.t.Helper()
	list, err := s.Client().Discovery().ServerResourcesForGroupVersion(v1alpha4.SchemeGroupVersion.String())
	require.NoError(s.t, err)
	all := map[string]metav1.APIResource{}
	for _, r := range list.APIResources {
		if !strings.Contains(r.Name, "/") && slices.Contains(r.Verbs, "create") {
			all[r.Name] = r
		}
	}
	for _, r := range list.APIResources {
		if main, sub, _ := strings.Cut(r.Name, "/"); sub == "status" && slices.Contains(r.Verbs, "patch") && all[main].Name != "" {
			all[r.Name] = r
		}
	}
	return all
}

// example is one as a client sends it.
func example(s *space, r metav1.APIResource, name string) *unstructured.Unstructured {
	s.t.Helper()
	obj := examples[r.Name]
	require.NotNil(s.t, obj, "the test needs an example of %s", r.Name)
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	require.NoError(s.t, err)
	delete(content, "status")
	u := &unstructured.Unstructured{Object: content}
	u.SetGroupVersionKind(v1alpha4.SchemeGroupVersion.WithKind(r.Kind))
	u.SetName(name)
	u.SetAnnotations(paused())
	return u
}

func (s *space) resource(config *rest.Config, name string) dynamic.ResourceInterface {
	s.t.Helper()
	client, err := dynamic.NewForConfig(config)
	require.NoError(s.t, err)
	return client.Resource(v1alpha4.SchemeGroupVersion.WithResource(name)).Namespace(s.Namespace)
}

func policyDeniesEveryKindAndVerb(s *space) {
	const message = "this user may write nothing"
	all := s.written()
	require.GreaterOrEqual(s.t, len(all), 10, "kinds and their status")
	before := map[string]types.UID{}
	for name, r := range all {
		if !strings.Contains(name, "/") {
			created, err := s.resource(s.Admin(), name).Create(s.t.Context(), example(s, r, "there"), metav1.CreateOptions{})
			require.NoError(s.t, err, name)
			before[name] = created.GetUID()
		}
	}
	policy := s.policy(admissionregistrationv1.ValidatingAdmissionPolicySpec{
		MatchConstraints: matching(rule("*", every, "*", "*/status", "metalstackmachines/power", "metalstackclusters/metalapi")),
		MatchConditions:  by(restricted),
		Validations:      []admissionregistrationv1.Validation{{Expression: "false", Message: message, Reason: ptr.To(metav1.StatusReasonForbidden)}},
	}, admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{})
	user := s.User(restricted)
	s.refused(user, message)
	denied := func(what string, err error) {
		s.t.Helper()
		if assert.True(s.t, apierrors.IsForbidden(err), "%s: %v", what, err) {
			assert.ErrorContains(s.t, err, message, what)
		}
	}
	ctx, apply := s.t.Context(), metav1.ApplyOptions{FieldManager: "test", Force: true}
	for name, r := range all {
		if main, sub, _ := strings.Cut(name, "/"); sub != "" {
			_, err := s.resource(user, main).Patch(ctx, "there", types.MergePatchType, []byte(`{"status":{"conditions":[]}}`), metav1.PatchOptions{}, sub)
			denied("patch "+name, err)
			continue
		}
		client := s.resource(user, name)
		_, err := client.Create(ctx, example(s, r, "new"), metav1.CreateOptions{})
		denied("create "+name, err)
		_, err = client.Create(ctx, example(s, r, "new"), metav1.CreateOptions{DryRun: dryRun})
		denied("create in a dry run "+name, err)
		_, err = client.Apply(ctx, "new", example(s, r, "new"), apply)
		denied("apply a new "+name, err)
		_, err = client.Apply(ctx, "there", example(s, r, "there"), apply)
		denied("apply "+name, err)
		// The controller manager says that it is paused meanwhile.
		denied("update "+name, retry.RetryOnConflict(retry.DefaultRetry, func() error {
			existing, err := client.Get(ctx, "there", metav1.GetOptions{})
			require.NoError(s.t, err, "reads are not admitted")
			existing.SetLabels(map[string]string{"color": "red"})
			_, err = client.Update(ctx, existing, metav1.UpdateOptions{})
			return err
		}))
		_, err = client.Patch(ctx, "there", types.MergePatchType, []byte(`{"metadata":{"labels":{"color":"red"}}}`), metav1.PatchOptions{})
		denied("patch "+name, err)
		denied("delete "+name, client.Delete(ctx, "there", metav1.DeleteOptions{}))
		denied("delete in a dry run "+name, client.Delete(ctx, "there", metav1.DeleteOptions{DryRun: dryRun}))
		denied("delete all "+name, client.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}))
		after, err := s.resource(s.Admin(), name).List(ctx, metav1.ListOptions{LabelSelector: "color!=red"})
		require.NoError(s.t, err)
		assert.True(s.t, slices.ContainsFunc(after.Items, func(u unstructured.Unstructured) bool {
			return u.GetUID() == before[name] && u.GetDeletionTimestamp() == nil
		}), "%s is unchanged", name)
		assert.False(s.t, slices.ContainsFunc(after.Items, func(u unstructured.Unstructured) bool { return u.GetName() == "new" }), name)
	}
	_, err := s.as(user).MetalStackMachines(s.Namespace).RequestPower(ctx, "there", &v1alpha4.MachinePower{Spec: v1alpha4.MachinePowerSpec{Action: v1alpha4.PowerCycle, Reason: "hangs"}}, metav1.CreateOptions{})
	denied("power", err)
	metalapi := func(verb string, path ...string) error {
		return s.as(user).RESTClient().Verb(verb).Namespace(s.Namespace).Resource("metalstackclusters").Name("there").SubResource(append([]string{"metalapi", "v1"}, path...)...).Body([]byte("{}")).Do(ctx).Error()
	}
	denied("allocate an address by the metalapi", metalapi(http.MethodPost, "ip", "allocate"))
	for _, err := range []error{metalapi(http.MethodGet, "machine"), metalapi(http.MethodPost, "machine", "find")} {
		if err != nil {
			assert.NotContains(s.t, err.Error(), message, "reads are not admitted")
		}
	}

	s.eventually(func(context.Context) error {
		for _, event := range s.audited() {
			if r := event.ResponseStatus; event.User.Username == restricted && r != nil && r.Code == http.StatusForbidden && strings.Contains(r.Message, message) {
				return nil
			}
		}
		return errors.New("no refusal is in the audit log")
	})

	s.accepted(s.Admin())
	s.unbind(policy)
	s.accepted(user)
	for name := range before {
		_, err := s.resource(user, name).Patch(ctx, "there", types.MergePatchType, []byte(`{"metadata":{"labels":{"color":"red"}}}`), metav1.PatchOptions{})
		require.NoError(s.t, err, name)
	}
}

func policyWarnsAndIsAudited(s *space) {
	const message = "templates should have the label team"
	s.policy(admissionregistrationv1.ValidatingAdmissionPolicySpec{
		MatchConstraints: matching(rule("v1alpha3", create, "metalstackmachinetemplates")),
		Validations:      []admissionregistrationv1.Validation{{Expression: "has(object.metadata.labels) && 'team' in object.metadata.labels && object.apiVersion.endsWith('/v1alpha3')", Message: message}},
		AuditAnnotations: []admissionregistrationv1.AuditAnnotation{{Key: "image", ValueExpression: "string(object.spec.template.spec.image)"}},
	}, admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{ValidationActions: []admissionregistrationv1.ValidationAction{admissionregistrationv1.Warn, admissionregistrationv1.Audit}})
	config, warnings := s.Admin(), &collector{}
	config.WarningHandler = warnings
	s.eventually(func(ctx context.Context) error {
		if _, err := s.tryTemplate(ctx, config); err != nil {
			return err
		}
		if !warnings.has(message) {
			return errors.New("no warning")
		}
		return nil
	})
	s.eventually(func(context.Context) error {
		for _, event := range s.audited() {
			failure := event.Annotations["validation.policy.admission.k8s.io/validation_failure"]
			if strings.Contains(failure, message) {
				assert.Equal(s.t, simulator.MachineImage, event.Annotations[s.Namespace+".example.com/image"])
				return nil
			}
		}
		return errors.New("it is in no audit event")
	})
}

// audited are the server's audit events of the namespace.
func (s *space) audited() (events []auditv1.Event) {
	s.t.Helper()
	log, err := os.Open(filepath.Join(s.dir, auditLog))
	require.NoError(s.t, err)
	defer log.Close()
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var event auditv1.Event
		// The last line may not be complete yet.
		if json.Unmarshal(lines.Bytes(), &event) == nil && event.ObjectRef != nil && event.ObjectRef.Namespace == s.Namespace {
			events = append(events, event)
		}
	}
	return events
}

func policyReadsParametersThatAreGranted(s *space) {
	_, err := s.Client().CoreV1().ConfigMaps(s.Namespace).Create(s.t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "images"}, Data: map[string]string{"message": "by the parameter"},
	}, metav1.CreateOptions{})
	require.NoError(s.t, err)
	s.policy(admissionregistrationv1.ValidatingAdmissionPolicySpec{
		ParamKind:        &admissionregistrationv1.ParamKind{APIVersion: "v1", Kind: "ConfigMap"},
		MatchConstraints: matching(rule("*", create, "metalstackmachinetemplates")),
		Validations:      []admissionregistrationv1.Validation{{Expression: "false", MessageExpression: "'refused ' + params.data.message"}},
	}, admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{ParamRef: &admissionregistrationv1.ParamRef{
		Name: "images", Namespace: s.Namespace, ParameterNotFoundAction: ptr.To(admissionregistrationv1.DenyAction),
	}})
	s.refused(s.Admin(), admission.ParamsLabel)
	_, err = s.Client().RbacV1().ClusterRoles().Create(s.t.Context(), &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "params-of-" + s.Namespace, Labels: map[string]string{admission.ParamsLabel: "true"}},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"get", "list", "watch"}}},
	}, metav1.CreateOptions{})
	require.NoError(s.t, err)
	s.refused(s.Admin(), "refused by the parameter")
}

func mutatingPolicyChangesObjects(s *space) {
	s.SkipBefore(s.t, 36, "MutatingAdmissionPolicy of admissionregistration.k8s.io/v1")
	api := s.Client().AdmissionregistrationV1()
	policy, err := api.MutatingAdmissionPolicies().Create(s.t.Context(), &admissionregistrationv1.MutatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: s.Namespace + ".example.com"},
		Spec: admissionregistrationv1.MutatingAdmissionPolicySpec{
			FailurePolicy: ptr.To(admissionregistrationv1.Fail), ReinvocationPolicy: admissionregistrationv1.NeverReinvocationPolicy,
			MatchConstraints: &admissionregistrationv1.MatchResources{
				NamespaceSelector: s.here(),
				ResourceRules:     []admissionregistrationv1.NamedRuleWithOperations{{RuleWithOperations: rule("v1alpha4", create, "metalstackmachinetemplates")}},
			},
			Mutations: []admissionregistrationv1.Mutation{
				{PatchType: admissionregistrationv1.PatchTypeApplyConfiguration, ApplyConfiguration: &admissionregistrationv1.ApplyConfiguration{
					Expression: `Object{metadata: Object.metadata{labels: Object.metadata.labels{team: request.namespace}}}`,
				}},
				{PatchType: admissionregistrationv1.PatchTypeJSONPatch, JSONPatch: &admissionregistrationv1.JSONPatch{
					Expression: `[JSONPatch{op: "add", path: "/metadata/annotations", value: {"by": request.userInfo.username}}]`,
				}},
			},
		},
	}, metav1.CreateOptions{})
	require.NoError(s.t, err)
	_, err = api.MutatingAdmissionPolicyBindings().Create(s.t.Context(), &admissionregistrationv1.MutatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: policy.Name}, Spec: admissionregistrationv1.MutatingAdmissionPolicyBindingSpec{PolicyName: policy.Name},
	}, metav1.CreateOptions{})
	require.NoError(s.t, err)
	s.eventually(func(ctx context.Context) error {
		tried, err := s.tryTemplate(ctx, s.Admin())
		if err == nil && tried.Labels["team"] != s.Namespace {
			err = fmt.Errorf("no label: %v", tried.Labels)
		}
		return err
	})
	created, err := s.as(s.User(restricted)).MetalStackMachineTemplates(s.Namespace).Create(s.t.Context(), objects.MachineTemplate("labelled"), metav1.CreateOptions{})
	require.NoError(s.t, err)
	assert.Equal(s.t, s.Namespace, created.Labels["team"])
	assert.Equal(s.t, restricted, created.Annotations["by"])
	assert.Equal(s.t, simulator.MachineImage, created.Spec.Template.Spec.Image, "nothing else is changed")
}
