// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/annotations"
	"sigs.k8s.io/cluster-api/util/labels"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

const (
	// remediationConcurrency is how many remediations are worked on at a time.
	remediationConcurrency = 16
	// powerPollInterval is how often the power state is read while a machine is to switch off.
	// Its controller (BMC) reports it every few minutes.
	powerPollInterval = 10 * time.Second
	// powerRetryInterval is how soon a power request is repeated.
	powerRetryInterval = 5 * time.Second
	// fencePollInterval is how often Pods and volumes of a Node are looked for.
	fencePollInterval = 5 * time.Second
	// nodePollInterval is how often the Node of a machine that boots is read.
	nodePollInterval = 15 * time.Second
	// remediationRetryInterval is how soon it is tried again what has to wait for something
	// else, such as for the metal-api or for a control plane.
	remediationRetryInterval = 30 * time.Second
	// staleRemediation is after what time a remediation is deleted whose Machine has failed no
	// health check.
	staleRemediation = 10 * time.Minute
	// maxRemediationSteps bounds the steps of one reconcile.
	maxRemediationSteps = 8
)

// A remediationReconciler reconciles MetalStackRemediations: it switches the machine of a
// Machine that Cluster API found unhealthy off, fences its Node, and switches it on again.
// Each step is recorded in the status, by compare-and-swap, before it is done, and repeated
// after a crash: what it asks of a machine has an id, by which the server makes it once, and
// the Node of which it is to take a taint off is in the status before the taint is set.
type remediationReconciler struct {
	// cached answers from the informers' caches, live from the server.
	cached, live client.Client
	power        powerClient
	connections  *workloadConnections
	slots        namespaceSlots
	// unsent are the ids of requests that were certainly not made, and warned the objects of
	// which an Event warns already; undoing are those whose machine is to be switched on at the end,
	// and could be asked to. A restart forgets them.
	unsent, warned, undoing keySet
	clock                   clock.Clock
	recorder                events.EventRecorder
	options                 Options
}

// A remediationRun is one reconcile of a remediation.
type remediationRun struct {
	*remediationReconciler
	request ctrl.Request
	obj     *v1alpha4.MetalStackRemediation

	// cluster, machine and metal are whose machine is remediated; nil if they are not there.
	cluster *clusterv1.Cluster
	machine *clusterv1.Machine
	metal   *v1alpha4.MetalStackMachine
	// stale is true if metal shows what the server observed before, as while the metal-api does
	// not answer.
	stale bool
	// assessed is when nothing was found against an attempt.
	assessed time.Time
	// workload is the API of the workload cluster, once it is connected.
	workload *workloadAPI
	// leave ends the use of the workload cluster.
	leave func()
	// wait is what the remediation waits for.
	wait wait
	// gone is true after the object was deleted, or its finalizer removed: there is nothing to
	// write to.
	gone bool
}

// A step does the next thing, and returns false if the rest has to wait.
type remediationStep func(context.Context, *remediationRun) (again bool, err error)

// Reconcile does the next steps of one remediation.
func (r *remediationReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	obj := &v1alpha4.MetalStackRemediation{}
	// The cache may show a phase that is over. What would be done in it has effects outside.
	if err := r.live.Get(ctx, request.NamespacedName, obj); err != nil {
		if apierrors.IsNotFound(err) {
			r.forget(request)
			err = nil
		}
		return ctrl.Result{}, err
	}
	if hasKey(obj.Annotations, infrastructure.DeleteForMoveAnnotation) || (r.options.WatchFilter != "" && !labels.HasWatchLabel(obj, r.options.WatchFilter)) {
		return ctrl.Result{}, nil
	}
	run := &remediationRun{remediationReconciler: r, request: request, obj: obj, leave: func() {}}
	err := run.do(ctx)
	run.leave()
	if err == nil && !run.gone {
		err = run.patchConditions(ctx)
	}
	switch {
	case apierrors.IsConflict(err):
		// The object changed meanwhile: its next state decides.
		return ctrl.Result{RequeueAfter: time.Second}, nil
	case apierrors.IsNotFound(err):
		return ctrl.Result{}, nil
	}
	return ctrl.Result{RequeueAfter: run.wait.requeueAfter}, err
}

// forget forgets an object that is gone.
func (r *remediationReconciler) forget(request ctrl.Request) {
	r.connections.forget(request)
	for _, keys := range []*keySet{&r.unsent, &r.warned, &r.undoing} {
		keys.forget(request.NamespacedName)
	}
}

