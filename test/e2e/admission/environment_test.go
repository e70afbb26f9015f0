// SPDX-License-Identifier: Apache-2.0

// Package admission_test holds that a cluster's policies and webhooks, which the
// kube-apiserver applies to its own kinds, are applied to ours, and see no secret.
package admission_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"

	typed "metal-stack.io/infrastructure-apiserver/generated/clientset/versioned/typed/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
)

const (
	// limit is how long anything may take that is waited for.
	limit = time.Minute
	// restricted is a user who may everything by RBAC, and whom policies restrict.
	restricted = "mallory"
	auditLog   = "audit.log"
	// gpuSize is one that the policy in the documentation restricts.
	gpuSize = "g1-large-x86"
)

func TestMain(m *testing.M) { os.Exit(cluster.Main(m)) }

// environment is a cluster that all tests share, each in a namespace of its own.
type environment struct {
	*cluster.Cluster
	dir string
}

func TestAdmission(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*space){
		"Documentation_HasValidExamples":          documentationHasValidExamples,
		"Policy_DeniesEveryKindAndVerb":           policyDeniesEveryKindAndVerb,
		"Policy_WarnsAndIsAudited":                policyWarnsAndIsAudited,
		"Policy_ReadsParametersThatAreGranted":    policyReadsParametersThatAreGranted,
		"MutatingPolicy_ChangesObjects":           mutatingPolicyChangesObjects,
		"Webhooks_SeeObjectsAndNoSecret":          webhooksSeeObjectsAndNoSecret,
		"Webhook_ThatIsAwayIsBounded":             webhookThatIsAwayIsBounded,
		"Quota_IsNotUsedByWhatPoliciesDeny":       quotaIsNotUsedByWhatPoliciesDeny,
		"Release_IsNotHeldUpByPolicyOfFinalizers": releaseIsNotHeldUpByPolicyOfFinalizers,
	}
	dc := simulator.DefaultDataCentre(8)
	dc.Sizes = append(dc.Sizes, simulator.Size{ID: gpuSize, Name: gpuSize, MinCores: 128, MaxCores: 256, MinMemory: 1 << 40, MaxMemory: 2 << 40, MinStorage: 8 << 40, MaxStorage: 16 << 40})
	opts := cluster.Options{Simulator: simulator.Config{DataCentre: dc}, ControllerManager: true}
	teams := opts.AddTeams(len(tests))
	env := &environment{dir: t.TempDir()}
	policy := filepath.Join(env.dir, "policy.yaml")
	require.NoError(t, os.WriteFile(policy, []byte("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata, omitStages: [RequestReceived], verbs: [create]}]\n"), 0o600))
	opts.Flags = []string{"--audit-policy-file=" + policy, "--audit-log-path=" + filepath.Join(env.dir, auditLog)}
	env.Cluster = cluster.Start(t, opts)
	_, err := env.Client().RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: restricted},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: restricted}},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	// The kube-apiserver learns of the binding some time after it is created.
	framework.Eventually(t, limit, func(ctx context.Context) error {
		_, err := env.Metalstack(t, env.User(restricted)).InfrastructureV1alpha4().MetalStackMachines(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
		return err
	})
	for name, test := range tests {
		team := teams[0]
		teams = teams[1:]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(env.space(t, team))
		})
	}
}

// space is the namespace of one test.
type space struct {
	*environment
	t *testing.T
	cluster.Team
}

func (env *environment) space(t *testing.T, team cluster.Team) *space {
	t.Helper()
	env.Bind(t, team.Namespace, team.Project)
	return &space{environment: env, t: t, Team: team}
}

// as is a client of our kinds as a user.
func (s *space) as(config *rest.Config) typed.InfrastructureV1alpha4Interface {
	return s.Metalstack(s.t, config).InfrastructureV1alpha4()
}

func (s *space) eventually(condition func(ctx context.Context) error) {
	s.t.Helper()
	framework.Eventually(s.t, limit, condition)
}

