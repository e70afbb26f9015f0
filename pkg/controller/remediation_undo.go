// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

// undo undoes what a remediation that is being deleted has done, and lets it go.
func undo(ctx context.Context, r *remediationRun) (bool, error) {
	if !controllerutil.ContainsFinalizer(r.obj, infrastructure.RemediationFinalizer) {
		r.gone = true
		return false, nil
	}
	if done, err := r.undoChanges(ctx); err != nil || !done {
		return false, err
	}
	if err := r.release(ctx); err != nil {
		return false, err
	}
	r.connections.forget(ctrl.Request{NamespacedName: client.ObjectKey{Namespace: r.obj.Namespace, Name: r.clusterName()}})
	r.gone = true
	return false, nil
}

// undoChanges takes the taint off, and has the machine switched on; false if it has to be tried
// again.
func (r *remediationRun) undoChanges(ctx context.Context) (bool, error) {
	if r.obj.Status.FencedNode != "" {
		if err := r.unfence(ctx); err != nil && !r.hasNoWorkloadCluster(err) {
			return r.retry(infrastructure.ReasonWorkloadClusterUnavailable, "The out-of-service taint cannot be taken off Node %s: %s", r.obj.Status.FencedNode, describeConnectError(err))
		}
		if err := r.recordUnfenced(ctx); err != nil {
			return false, err
		}
	}
	if !r.obj.Status.PoweredOff {
		return true, nil
	}
	if r.mayPowerOn() {
		answer, err := r.ask(ctx, v1alpha4.PowerOn, idOn)
		switch {
		case answer == powerUnavailable:
			return r.retry(infrastructure.ReasonMetalAPIUnavailable, "The machine cannot be asked to switch on: %v", err)
		case answer == powerBusy, answer == powerRefused && r.clock.Since(r.undoBegan()) < r.timeout():
			r.wait = waitFor(powerRetryAfter(err), infrastructure.ReasonPowerRefused, "The machine cannot be asked to switch on: %v", err)
			return false, nil
		case answer == powerRefused:
			r.machineEvent(corev1.EventTypeWarning, infrastructure.ReasonPowerRefused, "The machine may be off, and was not switched on: "+oneline.Sanitize(err.Error(), oneline.MaxNote/2))
		}
	}
	return true, r.record(ctx, func(s *v1alpha4.MetalStackRemediationStatus) { s.PoweredOff = false })
}

// mayPowerOn returns whether the machine is the one that was switched off, and is not going.
func (r *remediationRun) mayPowerOn() bool {
	return (r.machine == nil || r.machine.DeletionTimestamp == nil) && r.metal != nil && r.metal.DeletionTimestamp == nil && r.lostMetal() == ""
}

// undoBegan is since when a deletion is undone.
func (r *remediationRun) undoBegan() time.Time {
	if t := r.obj.DeletionTimestamp; t != nil {
		return t.Time
	}
	return r.phaseBegan()
}

// hasNoWorkloadCluster returns whether a workload cluster that cannot be used is gone, or going for
// so long that the Node goes with it.
func (r *remediationRun) hasNoWorkloadCluster(err error) bool {
	switch {
	case r.cluster == nil:
		return true
	case r.machine != nil && r.machine.DeletionTimestamp == nil:
		return false
	case r.cluster.DeletionTimestamp != nil:
		return errors.Is(err, errNoKubeconfig) || r.isOldDeletion(r.cluster.DeletionTimestamp)
	}
	return r.obj.DeletionTimestamp != nil && r.isOldDeletion(r.obj.DeletionTimestamp)
}

func (r *remediationRun) isOldDeletion(t *metav1.Time) bool {
	return r.clock.Since(t.Time) >= cleanupTimeout
}
