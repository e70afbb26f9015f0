// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"cmp"
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

// beginAttempt begins the next attempt, if there is nothing against it.
func beginAttempt(ctx context.Context, r *remediationRun) (bool, error) {
	against, err := r.assess(ctx)
	switch {
	case err != nil || r.gone:
		return false, err
	case against.handBack:
		return r.handBack(ctx, against.wait.reason, against.wait.message)
	case against.wait.reason != "":
		r.wait = against.wait
		return false, nil
	}
	r.assessed = r.clock.Now()
	if err := r.hold(ctx); err != nil {
		return false, err
	}
	err = r.enter(ctx, v1alpha4.RemediationPoweringOff, func(s *v1alpha4.MetalStackRemediationStatus) {
		s.Attempt++
		s.Machine = &v1alpha4.RemediatedMachine{Name: r.metal.Name, AllocationUUID: allocationUUID(r.metal)}
		s.PoweredOff = true
	})
	if err != nil {
		return false, err
	}
	r.machineEvent(corev1.EventTypeNormal, infrastructure.ReasonPoweringOff, fmt.Sprintf("Reboots machine %s (%s): asks for it to be switched off", machineID(r.metal), r.attemptOf()))
	return true, nil
}

// powerOff has the machine switched off, and waits until it is seen off.
func powerOff(ctx context.Context, r *remediationRun) (bool, error) {
	if lost, again, err := r.checkMetal(ctx); lost {
		return again, err
	}
	waiting := waitFor(powerPollInterval, infrastructure.ReasonPoweringOff, "Waiting until the machine's controller reports it off")
	id, answer, why := r.nextRequest(v1alpha4.PowerOff, idOff)
	if id != "" {
		against, err := r.assessAgain(ctx, id)
		switch {
		case err != nil || r.gone:
			return false, err
		case against.handBack:
			return r.handBack(ctx, against.wait.reason, against.wait.message)
		case against.wait.reason == "":
			if answer, why, err = r.send(ctx, v1alpha4.PowerOff, idOff, id); err != nil {
				return false, err
			}
		case id == r.requestID(idOff):
			r.wait = against.wait
			return false, nil
		default:
			// The Off on record may have been sent, and the machine be off: it is only not repeated.
			waiting.reason, waiting.message = against.wait.reason, against.wait.message
		}
	}
	switch answer {
	case powerUnavailable:
		return r.retry(infrastructure.ReasonMetalAPIUnavailable, "The machine cannot be asked to switch off: %v", why)
	case powerBusy, powerRefused:
		if r.isOver() {
			return r.switchOn(ctx, "it could not be switched off: "+oneline.Sanitize(why.Error(), oneline.MaxNote/2))
		}
		return r.pauseAfter(answer, why)
	case powerAsked:
		return r.pause(waiting.requeueAfter, waiting.reason, "%s", waiting.message)
	}
	state, err := r.power.state(ctx, r.metal)
	switch {
	case apierrors.IsTooManyRequests(err):
		r.wait = waitFor(powerRetryAfter(err), waiting.reason, "%s", waiting.message)
		return false, nil
	case err != nil:
		return r.retry(infrastructure.ReasonMetalAPIUnavailable, "The power state of the machine cannot be read: %v", err)
	case r.isSeenOff(state):
		return true, r.enter(ctx, v1alpha4.RemediationFencing, nil)
	case r.isOver():
		return r.switchOn(ctx, fmt.Sprintf("it was not seen off within %s, so its Node is not fenced", r.timeout()))
	}
	return r.pause(waiting.requeueAfter, waiting.reason, "%s", waiting.message)
}

// pauseAfter waits after a power request that was not made.
func (r *remediationRun) pauseAfter(answer powerAnswer, err error) (bool, error) {
	if answer == powerBusy {
		return r.pause(powerRetryAfter(err), infrastructure.ReasonPowerRefused, "A power request has to wait: %v", err)
	}
	return r.pause(remediationRetryInterval, infrastructure.ReasonPowerRefused, "A power request was refused: %v", err)
}

// switchOn goes on with switching the machine on; why says what became of the step before.
func (r *remediationRun) switchOn(ctx context.Context, why string) (bool, error) {
	if err := r.enter(ctx, v1alpha4.RemediationPoweringOn, nil); err != nil {
		return false, err
	}
	r.event(corev1.EventTypeNormal, infrastructure.ReasonPoweringOn, fmt.Sprintf("Switches machine %s on: %s", machineID(r.metal), why))
	return true, nil
}

