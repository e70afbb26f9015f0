// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	// Cluster API deletes the object as soon as the Node is ready, mostly before that is seen here.
	if done, err := r.succeedBeforeDeletion(ctx); err != nil || !done {
		return false, err
	}
	if done, err := r.undoChanges(ctx); err != nil || !done {
		return false, err
	}
	if err := r.release(ctx); err != nil {
		return false, err
	}
	r.forget(r.request)
	r.gone = true
	return false, nil
}

// undoChanges has the machine switched on, and takes the taint off; false if it has to be tried
// again. Neither waits for the other: the workload cluster may not answer without the machine.
func (r *remediationRun) undoChanges(ctx context.Context) (bool, error) {
	done, err := r.undoPowerOff(ctx)
	if err != nil || r.obj.Status.FencedNode == "" {
		return done, err
	}
	if err := r.unfence(ctx); err != nil && !r.hasNoWorkloadCluster(err) {
		if !done {
			return false, nil
		}
		return r.retry(infrastructure.ReasonWorkloadClusterUnavailable, "The out-of-service taint cannot be taken off Node %s: %s", r.obj.Status.FencedNode, describeConnectError(err))
	}
	return done, r.recordUnfenced(ctx)
}

// undoPowerOff has a machine that was asked to switch off switched on, until that is certain, or for
// the timeout; false if it has to be tried again.
func (r *remediationRun) undoPowerOff(ctx context.Context) (bool, error) {
	switch {
	case !r.obj.Status.PoweredOff:
		return true, nil
	case !r.mayPowerOn():
		return true, r.recordPoweredOn(ctx)
	case r.obj.Status.Phase != v1alpha4.RemediationPoweringOn && r.obj.Status.Phase != v1alpha4.RemediationFailed:
		if err := r.enter(ctx, v1alpha4.RemediationPoweringOn, nil); err != nil {
			return false, err
		}
	}
	answer, why, err := r.askOn(ctx)
	switch {
	case err != nil:
		return false, err
	case answer == powerAsked:
		return true, r.recordPoweredOn(ctx)
	case answer == powerUnavailable:
		if isUnavailableOfServer(why) {
			r.undoing.set(r.request.NamespacedName, string(r.obj.UID), false)
		}
		return r.waitToUndo(remediationRetryInterval, infrastructure.ReasonMetalAPIUnavailable, "The machine cannot be asked to switch on: %v", why)
	case r.undoing.set(r.request.NamespacedName, string(r.obj.UID), true):
		// The timeout begins now. The phase may have begun long ago, before a pause or an outage.
		if err := r.restartPhase(ctx); err != nil {
			return false, err
		}
	}
	over, err := r.isOverAfterOutage(ctx)
	// A request that was never sent is repeated before.
	over = over && r.clock.Since(r.phaseBegan()) >= 2*powerInFlight
	switch {
	case err != nil:
		return false, err
	case !over && answer == powerRequested:
		return r.waitToUndo(powerPollInterval, infrastructure.ReasonPoweringOn, "Waiting until it is certain that the machine was asked to switch on")
	case !over:
		return r.waitToUndo(powerRetryAfter(why), infrastructure.ReasonPowerRefused, "The machine cannot be asked to switch on: %v", why)
	}
	reason := "it is not known whether it was asked to"
	if why != nil {
		reason = oneline.Sanitize(why.Error(), oneline.MaxNote/2)
	}
	if err := r.recordPoweredOn(ctx); err != nil {
		return false, err
	}
	r.machineEvent(corev1.EventTypeWarning, infrastructure.ReasonPowerRefused, fmt.Sprintf("Machine %s may be off, and was not switched on within %s: %s", machineID(r.metal), r.timeout(), reason))
	remediations.WithLabelValues(resultLeftOff).Inc()
	return true, nil
}

// waitToUndo waits; what is said of a Machine that was handed back stays.
func (r *remediationRun) waitToUndo(interval time.Duration, reason, format string, args ...any) (bool, error) {
	r.wait = waitFor(interval, reason, format, args...)
	if r.obj.Status.Phase == v1alpha4.RemediationFailed {
		r.wait = wait{requeueAfter: interval}
	}
	return false, nil
}

// recordPoweredOn records that there is nothing to switch on any more.
func (r *remediationRun) recordPoweredOn(ctx context.Context) error {
	return r.record(ctx, func(s *v1alpha4.MetalStackRemediationStatus) { s.PoweredOff = false })
}

// succeedBeforeDeletion ends an attempt whose Node is ready; false if it has to be tried again.
func (r *remediationRun) succeedBeforeDeletion(ctx context.Context) (bool, error) {
	if r.obj.Status.Phase != v1alpha4.RemediationWaiting || r.machine == nil || r.machine.DeletionTimestamp != nil || r.metal == nil || r.lostMetal() != "" {
		return true, nil
	}
	node, err := r.node(ctx)
	if err != nil || node == nil || !isReadySince(node, r.phaseBegan()) {
		// What was done is undone.
		return true, nil
	}
	if err := r.untaint(ctx, node); err != nil {
		return r.retry(infrastructure.ReasonWorkloadClusterUnavailable, "Node %s is ready, and the out-of-service taint cannot be taken off: %s", node.Name, describeConnectError(err))
	}
	return r.succeed(ctx, node)
}

// mayPowerOn returns whether the machine is the one that was switched off, and is not going.
func (r *remediationRun) mayPowerOn() bool {
	return (r.machine == nil || r.machine.DeletionTimestamp == nil) && r.metal != nil && r.metal.DeletionTimestamp == nil && r.lostMetal() == ""
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
