// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"context"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1apply "k8s.io/client-go/applyconfigurations/core/v1"
	rbacapply "k8s.io/client-go/applyconfigurations/rbac/v1"
	"k8s.io/client-go/kubernetes"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
)

func serverUses(pod, bound, unbound string) []use {
	const manager = cluster.Manager
	image := `{"spec":{"containers":[{"name":"manager","image":"evil"}]}}`
	right := func() *rbacapply.RoleBindingApplyConfiguration {
		return roleBinding(bootstrapRole, bootstrapRole, manager, cluster.Namespace)
	}
	return append(secretUses(bound, unbound), []use{
		{"read its serving certificate", true, getSecret(cluster.Namespace, servingSecret)},
		{"read a Secret of a bound namespace", false, getSecret(bound, "a-bootstrap")},
		{"have its Secret filled with a token", false, patchSecret(`{"metadata":{"annotations":{"kubernetes.io/service-account.name":"` + manager + `"}}}`)},
		{"write its serving certificate", true, patchSecret(`{"data":{"x":"eA=="}}`)},

		{"label a Pod", true, patchPod(cluster.Namespace, pod, `{"metadata":{"labels":{"`+activeLabel+`":"true"}}}`)},
		{"take the label off", true, patchPod(cluster.Namespace, pod, `{"metadata":{"labels":{"`+activeLabel+`":null}}}`)},
		{"change a Pod's image", false, patchPod(cluster.Namespace, pod, image)},
		{"change a Pod's image with the label", false, patchPod(cluster.Namespace, pod, `{"metadata":{"labels":{"`+activeLabel+`":"true"}},`+image[1:])},
		{"change another label", false, patchPod(cluster.Namespace, pod, `{"metadata":{"labels":{"app.kubernetes.io/name":"x"}}}`)},
		{"add a label", false, patchPod(cluster.Namespace, pod, `{"metadata":{"labels":{"x":""}}}`)},
		{"take another label off", false, patchPod(cluster.Namespace, pod, `{"metadata":{"labels":{"app.kubernetes.io/name":null}}}`)},
		{"annotate a Pod", false, patchPod(cluster.Namespace, pod, `{"metadata":{"annotations":{"x":"y"}}}`)},
		{"hold a Pod by a finalizer", false, patchPod(cluster.Namespace, pod, `{"metadata":{"finalizers":["x.example/y"]}}`)},
		{"delete a Pod", false, func(ctx context.Context, c kubernetes.Interface) error {
			return c.CoreV1().Pods(cluster.Namespace).Delete(ctx, pod, dryDelete)
		}},
		{"create a Pod", false, func(ctx context.Context, c kubernetes.Interface) error {
			_, err := c.CoreV1().Pods(cluster.Namespace).Apply(ctx, corev1apply.Pod("evil", cluster.Namespace).
				WithSpec(corev1apply.PodSpec().WithContainers(corev1apply.Container().WithName("x").WithImage("evil"))), dryApply)
			return err
		}},

		{"bind the controller manager in a bound namespace", true, bind(bound, right())},
		{"bind it to its second role", true, bind(bound, roleBinding(accessRole, accessRole, manager, cluster.Namespace))},
		{"bind it to the second role in an unbound namespace", false, bind(unbound, roleBinding(accessRole, accessRole, manager, cluster.Namespace))},
		{"bind it in an unbound namespace", false, bind(unbound, right())},
		{"bind it in the server's namespace", false, bind(cluster.Namespace, right())},
		{"bind it in kube-system", false, bind(metav1.NamespaceSystem, right())},
		{"bind it to another role", false, bind(bound, roleBinding(bootstrapRole, "admin", manager, cluster.Namespace))},
		{"bind another account", false, bind(bound, roleBinding(bootstrapRole, bootstrapRole, cluster.APIServer, cluster.Namespace))},
		{"bind the account of that name of another namespace", false, bind(bound, roleBinding(bootstrapRole, bootstrapRole, manager, bound))},
		{"bind a user, too", false, bind(bound, right().WithSubjects(rbacapply.Subject().WithKind("User").WithAPIGroup(rbacv1.GroupName).WithName("thief")))},
		{"bind a user of that name", false, bind(bound, rbacapply.RoleBinding(bootstrapRole, bound).WithLabels(right().Labels).WithRoleRef(right().RoleRef).
			WithSubjects(rbacapply.Subject().WithKind("User").WithAPIGroup(rbacv1.GroupName).WithName(manager)))},
		{"bind under another name", false, bind(bound, roleBinding("mine", bootstrapRole, manager, cluster.Namespace))},
		{"bind without the label", false, bind(bound, right().WithLabels(map[string]string{"app.kubernetes.io/managed-by": "x"}))},
		{"create a RoleBinding by POST", false, func(ctx context.Context, c kubernetes.Interface) error {
			_, err := c.RbacV1().RoleBindings(bound).Create(ctx, &rbacv1.RoleBinding{
				ObjectMeta: metav1.ObjectMeta{Name: "x"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: bootstrapRole},
			}, dryCreate)
			return err
		}},
		{"bind everywhere", false, func(ctx context.Context, c kubernetes.Interface) error {
			_, err := c.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
				ObjectMeta: metav1.ObjectMeta{Name: bootstrapRole}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: bootstrapRole},
				Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: manager, Namespace: cluster.Namespace}},
			}, dryCreate)
			return err
		}},
		{"widen the role", false, func(ctx context.Context, c kubernetes.Interface) error {
			_, err := c.RbacV1().ClusterRoles().Patch(ctx, bootstrapRole, types.MergePatchType, []byte(`{"rules":[{"apiGroups":["*"],"resources":["*"],"verbs":["*"]}]}`), dryPatch)
			return err
		}},
		{"delete another RoleBinding", false, func(ctx context.Context, c kubernetes.Interface) error {
			return c.RbacV1().RoleBindings(cluster.Namespace).Delete(ctx, cluster.APIServer, dryDelete)
		}},
		{"read the policy", true, func(ctx context.Context, c kubernetes.Interface) error {
			_, err := c.AdmissionregistrationV1().ValidatingAdmissionPolicies().Get(ctx, "metalstack-apiserver-rolebindings", metav1.GetOptions{})
			return err
		}},
		{"read the policy's binding", true, func(ctx context.Context, c kubernetes.Interface) error {
			_, err := c.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings().Get(ctx, "metalstack-apiserver-rolebindings", metav1.GetOptions{})
			return err
		}},
		{"read all policies", true, func(ctx context.Context, c kubernetes.Interface) error {
			_, err := c.AdmissionregistrationV1().ValidatingAdmissionPolicies().List(ctx, metav1.ListOptions{})
			return err
		}},
		// Kubernetes before v1.36 does not serve them.
		{"read all mutating policies", true, func(ctx context.Context, c kubernetes.Interface) error {
			return allowed(ctx, c, authorizationv1.ResourceAttributes{Verb: "list", Group: "admissionregistration.k8s.io", Resource: "mutatingadmissionpolicies"})
		}},
		{"read all webhooks", true, func(ctx context.Context, c kubernetes.Interface) error {
			_, err := c.AdmissionregistrationV1().MutatingWebhookConfigurations().List(ctx, metav1.ListOptions{})
			return err
		}},
		{"change a webhook", false, func(ctx context.Context, c kubernetes.Interface) error {
			return allowed(ctx, c, authorizationv1.ResourceAttributes{Verb: "patch", Group: "admissionregistration.k8s.io", Resource: "validatingwebhookconfigurations"})
		}},
		{"read parameters of policies without a grant", false, func(ctx context.Context, c kubernetes.Interface) error {
			return allowed(ctx, c, authorizationv1.ResourceAttributes{Verb: "list", Resource: "configmaps"})
		}},
		{"change the policy", false, func(ctx context.Context, c kubernetes.Interface) error {
			_, err := c.AdmissionregistrationV1().ValidatingAdmissionPolicies().Patch(ctx, "metalstack-apiserver-rolebindings", types.MergePatchType, []byte(`{"spec":{"failurePolicy":"Ignore"}}`), dryPatch)
			return err
		}},
		{"take the policy away", false, func(ctx context.Context, c kubernetes.Interface) error {
			return c.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings().Delete(ctx, "metalstack-apiserver-rolebindings", dryDelete)
		}},

		{"write a record", true, writeConfigMap(cluster.Namespace, "record-x")},
		{"write another ConfigMap of its namespace", false, writeConfigMap(cluster.Namespace, "x")},
		{"delete the authority that Pods trust", false, func(ctx context.Context, c kubernetes.Interface) error {
			return c.CoreV1().ConfigMaps(cluster.Namespace).Delete(ctx, "kube-root-ca.crt", dryDelete)
		}},
		{"delete all ConfigMaps of its namespace", false, func(ctx context.Context, c kubernetes.Interface) error {
			return c.CoreV1().ConfigMaps(cluster.Namespace).DeleteCollection(ctx, dryDelete, metav1.ListOptions{})
		}},
		{"create a ConfigMap whose name is generated", false, func(ctx context.Context, c kubernetes.Interface) error {
			_, err := c.CoreV1().ConfigMaps(cluster.Namespace).Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "x-"}}, dryCreate)
			return err
		}},
		{"write a ConfigMap of a tenant", false, writeConfigMap(bound, "record-x")},
		{"take the controller manager's Lease", false, patchLease(manager)},
		{"bind a namespace to a project", false, func(ctx context.Context, c kubernetes.Interface) error {
			_, err := c.CoreV1().Namespaces().Patch(ctx, unbound, types.MergePatchType, []byte(`{"metadata":{"labels":{"`+infrastructure.ProjectLabel+`":"x"}}}`), dryPatch)
			return err
		}},
		{"patch another APIService", false, func(ctx context.Context, c kubernetes.Interface) error {
			return allowed(ctx, c, authorizationv1.ResourceAttributes{Verb: "patch", Group: "apiregistration.k8s.io", Resource: "apiservices", Name: "v1."})
		}},
		{"delete the APIService of firewall-controllers, which a flag turns off", true, func(ctx context.Context, c kubernetes.Interface) error {
			return allowed(ctx, c, authorizationv1.ResourceAttributes{Verb: "delete", Group: "apiregistration.k8s.io", Resource: "apiservices", Name: "v2.firewall.metal-stack.io"})
		}},
		{"delete another APIService", false, func(ctx context.Context, c kubernetes.Interface) error {
			return allowed(ctx, c, authorizationv1.ResourceAttributes{Verb: "delete", Group: "apiregistration.k8s.io", Resource: "apiservices", Name: "v1alpha4.infrastructure.cluster.x-k8s.io"})
		}},
		{"read the Firewalls that it serves", false, func(ctx context.Context, c kubernetes.Interface) error {
			return allowed(ctx, c, authorizationv1.ResourceAttributes{Verb: "get", Group: "firewall.metal-stack.io", Resource: "firewalls", Namespace: "default"})
		}},
		{"impersonate", false, func(ctx context.Context, c kubernetes.Interface) error {
			return allowed(ctx, c, authorizationv1.ResourceAttributes{Verb: "impersonate", Resource: "users", Name: "admin"})
		}},
	}...)
}