// fence keeps the out-of-service taint on the Node until its Pods and volumes are gone from it.
func fence(ctx context.Context, r *remediationRun) (bool, error) {
	if lost, again, err := r.checkMetal(ctx); lost {
		return again, err
	}
	switch {
	case !r.isSwitchedOff():
		return r.switchOn(ctx, "another user had it switched meanwhile")
	case r.isOver():
		return r.switchOn(ctx, fmt.Sprintf("Pods and volumes of its Node were not gone within %s", r.timeout()))
	}
	node, err := r.node(ctx)
	switch {
	case err != nil:
		return r.pause(fencePollInterval, infrastructure.ReasonWorkloadClusterUnavailable, "%s", describeConnectError(err))
	case node == nil:
		return r.switchOn(ctx, "its Node is gone")
	case !isOutOfService(node):
		state, err := r.stateOfSwitchedOff(ctx)
		switch {
		case err != nil:
			return r.pause(powerPollInterval, infrastructure.ReasonMetalAPIUnavailable, "The power state of the machine cannot be read: %v", err)
		case state == nil && r.isSwitchedOff() && r.metal.Status.LastOperation.Outcome == v1alpha4.OperationRefused:
			return r.pause(powerPollInterval, infrastructure.ReasonFencing, "Waiting for a report of the machine's controller that is later than a request that was refused")
		case state == nil:
			return r.switchOn(ctx, "it is not seen off any more, so its Node is not fenced")
		case isReadySince(node, state.ObservedTime.Time):
			// The next report decides. Until the timeout, the Node is not fenced.
			return r.pause(powerPollInterval, infrastructure.ReasonFencing, "The kubelet of Node %s has reported since the machine was seen off", node.Name)
		}
		if err := r.record(ctx, func(s *v1alpha4.MetalStackRemediationStatus) { s.FencedNode = node.Name }); err != nil {
			return false, err
		}
		if err := r.taint(ctx, node); err != nil {
			return r.pause(fencePollInterval, infrastructure.ReasonWorkloadClusterUnavailable, "Node %s cannot be fenced: %s", node.Name, describeConnectError(err))
		}
		r.machineEvent(corev1.EventTypeNormal, infrastructure.ReasonFencing, fmt.Sprintf("Machine %s is off; set the out-of-service taint on Node %s", machineID(r.metal), node.Name))
	}
	left, err := r.leftOn(ctx, node.Name)
	switch {
	case err != nil:
		return r.pause(fencePollInterval, infrastructure.ReasonWorkloadClusterUnavailable, "%s", describeConnectError(err))
	case left == "":
		return r.switchOn(ctx, "Pods and volumes are gone from its Node")
	}
	return r.pause(fencePollInterval, infrastructure.ReasonFencing, "Waiting until %s gone from Node %s", left, node.Name)
}

// powerOn has the machine switched on.
func powerOn(ctx context.Context, r *remediationRun) (bool, error) {
	if lost, again, err := r.checkMetal(ctx); lost {
		return again, err
	}
	answer, why, err := r.askOn(ctx)
	switch {
	case err != nil:
		return false, err
	case answer == powerUnavailable:
		return r.retry(infrastructure.ReasonMetalAPIUnavailable, "The machine cannot be asked to switch on: %v", why)
	case answer == powerBusy, answer == powerRefused:
		switch over, failed := r.isOverAfterOutage(ctx); {
		case failed != nil:
			return false, failed
		case !over:
			return r.pauseAfter(answer, why)
		}
	}
	// It is asked for on, until it is certain.
	return true, r.enter(ctx, v1alpha4.RemediationWaiting, func(s *v1alpha4.MetalStackRemediationStatus) { s.PoweredOff = answer != powerAsked })
}

// waitForNode waits until the Node is ready, and takes the taint off it.
func waitForNode(ctx context.Context, r *remediationRun) (bool, error) {
	if lost, again, err := r.checkMetal(ctx); lost {
		return again, err
	}
	node, err := r.node(ctx)
	switch {
	case err != nil:
		return r.retry(infrastructure.ReasonWorkloadClusterUnavailable, "%s", describeConnectError(err))
	case node != nil && isReadySince(node, r.phaseBegan()), node != nil && r.isOver() && isReadySince(node, metav1.Time{}.Time):
		if err := r.untaint(ctx, node); err != nil {
			return r.retry(infrastructure.ReasonWorkloadClusterUnavailable, "Node %s is ready, and the out-of-service taint cannot be taken off: %s", node.Name, describeConnectError(err))
		}
		return r.succeed(ctx, node)
	case r.isReinstalled():
		return r.retry(infrastructure.ReasonReinstalling, "The machine is being reinstalled")
	}
	if r.obj.Status.PoweredOff {
		switch answer, why, err := r.askOn(ctx); {
		case err != nil:
			return false, err
		case answer == powerAsked:
			// It boots from now on.
			err := r.enter(ctx, v1alpha4.RemediationWaiting, func(s *v1alpha4.MetalStackRemediationStatus) { s.PoweredOff = false })
			if err != nil {
				return false, err
			}
		case answer == powerUnavailable:
			return r.retry(infrastructure.ReasonMetalAPIUnavailable, "The machine may be off, and cannot be asked to switch on: %v", why)
		case answer != powerRequested && !r.isOver():
			return r.pauseAfter(answer, why)
		}
	}
	if r.couldNotBoot() {
		if err := r.restartPhase(ctx); err != nil {
			return false, err
		}
	}
	switch {
	case !r.isOver():
		return r.pause(nodePollInterval, infrastructure.ReasonWaitingForNode, "Waiting until Node %s is ready", r.machine.Status.NodeRef.Name)
	case node == nil:
		return r.attemptFailed(ctx, infrastructure.ReasonNodeGone, "The Node is gone")
	}
	return r.attemptFailed(ctx, infrastructure.ReasonRetriesExhausted, fmt.Sprintf("Node %s was not ready within %s after the machine was switched on", node.Name, r.timeout()))
}

