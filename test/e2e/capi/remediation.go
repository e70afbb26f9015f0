// SPDX-License-Identifier: Apache-2.0

package capi

import (
	"context"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// CheckHealthy returns an error unless a Machine is well, and so is its Node, with nothing
// left of a remediation.
func (tenant *Tenant) CheckHealthy(ctx context.Context, machine *clusterv1.Machine, workload *Workload) error {
	now := &clusterv1.Machine{}
	if err := tenant.Client.Get(ctx, client.ObjectKeyFromObject(machine), now); err != nil {
		return err
	}
	if now.UID != machine.UID || now.DeletionTimestamp != nil {
		return fmt.Errorf("machine %s is replaced", machine.Name)
	}
	if !meta.IsStatusConditionTrue(now.Status.Conditions, clusterv1.MachineHealthCheckSucceededCondition) {
		return fmt.Errorf("machine %s is not healthy; %s", machine.Name, tenant.remediation(ctx, machine))
	}
	if err := workload.CheckNode(ctx, now.Status.NodeRef.Name); err != nil {
		return fmt.Errorf("%w; %s", err, tenant.remediation(ctx, machine))
	}
	err := tenant.Client.Get(ctx, client.ObjectKeyFromObject(machine), &v1alpha4.MetalStackRemediation{})
	if !apierrors.IsNotFound(err) {
		return fmt.Errorf("the remediation is left (%v): %s", err, tenant.remediation(ctx, machine))
	}
	return nil
}

// remediation describes the remediation of a Machine.
func (tenant *Tenant) remediation(ctx context.Context, machine *clusterv1.Machine) string {
	remediation := &v1alpha4.MetalStackRemediation{}
	if err := tenant.Client.Get(ctx, client.ObjectKeyFromObject(machine), remediation); err != nil {
		return err.Error()
	}
	text := fmt.Sprintf("remediation %s: %s, attempt %d, finalizers %v", remediation.Name, remediation.Status.Phase, remediation.Status.Attempt, remediation.Finalizers)
	for _, condition := range remediation.Status.Conditions {
		text += fmt.Sprintf("; %s: %s, %s", condition.Type, condition.Reason, strings.ReplaceAll(condition.Message, "\n", " "))
	}
	return text
}
