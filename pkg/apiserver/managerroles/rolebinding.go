// SPDX-License-Identifier: Apache-2.0

package managerroles

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	rbacapply "k8s.io/client-go/applyconfigurations/rbac/v1"
	"k8s.io/klog/v2"
)

// apply creates or corrects the RoleBinding of a namespace.
func (c *Controller) apply(ctx context.Context, namespace string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	account, roleRef := c.subject(), c.roleRef()
	wanted := rbacapply.RoleBinding(c.Role.Name, namespace).
		WithLabels(map[string]string{ManagedByLabel: ManagedBy}).
		WithRoleRef(rbacapply.RoleRef().WithAPIGroup(roleRef.APIGroup).WithKind(roleRef.Kind).WithName(roleRef.Name)).
		WithSubjects(rbacapply.Subject().WithKind(account.Kind).WithName(account.Name).WithNamespace(account.Namespace))
	_, err := c.Client.RbacV1().RoleBindings(namespace).Apply(ctx, wanted, metav1.ApplyOptions{FieldManager: c.Role.fieldManager, Force: true})
	c.countCall("apply", err)
	switch {
	case apierrors.IsNotFound(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil // The namespace is being deleted.
	case err != nil:
		return fmt.Errorf("failed to grant ServiceAccount %s/%s the ClusterRole %s in namespace %q: %w", account.Namespace, account.Name, c.Role.Name, namespace, err)
	}
	klog.FromContext(ctx).Info("Granted a role to the controller manager", "namespace", namespace, "role", c.Role.Name)
	return nil
}

// revoke deletes a RoleBinding of this package, unless it has been changed meanwhile.
func (c *Controller) revoke(ctx context.Context, b *rbacv1.RoleBinding) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := c.Client.RbacV1().RoleBindings(b.Namespace).Delete(ctx, b.Name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &b.UID, ResourceVersion: &b.ResourceVersion},
	})
	c.countCall("delete", err)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("failed to delete RoleBinding %s/%s: %w", b.Namespace, b.Name, err)
	}
	klog.FromContext(ctx).Info("Revoked a role of the controller manager", "namespace", b.Namespace, "role", c.Role.Name)
	return nil
}

// isTransient returns whether an error is not about the namespace, but about the
// connection to the cluster.
func isTransient(err error) bool {
	if err == nil || errors.Is(err, errNameTaken) || errors.Is(err, errReservedNamespace) {
		return false
	}
	code := statusCode(err)
	return code < http.StatusBadRequest || code == http.StatusTooManyRequests || code >= http.StatusInternalServerError
}

// statusCode is the HTTP status code of an answer, and 0 if there was none.
func statusCode(err error) int {
	if err == nil {
		return http.StatusOK
	}
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return int(status.Status().Code)
	}
	return 0
}

func (c *Controller) countCall(verb string, err error) {
	calls.WithLabelValues(c.Role.Name, verb, strconv.Itoa(statusCode(err))).Inc()
}