// couldNotBoot returns whether the time of the phase went by with something else than that the
// machine boots and its Node is looked at.
func (r *remediationRun) couldNotBoot() bool {
	switch r.waitedFor() {
	case infrastructure.ReasonReinstalling:
		return true
	case infrastructure.ReasonWorkloadClusterUnavailable:
		return r.isOver()
	case infrastructure.ReasonMetalAPIUnavailable:
		return r.isOver() && r.obj.Status.PoweredOff
	}
	return false
}

// succeed ends the remediation.
func (r *remediationRun) succeed(ctx context.Context, node *corev1.Node) (bool, error) {
	message := fmt.Sprintf("Node %s is ready again", node.Name)
	err := r.enter(ctx, v1alpha4.RemediationSucceeded, func(s *v1alpha4.MetalStackRemediationStatus) {
		s.PoweredOff, s.FencedNode = false, ""
		r.setCondition(s, metav1.Condition{Type: infrastructure.ConditionRemediated, Status: metav1.ConditionTrue, Reason: infrastructure.ReasonRemediated, Message: message})
	})
	if err != nil {
		return false, err
	}
	r.machineEvent(corev1.EventTypeNormal, infrastructure.ReasonRemediated, fmt.Sprintf("%s (%s)", message, r.attemptOf()))
	remediations.WithLabelValues(resultRemediated).Inc()
	return true, nil
}

// watchRemediated lets the object go. Cluster API deletes it as soon as the Machine is healthy; if
// it is not by the timeout, though its Node is ready, the attempt has failed.
func watchRemediated(ctx context.Context, r *remediationRun) (bool, error) {
	if err := r.release(ctx); err != nil {
		return false, err
	}
	failed := healthCheckFailure(r.machine)
	switch {
	case failed == nil || isRequestedByAnnotation(failed):
		return false, nil
	case !r.isOver():
		r.wait.requeueAfter = r.phaseEnds().Sub(r.clock.Now())
		return false, nil
	}
	return r.attemptFailed(ctx, infrastructure.ReasonRetriesExhausted, fmt.Sprintf("The Machine was not healthy within %s after its Node was ready", r.timeout()))
}

// attemptFailed begins another attempt, or hands the Machine back.
func (r *remediationRun) attemptFailed(ctx context.Context, reason, message string) (bool, error) {
	if r.obj.Status.Attempt < r.retryLimit() {
		return beginAttempt(ctx, r)
	}
	if healthCheckFailure(r.machine) == nil {
		return r.retry(infrastructure.ReasonWaitingForMachine, "%s; but the Machine does not fail its health check any more", message)
	}
	return r.handBack(ctx, reason, fmt.Sprintf("%s (%s)", message, r.attemptOf()))
}

// finishFailed takes off what is left of the taint, and lets the object go.
func finishFailed(ctx context.Context, r *remediationRun) (bool, error) {
	// The Machine may not be replaced after all.
	done, err := r.undoPowerOff(ctx)
	if err != nil {
		return false, err
	}
	if r.obj.Status.FencedNode != "" {
		if err := r.unfence(ctx); err != nil {
			if r.warned.set(r.request.NamespacedName, string(r.obj.UID), true) {
				r.event(corev1.EventTypeWarning, infrastructure.ReasonWorkloadClusterUnavailable,
					fmt.Sprintf("The out-of-service taint cannot be taken off Node %s: %s", r.obj.Status.FencedNode, describeConnectError(err)))
			}
			r.wait.requeueAfter = cmp.Or(r.wait.requeueAfter, remediationRetryInterval)
			return false, nil
		}
		r.warned.set(r.request.NamespacedName, string(r.obj.UID), false)
		if err := r.recordUnfenced(ctx); err != nil {
			return false, err
		}
	}
	if !done {
		return false, nil
	}
	return false, r.release(ctx)
}

// isReinstalled returns whether the machine is being reinstalled, or that was requested just now and
// may not have been observed yet. One that is only marked is not any more after the timeout: it
// boots its disk, or, from the network, what was requested. One whose installation crashes again
// and again is in a crash loop.
func (r *remediationRun) isReinstalled() bool {
	last := r.metal.Status.LastOperation
	if last != nil && last.RequestTime != nil && last.Action == v1alpha4.OperationReinstall && last.Outcome != v1alpha4.OperationRefused &&
		r.clock.Since(last.RequestTime.Time) < powerInFlight {
		return true
	}
	c := meta.FindStatusCondition(r.metal.Status.Conditions, infrastructure.ConditionReinstalling)
	if c == nil || c.Status != metav1.ConditionTrue {
		return false
	}
	switch c.Reason {
	case infrastructure.ReasonCrashLoop:
		return false
	case infrastructure.ReasonReinstallMarked:
		return r.clock.Since(c.LastTransitionTime.Time) < r.timeout()
	}
	return true
}
