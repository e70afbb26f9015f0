// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
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
	// accessTimeout is how long reading and writing them may take, since allocation and
	// release come after it.
	accessTimeout = 10 * time.Second
	// maxRevocations is how often deleting them is tried before a release goes on without.
	maxRevocations = 4
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
	mayExist := mayHaveAccess(was)
	allocated := allocationOf(cluster).Phase == v1alpha4.AllocationAllocated && cluster.Status.ClusterID != ""
	switch {
	case cluster.Spec.MetalAPIAccess == nil && was == nil:
	case cluster.Spec.MetalAPIAccess == nil || !allocated:
		if mayExist && !r.revokeAccess(ctx, cluster) {
			break
		}
		r.accessRevoked = true
		if cluster.Spec.MetalAPIAccess != nil {
			r.setAccess(infrastructure.ReasonNotAllocated, "Nothing is allocated for the cluster yet")
		}
	case r.ofAnotherCluster(cluster) != "":
		if mayExist && !r.revokeAccess(ctx, cluster) {
			break
		}
		r.setAccess(infrastructure.ReasonClusterMismatch, "%s: no access is given, since it would be delivered into the workload cluster of that one", r.ofAnotherCluster(cluster))
		r.recheckAccessAfter = accessCheckInterval
	case r.options.ManagementCluster.URL == "":
		r.setAccess(infrastructure.ReasonManagementURLMissing,
			"No new access is given, and existing access stays: it is not known under which URL workload clusters reach the management cluster. An administrator has to set --management-cluster-url of the controller manager")
	case !mayExist:
		r.setAccess(infrastructure.ReasonWaitingForToken, "ServiceAccount %s is being created", accessNamesOf(cluster).account)
		r.recheckAccessAfter = minAccessRetry
	default:
		inputs := accessInputsOf(cluster, r.options.ManagementCluster.URL)
		r.checkAccess(ctx, inputs, func(ctx context.Context) metav1.Condition { return r.ensureAccess(ctx, cluster, inputs) })
	}
	return wait{}, nil
}

// mayHaveAccess returns whether objects may exist, by the condition of the last reconcile.
func mayHaveAccess(was *metav1.Condition) bool {
	return was != nil && was.Reason != infrastructure.ReasonNotAllocated && was.Reason != infrastructure.ReasonClusterMismatch
}

// ofAnotherCluster returns why the Cluster after which the Secret for a ClusterResourceSet is
// named is not the cluster's own; empty if it is.
func (r *reconciliation) ofAnotherCluster(cluster *v1alpha4.MetalStackCluster) string {
	named := clusterNameOf(cluster)
	if name := r.clusterName(); name != "" && name != named {
		return fmt.Sprintf("The label %s names Cluster %s, and the owner is Cluster %s", infrastructure.ClusterNameLabel, named, name)
	}
	if !r.ownsLabelledMembers(cluster.Name) {
		ref := r.cluster.Spec.InfrastructureRef
		return fmt.Sprintf("spec.infrastructureRef of Cluster %s names %s %s", named, ref.Kind, ref.Name)
	}
	return ""
}

// revokeRemovedAccess revokes the access of a cluster that is being deleted and has no
// spec.metalAPIAccess any more: its deletion may be held for long.
func revokeRemovedAccess(ctx context.Context, r *reconciliation) (wait, error) {
	if cluster, ok := r.obj.(*v1alpha4.MetalStackCluster); !ok || cluster.Spec.MetalAPIAccess != nil {
		return wait{}, nil
	}
	return reconcileMetalAPIAccess(ctx, r)
}

// revokeMetalAPIAccess revokes the access of a cluster that is being deleted, when nothing
// of it is left that uses it. The Secret for a ClusterResourceSet has a second owner, so the
// garbage collector alone would keep it, and a later cluster of the same name could not make
// its own. A failure that may pass holds the release up for a few attempts, and no other one.
func revokeMetalAPIAccess(ctx context.Context, r *reconciliation) (wait, error) {
	cluster, ok := r.obj.(*v1alpha4.MetalStackCluster)
	if !ok {
		return wait{}, nil
	}
	was := meta.FindStatusCondition(cluster.Status.Conditions, infrastructure.ConditionMetalAPIAccessReady)
	if was == nil || r.accessRevoked {
		return wait{}, nil
	}
	if !mayHaveAccess(was) || r.revokeAccess(ctx, cluster) {
		r.accessRevoked = true
		return wait{}, nil
	}
	last := r.accessChecks.get(r.request)
	if last.condition.Reason == infrastructure.ReasonMetalAPIAccessRequestFailed && last.failures < maxRevocations {
		return wait{message: last.condition.Message, requeueAfter: r.recheckAccessAfter}, nil
	}
	return wait{}, nil
}

// revokeAccess deletes the objects, unless that failed a moment ago, and returns whether
// none is left.
func (r *reconciliation) revokeAccess(ctx context.Context, cluster *v1alpha4.MetalStackCluster) (revoked bool) {
	r.checkAccess(ctx, accessInputs{uid: cluster.UID, names: accessNamesOf(cluster)}, func(ctx context.Context) metav1.Condition {
		errs := r.deleteAccess(ctx, cluster)
		if len(errs) == 0 {
			revoked = true
			return metav1.Condition{}
		}
		err := utilerrors.NewAggregate(errs)
		ctrl.LoggerFrom(ctx).Info("Failed to revoke the access to the metal-api", "err", err)
		reason := infrastructure.ReasonMetalAPIAccessCreationRefused
		if slices.ContainsFunc(errs, func(err error) bool {
			return accessFailure(err).Reason == infrastructure.ReasonMetalAPIAccessRequestFailed
		}) {
			reason = infrastructure.ReasonMetalAPIAccessRequestFailed
		}
		return *accessCondition(metav1.ConditionFalse, reason, fmt.Sprintf("The access to the metal-api cannot be revoked yet: %v", err))
	})
	if revoked {
		r.accessReady, r.recheckAccessAfter = nil, 0
		r.accessChecks.reset(r.request)
		r.recordNormal(EventMetalAPIAccessRevoked, actionProvideAccess, "Revoked the access of the workload cluster to its metal-api")
	}
	return revoked
}

// checkAccess does what the objects need, unless that was done a moment ago.
func (r *reconciliation) checkAccess(ctx context.Context, inputs accessInputs, do func(context.Context) metav1.Condition) {
	now := r.clock.Now()
	last := r.accessChecks.get(r.request)
	if last.inputs == inputs && now.Before(last.due) {
		r.accessReady, r.recheckAccessAfter = &last.condition, last.due.Sub(now)
		return
	}
	limited, cancel := context.WithTimeout(ctx, accessTimeout)
	defer cancel()
	condition := do(limited)
	if ctx.Err() != nil {
		return
	}
	check := accessCheck{inputs: inputs, condition: condition, interval: accessCheckInterval}
	if condition.Status != metav1.ConditionTrue {
		check.interval, check.failures = minAccessRetry, 1
		if last.inputs == inputs && last.condition.Status != metav1.ConditionTrue {
			check.interval = min(max(2*last.interval, minAccessRetry), accessCheckInterval)
			check.failures += last.failures
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