// do finds whose machine is remediated, and does steps until one waits.
func (r *remediationRun) do(ctx context.Context) error {
	if err := r.resolve(ctx); err != nil {
		return err
	}
	if paused := r.pausedBy(); paused != "" {
		r.undoing.set(r.request.NamespacedName, string(r.obj.UID), false)
		r.wait = waitFor(0, infrastructure.ReasonPaused, "%s", paused)
		return nil
	}
	for i := range maxRemediationSteps {
		if i > 0 {
			// The steps before may have taken long.
			if err := r.readMetal(ctx); err != nil {
				return err
			}
		}
		again, err := r.nextStep()(ctx, r)
		if err != nil || !again || r.gone {
			return err
		}
	}
	r.wait.requeueAfter = time.Second
	return nil
}

// nextStep returns what comes next in a phase.
func (r *remediationRun) nextStep() remediationStep {
	if r.obj.DeletionTimestamp != nil {
		return undo
	}
	if r.machine == nil || r.machine.DeletionTimestamp != nil {
		return leaveMachine
	}
	switch r.obj.Status.Phase {
	case v1alpha4.RemediationPoweringOff:
		return powerOff
	case v1alpha4.RemediationFencing:
		return fence
	case v1alpha4.RemediationPoweringOn:
		return powerOn
	case v1alpha4.RemediationWaiting:
		return waitForNode
	case v1alpha4.RemediationSucceeded:
		return watchRemediated
	case v1alpha4.RemediationFailed:
		return finishFailed
	}
	return beginAttempt
}

// pausedBy says what pauses the remediation; "" if nothing does. A Machine is paused to stop its
// remediation, too: that is undone.
func (r *remediationRun) pausedBy() string {
	switch {
	case r.cluster != nil && ptr.Deref(r.cluster.Spec.Paused, false):
		return "Cluster spec.paused is set to true"
	case annotations.HasPaused(r.obj):
		return "MetalStackRemediation has the " + infrastructure.PausedAnnotation + " annotation"
	case r.machine != nil && annotations.HasPaused(r.machine) && r.obj.DeletionTimestamp == nil:
		return "Machine has the " + infrastructure.PausedAnnotation + " annotation"
	}
	return ""
}

// timeout is how long a step may take.
func (r *remediationRun) timeout() time.Duration {
	if t := r.obj.Spec.Strategy.Timeout; t != nil {
		return t.Duration
	}
	return v1alpha4.DefaultRemediationTimeout
}

// phaseEnds is when the phase has taken too long.
func (r *remediationRun) phaseEnds() time.Time {
	return r.phaseBegan().Add(r.timeout())
}

func (r *remediationRun) phaseBegan() time.Time {
	if t := r.obj.Status.PhaseTime; t != nil {
		return t.Time
	}
	return r.obj.CreationTimestamp.Time
}

// isOver returns whether the phase has taken too long.
func (r *remediationRun) isOver() bool { return !r.clock.Now().Before(r.phaseEnds()) }

// waitedFor is the reason for which the remediation waited before.
func (r *remediationRun) waitedFor() string {
	if c := meta.FindStatusCondition(r.obj.Status.Conditions, infrastructure.ConditionRemediated); c != nil {
		return c.Reason
	}
	return ""
}

// waitedForOthers returns whether the remediation waited before for what has nothing to do with
// its step, and no timeout bounds.
func (r *remediationRun) waitedForOthers() bool {
	switch r.waitedFor() {
	case infrastructure.ReasonMetalAPIUnavailable, infrastructure.ReasonWorkloadClusterUnavailable, infrastructure.ReasonReinstalling:
		return true
	}
	return false
}

// isOverAfterOutage returns whether the phase has taken too long, of which the time in which the
// metal-api did not answer is no part.
func (r *remediationRun) isOverAfterOutage(ctx context.Context) (bool, error) {
	if !r.isOver() || r.waitedFor() != infrastructure.ReasonMetalAPIUnavailable {
		return r.isOver(), nil
	}
	return false, r.restartPhase(ctx)
}

// restartPhase has the timeout of the phase begin again.
func (r *remediationRun) restartPhase(ctx context.Context) error {
	return r.enter(ctx, r.obj.Status.Phase, nil)
}

// pause waits, but not for longer than the phase may take.
func (r *remediationRun) pause(interval time.Duration, reason, format string, args ...any) (bool, error) {
	if left := r.phaseEnds().Sub(r.clock.Now()); left > 0 && left < interval {
		interval = left
	}
	r.wait = waitFor(interval, reason, format, args...)
	return false, nil
}

// retry waits for something that no timeout bounds.
func (r *remediationRun) retry(reason, format string, args ...any) (bool, error) {
	r.wait = waitFor(remediationRetryInterval, reason, format, args...)
	return false, nil
}
