// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
)

func quotaIsNotUsedByWhatPoliciesDeny(s *space) {
	const counted, message = corev1.ResourceName("count/metalstackmachinetemplates.infrastructure.cluster.x-k8s.io"), "this user may create nothing"
	one, none := resource.MustParse("1"), resource.MustParse("0")
	quotas := s.Client().CoreV1().ResourceQuotas(s.Namespace)
	quota, err := quotas.Create(s.t.Context(), &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "few"}, Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{counted: one}}}, metav1.CreateOptions{})
	require.NoError(s.t, err)
	// The controller of quotas learns of our kinds later; what it would write is written here.
	s.eventually(func(ctx context.Context) error {
		current, err := quotas.Get(ctx, quota.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if _, known := current.Status.Used[counted]; known {
			return nil
		}
		current.Status = corev1.ResourceQuotaStatus{Hard: quota.Spec.Hard, Used: corev1.ResourceList{counted: none}}
		_, err = quotas.UpdateStatus(ctx, current, metav1.UpdateOptions{})
		return errors.Join(errors.New("nothing is counted yet"), err)
	})
	s.policy(admissionregistrationv1.ValidatingAdmissionPolicySpec{
		MatchConstraints: matching(rule("*", create, "metalstackmachinetemplates")), MatchConditions: by(restricted),
		Validations: []admissionregistrationv1.Validation{{Expression: "false", Message: message}},
	}, admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{})
	s.refused(s.User(restricted), message)
	templates := s.as(s.Admin()).MetalStackMachineTemplates(s.Namespace)
	for range 3 {
		_, err := s.as(s.User(restricted)).MetalStackMachineTemplates(s.Namespace).Create(s.t.Context(), objects.MachineTemplate("denied"), metav1.CreateOptions{})
		require.True(s.t, apierrors.IsInvalid(err), "%v", err)
	}
	_, err = templates.Create(s.t.Context(), objects.MachineTemplate("first"), metav1.CreateOptions{})
	require.NoError(s.t, err, "what was denied has used nothing")
	_, err = templates.Create(s.t.Context(), objects.MachineTemplate("second"), metav1.CreateOptions{})
	require.ErrorContains(s.t, err, "exceeded quota: few")
	_, err = s.as(s.User(restricted)).MetalStackMachineTemplates(s.Namespace).Create(s.t.Context(), objects.MachineTemplate("denied"), metav1.CreateOptions{})
	require.ErrorContains(s.t, err, message, "policies come first")
}

// A policy can keep an object, as one of the controller manager's requests to take the
// finalizer off, but not its metal: an allocation and a release are no matter of policies,
// and what the server records of them is no request.
func releaseIsNotHeldUpByPolicyOfFinalizers(s *space) {
	const message = "finalizers and records stay, and nothing is deleted"
	ctx, client := s.t.Context(), s.as(s.Admin())
	_, err := client.MetalStackClusters(s.Namespace).Create(ctx, objects.Cluster("c"), metav1.CreateOptions{})
	require.NoError(s.t, err)
	policy := s.policy(admissionregistrationv1.ValidatingAdmissionPolicySpec{
		MatchConstraints: matching(rule("*", every, "metalstackmachines", "metalstackmachines/status", "metalstackmachinetemplates")),
		MatchConditions: []admissionregistrationv1.MatchCondition{{Name: "by", Expression: fmt.Sprintf(
			"request.userInfo.username in [%q, %q]", "system:serviceaccount:"+cluster.Namespace+":"+cluster.Manager, restricted)}},
		Validations: []admissionregistrationv1.Validation{{Message: message, Expression: "request.operation == 'UPDATE' && " +
			"object.metadata.?finalizers.orValue([]).size() == oldObject.metadata.?finalizers.orValue([]).size() && " +
			"object.?status.?allocation == oldObject.?status.?allocation"}},
	}, admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{})
	s.refused(s.User(restricted), message)
	_, err = client.MetalStackMachines(s.Namespace).Create(ctx, objects.Machine("node-1", objects.OfCluster("c")), metav1.CreateOptions{})
	require.NoError(s.t, err)
	var id string
	s.eventually(func(ctx context.Context) error {
		m, err := client.MetalStackMachines(s.Namespace).Get(ctx, "node-1", metav1.GetOptions{})
		if err == nil && (m.Status.Allocation == nil || m.Status.Allocation.Phase != v1alpha4.AllocationAllocated) {
			err = fmt.Errorf("not allocated: %v", m.Status.Conditions)
		}
		if err == nil {
			id = m.Status.Allocation.MachineID
		}
		return err
	})

	err = s.as(s.User(restricted)).MetalStackMachines(s.Namespace).Delete(ctx, "node-1", metav1.DeleteOptions{})
	require.ErrorContains(s.t, err, message)
	require.NoError(s.t, client.MetalStackMachines(s.Namespace).Delete(ctx, "node-1", metav1.DeleteOptions{}))
	s.eventually(func(ctx context.Context) error {
		m, err := client.MetalStackMachines(s.Namespace).Get(ctx, "node-1", metav1.GetOptions{})
		if err == nil && m.Status.Allocation.Phase != v1alpha4.AllocationReleased {
			err = fmt.Errorf("not released: %v", m.Status.Conditions)
		}
		if err == nil {
			assert.Contains(s.t, m.Finalizers, infrastructure.MachineFinalizer)
		}
		return err
	})
	for _, m := range s.Metal.Sim.Inventory().Machines {
		assert.False(s.t, m.ID == id && m.Project == s.Project, "the machine is free")
	}

	s.unbind(policy)
	s.eventually(func(ctx context.Context) error {
		_, err := client.MetalStackMachines(s.Namespace).Get(ctx, "node-1", metav1.GetOptions{})
		switch {
		case err == nil:
			return errors.New("the machine is still there")
		case apierrors.IsNotFound(err):
			return nil
		}
		return err
	})
}
