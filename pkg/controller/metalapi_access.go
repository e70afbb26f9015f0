// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

const (
	// accessCheckInterval is for how long the objects of a cluster's access to its metal-api
	// are relied on without being read. They are not watched: that would take the right to
	// list all Secrets of a namespace, and memory for them.
	accessCheckInterval = time.Minute
	// minAccessRetry is how soon they are read again while something is missing. It is
	// doubled with each time, up to accessCheckInterval.
	minAccessRetry = time.Second
)

// ManagementCluster is how workload clusters reach the API server of the management cluster.
type ManagementCluster struct {
	// URL is that of the API server, without a slash at its end; empty if it is not known.
	URL string
	// Authority returns the certificates, PEM, that verify the API server; none are those of
	// the system. Nil is none.
	Authority func() (string, error)
}

// reconcileMetalAPIAccess keeps what spec.metalAPIAccess asks for. What it waits for and
// what fails is in the cluster's condition, and holds nothing else up.
func reconcileMetalAPIAccess(ctx context.Context, r *reconciliation) (wait, error) {
	cluster := r.obj.(*v1alpha4.MetalStackCluster)
	was := meta.FindStatusCondition(cluster.Status.Conditions, infrastructure.ConditionMetalAPIAccessReady)
	// The condition is written before the first object is created, so that they are found again.
	mayExist := was != nil && was.Reason != infrastructure.ReasonNotAllocated
	allocated := allocationOf(cluster).Phase == v1alpha4.AllocationAllocated && cluster.Status.ClusterID != ""
	switch {
	case cluster.Spec.MetalAPIAccess == nil && was == nil:
	case cluster.Spec.MetalAPIAccess == nil || !allocated:
		if mayExist {
			if err := r.revokeAccess(ctx, cluster); err != nil {
				r.handleRevokeError(err)
				break
			}
		}
		r.accessRevoked = true
		if cluster.Spec.MetalAPIAccess != nil {
			r.setAccess(infrastructure.ReasonNotAllocated, "Nothing is allocated for the cluster yet")
		}
	case r.options.ManagementCluster.URL == "":
		r.setAccess(infrastructure.ReasonManagementURLMissing,
			"It is not known under which URL workload clusters reach the management cluster: an administrator has to set --management-cluster-url of the controller manager")
	case !mayExist:
		r.setAccess(infrastructure.ReasonWaitingForToken, "ServiceAccount %s is being created", accessNamesOf(cluster).account)
		r.recheckAccessAfter = minAccessRetry
	default:
		r.checkAccess(ctx, cluster)
	}
	return wait{}, nil
}

// revokeMetalAPIAccess revokes the access of a cluster that is being deleted, when nothing
// of it is left that uses it. The Secret for a ClusterResourceSet has a second owner, so the
// garbage collector alone would keep it. A failure does not hold the release up: the token
// ends with the cluster.
func revokeMetalAPIAccess(ctx context.Context, r *reconciliation) (wait, error) {
	cluster := r.obj.(*v1alpha4.MetalStackCluster)
	was := meta.FindStatusCondition(cluster.Status.Conditions, infrastructure.ConditionMetalAPIAccessReady)
	if was == nil {
		return wait{}, nil
	}
	if was.Reason != infrastructure.ReasonNotAllocated {
		if err := r.revokeAccess(ctx, cluster); err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "Failed to revoke the access to the metal-api: leaving it to the garbage collector")
			return wait{}, nil
		}
	}
	r.accessRevoked = true
	return wait{}, nil
}

func (r *reconciliation) revokeAccess(ctx context.Context, cluster *v1alpha4.MetalStackCluster) error {
	if err := r.deleteAccess(ctx, cluster); err != nil {
		return err
	}
	r.recordNormal(EventMetalAPIAccessRevoked, actionProvideAccess, "Revoked the access of the workload cluster to its metal-api")
	return nil
}

// handleRevokeError leaves the condition, by which the objects are found again.
func (r *reconciliation) handleRevokeError(err error) {
	if !apierrors.IsForbidden(err) {
		r.accessErr = err
		return
	}
	r.setAccess(infrastructure.ReasonMetalAPIAccessCreationRefused, "The access to the metal-api cannot be revoked yet: %v", err)
	r.recheckAccessAfter = inFlightRequeue
}

// checkAccess creates and corrects the objects, unless they were found as they shall be a
// moment ago.
func (r *reconciliation) checkAccess(ctx context.Context, cluster *v1alpha4.MetalStackCluster) {
	now := r.clock.Now()
	inputs := accessInputsOf(cluster, r.options.ManagementCluster.URL)
	last := r.accessChecks.get(r.request)
	if last.inputs == inputs && now.Before(last.due) {
		r.accessReady, r.recheckAccessAfter = &last.condition, last.due.Sub(now)
		return
	}
	condition, err := r.ensureAccess(ctx, cluster, inputs)
	if err != nil {
		r.accessErr = err
		return
	}
	check := accessCheck{inputs: inputs, condition: condition, interval: accessCheckInterval}
	if condition.Status != metav1.ConditionTrue {
		check.interval = minAccessRetry
		if last.inputs == inputs && last.condition.Status != metav1.ConditionTrue {
			check.interval = min(max(2*last.interval, minAccessRetry), accessCheckInterval)
		}
	}
	check.due = now.Add(check.interval)
	r.accessChecks.set(r.request, check)
	r.accessReady, r.recheckAccessAfter = &condition, check.interval
}

func (r *reconciliation) setAccess(reason, format string, args ...any) {
	r.accessReady = accessCondition(metav1.ConditionFalse, reason, fmt.Sprintf(format, args...))
}

func accessCondition(status metav1.ConditionStatus, reason, message string) *metav1.Condition {
	return &metav1.Condition{Type: infrastructure.ConditionMetalAPIAccessReady, Status: status, Reason: reason, Message: message}
}