// paused are annotations that keep the controller manager from an object.
func paused() map[string]string { return map[string]string{infrastructure.PausedAnnotation: "true"} }

func pausedMachine(name string) *v1alpha4.MetalStackMachine {
	return objects.Machine(name, objects.InDefaultPartition, func(m *v1alpha4.MetalStackMachine) { m.Annotations = paused() })
}

// tryTemplate is a dry run of a creation, by which a test sees whether a policy or webhook is
// applied already.
func (s *space) tryTemplate(ctx context.Context, config *rest.Config) (*v1alpha4.MetalStackMachineTemplate, error) {
	return s.as(config).MetalStackMachineTemplates(s.Namespace).Create(ctx, objects.MachineTemplate("try"), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
}

// refused waits until the creation of a template is refused with a message.
func (s *space) refused(config *rest.Config, message string) {
	s.t.Helper()
	s.eventually(func(ctx context.Context) error {
		if _, err := s.tryTemplate(ctx, config); err == nil || !strings.Contains(err.Error(), message) {
			return fmt.Errorf("want %q, got: %v", message, err)
		}
		return nil
	})
}

// accepted waits until the creation of a template is not refused.
func (s *space) accepted(config *rest.Config) {
	s.t.Helper()
	s.eventually(func(ctx context.Context) error {
		_, err := s.tryTemplate(ctx, config)
		return err
	})
}

// here selects the namespace of the test.
func (s *space) here() *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: s.Namespace}}
}

// rule is one for resources of our group, of a version or of all.
func rule(version string, operations []admissionregistrationv1.OperationType, resources ...string) admissionregistrationv1.RuleWithOperations {
	return admissionregistrationv1.RuleWithOperations{
		Operations: operations,
		Rule:       admissionregistrationv1.Rule{APIGroups: []string{infrastructure.GroupName}, APIVersions: []string{version}, Resources: resources},
	}
}

var (
	every  = []admissionregistrationv1.OperationType{admissionregistrationv1.OperationAll}
	create = []admissionregistrationv1.OperationType{admissionregistrationv1.Create}
)

// policy creates a ValidatingAdmissionPolicy, with a binding, for the namespace of the test.
func (s *space) policy(spec admissionregistrationv1.ValidatingAdmissionPolicySpec, binding admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec) string {
	s.t.Helper()
	spec.FailurePolicy = ptr.To(admissionregistrationv1.Fail)
	spec.MatchConstraints.NamespaceSelector = s.here()
	api := s.Client().AdmissionregistrationV1()
	policy, err := api.ValidatingAdmissionPolicies().Create(s.t.Context(), &admissionregistrationv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: s.Namespace + ".example.com"}, Spec: spec,
	}, metav1.CreateOptions{})
	require.NoError(s.t, err)
	binding.PolicyName = policy.Name
	if binding.ValidationActions == nil {
		binding.ValidationActions = []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny}
	}
	_, err = api.ValidatingAdmissionPolicyBindings().Create(s.t.Context(), &admissionregistrationv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: policy.Name}, Spec: binding,
	}, metav1.CreateOptions{})
	require.NoError(s.t, err)
	return policy.Name
}

// unbind ends a policy.
func (s *space) unbind(policy string) {
	s.t.Helper()
	require.NoError(s.t, s.Client().AdmissionregistrationV1().ValidatingAdmissionPolicyBindings().Delete(s.t.Context(), policy, metav1.DeleteOptions{}))
}

func matching(rules ...admissionregistrationv1.RuleWithOperations) *admissionregistrationv1.MatchResources {
	m := &admissionregistrationv1.MatchResources{}
	for _, r := range rules {
		m.ResourceRules = append(m.ResourceRules, admissionregistrationv1.NamedRuleWithOperations{RuleWithOperations: r})
	}
	return m
}

// by is a match condition for requests of a user.
func by(user string) []admissionregistrationv1.MatchCondition {
	return []admissionregistrationv1.MatchCondition{{Name: "by", Expression: fmt.Sprintf("request.userInfo.username == %q", user)}}
}
