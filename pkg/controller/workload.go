// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/cluster-api/util/annotations"
	"sigs.k8s.io/cluster-api/util/patch"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

const (
	// workloadConcurrency is how many workload clusters are worked on at a time, and
	// workloadsOfNamespace how many of one namespace: those whose API servers hang, or answer
	// slowly, leave the others to other namespaces.
	workloadConcurrency  = 32
	workloadsOfNamespace = 4
	// workloadTimeout is how long one of them may take.
	workloadTimeout = 20 * time.Second
	// reportInterval is how often monitors are read, and eagerReportInterval if something is
	// waited for: a firewall-controller that is not connected, or an exchange of firewalls.
	reportInterval      = 30 * time.Second
	eagerReportInterval = 5 * time.Second
	// workloadCheckInterval is how often objects in both clusters are corrected.
	workloadCheckInterval = 3 * time.Minute
	// The pause after a failure is doubled with each one, and becomes longer if the API server
	// hangs.
	minWorkloadRetry = time.Second
	maxWorkloadRetry = 30 * time.Second
	maxHangingRetry  = 5 * time.Minute
	// unreachableGrace is for how long a workload cluster may not answer before this is said of
	// its firewalls.
	unreachableGrace = time.Minute
	// cleanupTimeout is how long it is tried to delete objects in a workload cluster.
	cleanupTimeout = 10 * time.Minute
)

// A workloadReconciler keeps what the firewall-controllers of a MetalStackCluster need to reach
// the workload cluster, and reads what they report there. It polls: its requests are bounded
// whatever a tenant does, while a watch would deliver every change that a tenant makes.
// What it finds of a cluster is left in workloadStates for the cluster's own reconciler, and
// written to the status of the firewalls.
type workloadReconciler struct {
	*reconciler
	connections *workloadConnections
	objects     []*unstructured.Unstructured
	slots       namespaceSlots
}

func newWorkloadReconciler(clusters *reconciler) (*workloadReconciler, error) {
	objects, err := workloadObjects()
	if err != nil {
		return nil, err
	}
	return &workloadReconciler{reconciler: clusters, connections: newWorkloadConnections(), objects: objects}, nil
}

// Reconcile does what is due for one cluster.
func (w *workloadReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	cluster := &v1alpha4.MetalStackCluster{}
	if err := w.cached.Get(ctx, request.NamespacedName, cluster); err != nil {
		if apierrors.IsNotFound(err) {
			w.forget(request)
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	said := meta.FindStatusCondition(cluster.Status.Conditions, infrastructure.ConditionFirewallControllerReady)
	// The objects of the workload cluster go with it.
	if w.skipReason(cluster) != "" || cluster.DeletionTimestamp != nil || said == nil {
		w.forget(request)
		return ctrl.Result{}, nil
	}
	rec, err := newReconciliation(w.reconciler, request, cluster)
	if err != nil {
		return ctrl.Result{}, err
	}
	if _, err := resolveOwners(ctx, rec); err != nil {
		return ctrl.Result{}, err
	}
	if annotations.HasPaused(cluster) || (rec.cluster != nil && ptr.Deref(rec.cluster.Spec.Paused, false)) {
		// What is known is old when it is not paused any more.
		w.workload.reset(request)
		return ctrl.Result{}, nil
	}
	// A workload cluster that is another one's is not connected to, not even to delete in it.
	reachable := mayHaveAccess(said) && rec.ofAnotherCluster(cluster) == ""
	if !reachable {
		w.connections.forget(request)
	}
	switch {
	case !hasFirewallController(cluster):
		return w.cleanUp(ctx, rec, cluster, reachable)
	case !reachable:
		return ctrl.Result{}, nil
	}
	return w.reconcileWorkload(ctx, rec, cluster)
}

func (w *workloadReconciler) forget(request ctrl.Request) {
	w.connections.forget(request)
	w.workload.reset(request)
}

// connect reads the kubeconfig of the workload cluster and returns its API; nil if there is no
// kubeconfig yet.
func (w *workloadReconciler) connect(ctx context.Context, rec *reconciliation, cluster *v1alpha4.MetalStackCluster) (*workloadAPI, error) {
	secret := &corev1.Secret{}
	if err := w.live.Get(ctx, client.ObjectKey{Namespace: cluster.Namespace, Name: kubeconfigName(cluster)}, secret); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	return w.connections.connect(rec.request, secret.Data[kubeconfigKey])
}

// kubeconfigName is the name of the Secret with the kubeconfig of a workload cluster.
func kubeconfigName(cluster *v1alpha4.MetalStackCluster) string {
	return clusterNameOf(cluster) + "-kubeconfig"
}

// reconcileWorkload ensures what is due, reads the reports, and says what it found.
func (w *workloadReconciler) reconcileWorkload(ctx context.Context, rec *reconciliation, cluster *v1alpha4.MetalStackCluster) (ctrl.Result, error) {
	now := w.clock.Now()
	state := w.workload.get(rec.request)
	all, err := rec.listFirewalls(ctx, w.cached, cluster)
	if err != nil {
		return ctrl.Result{}, err
	}
	all = slices.DeleteFunc(all, func(f *v1alpha4.MetalStackFirewall) bool {
		return !belongsTo(cluster, f) || rec.belongsToAnother(cluster, f)
	})
	slices.SortFunc(all, func(a, b *v1alpha4.MetalStackFirewall) int { return strings.Compare(a.Name, b.Name) })
	inputs := w.workloadInputs(rec, cluster, all)
	if state.inputs == inputs && now.Before(state.due) {
		return ctrl.Result{RequeueAfter: state.due.Sub(now)}, nil
	}
	if !w.slots.take(cluster.Namespace) {
		return ctrl.Result{RequeueAfter: jitter(minWorkloadRetry)}, nil
	}
	defer w.slots.leave(cluster.Namespace)
	if state.inputs != inputs {
		state.checkDue = time.Time{}
	}
	state.inputs, state.cleaned = inputs, false
	limited, cancel := context.WithTimeout(ctx, workloadTimeout)
	defer cancel()
	err = w.visit(limited, rec, cluster, all, &state)
	if ctx.Err() != nil {
		return ctrl.Result{}, ctx.Err()
	}
	switch {
	case err == nil:
		state.failures, state.failingSince = 0, time.Time{}
		state.condition = rec.firewallAccess.condition(metav1.ConditionTrue, infrastructure.ReasonFirewallAccessProvided,
			fmt.Sprintf("The firewall-controllers have what they need in both clusters; they reach the workload cluster at %s", state.server))
		state.due = now.Add(jitter(state.interval))
	default:
		if state.failures++; state.failingSince.IsZero() {
			state.failingSince = now
		}
		state.condition = w.failureOf(rec, err)
		longest := maxWorkloadRetry
		if hangs(err) && !areExchanged(all) {
			longest = maxHangingRetry
		}
		pause := min(minWorkloadRetry<<min(state.failures-1, 10), longest)
		state.due, state.checkDue = now.Add(jitter(pause)), time.Time{}
		ctrl.LoggerFrom(ctx).V(1).Info("Failed to keep the access of firewall-controllers", "reason", state.condition.Reason, "message", state.condition.Message, "network", networkDetail(err), "failures", state.failures)
		if now.Sub(state.failingSince) >= unreachableGrace || areExchanged(all) || state.failures == 1 && !hasReports(all) {
			w.sayUnreachable(ctx, all, state.condition.Message)
			for uid, times := range state.times {
				times.since = time.Time{}
				state.times[uid] = times
			}
		}
	}
	w.workload.set(rec.request, state)
	w.workload.wakeIfChanged(cluster, state.condition)
	return ctrl.Result{RequeueAfter: state.due.Sub(w.clock.Now())}, nil
}

// workloadInputs are what has everything looked at again when it changes.
func (w *workloadReconciler) workloadInputs(rec *reconciliation, cluster *v1alpha4.MetalStackCluster, all []*v1alpha4.MetalStackFirewall) string {
	parts := []string{string(cluster.UID), rec.workloadServer(cluster, &workloadAPI{}), fmt.Sprint(isInitialized(rec))}
	for _, f := range all {
		parts = append(parts, f.Name, monitorName(f), fmt.Sprint(f.Spec.Controller != nil))
	}
	return strings.Join(parts, " ")
}

func isInitialized(rec *reconciliation) bool {
	return rec.cluster != nil && ptr.Deref(rec.cluster.Status.Initialization.ControlPlaneInitialized, false)
}

// monitorName is the name of a firewall's monitor; empty if it has none, or is not observed.
func monitorName(f *v1alpha4.MetalStackFirewall) string {
	if !isMonitored(f) || f.Status.Metal == nil {
		return ""
	}
	return f.Status.Metal.Hostname
}

// isMonitored returns whether a firewall has a monitor.
func isMonitored(f *v1alpha4.MetalStackFirewall) bool {
	phase := allocationOf(f).Phase
	return f.Spec.Controller != nil && (phase == v1alpha4.AllocationAllocated || phase == v1alpha4.AllocationReleasing)
}

// isMonitorUnknown returns whether a firewall has a monitor of which the name is not known, as
// after a restart of the server.
func isMonitorUnknown(f *v1alpha4.MetalStackFirewall) bool {
	return isMonitored(f) && monitorName(f) == ""
}

var errNoKubeconfig = errors.New("no kubeconfig")

// visit ensures what is due and reads the reports.
func (w *workloadReconciler) visit(ctx context.Context, rec *reconciliation, cluster *v1alpha4.MetalStackCluster, all []*v1alpha4.MetalStackFirewall, state *workloadState) error {
	now := w.clock.Now()
	api := w.connections.get(rec.request)
	if api == nil || !now.Before(state.checkDue) {
		var err error
		if api, err = w.connect(ctx, rec, cluster); err != nil {
			return err
		}
		if api == nil {
			return errNoKubeconfig
		}
		if err := w.ensure(ctx, rec, cluster, api, all, state); err != nil {
			return err
		}
		state.checkDue = now.Add(workloadCheckInterval)
	}
	return w.readReports(ctx, api, all, state, v1alpha4.FirewallWorkloadAccess{
		KubeconfigSecretName: workloadConfigName(cluster), TokenSecretName: workloadTokenName(cluster), APIServerURL: state.server,
	})
}

// ensure corrects what is kept in both clusters.
func (w *workloadReconciler) ensure(ctx context.Context, rec *reconciliation, cluster *v1alpha4.MetalStackCluster, api *workloadAPI, all []*v1alpha4.MetalStackFirewall, state *workloadState) (err error) {
	// The policies come first: with access but without them, a firewall-controller would cut
	// the workload cluster off.
	objects := slices.Concat(w.objects, rulesPolicies(cluster.Spec.FirewallSpec.Rules))
	if err := ensureWorkloadObjects(ctx, api, objects); err != nil {
		return &workloadError{err}
	}
	if state.server, err = rec.ensureWorkloadSecrets(ctx, cluster, api); err != nil {
		return err
	}
	if state.known, err = w.managementAccess(ctx, rec, cluster); err != nil {
		return err
	}
	if slices.ContainsFunc(all, isMonitorUnknown) {
		return nil
	}
	err = deleteMonitors(ctx, api, func(name string) bool {
		return slices.ContainsFunc(all, func(f *v1alpha4.MetalStackFirewall) bool { return monitorName(f) == name })
	})
	if err != nil {
		return &workloadError{err}
	}
	return nil
}

// managementAccess is what a firewall knows that was allocated with a kubeconfig of this
// management cluster.
func (w *workloadReconciler) managementAccess(ctx context.Context, rec *reconciliation, cluster *v1alpha4.MetalStackCluster) (v1alpha4.FirewallManagementAccess, error) {
	account := &corev1.ServiceAccount{}
	err := w.live.Get(ctx, client.ObjectKey{Namespace: cluster.Namespace, Name: rec.firewallAccess.account(cluster)}, account)
	return v1alpha4.FirewallManagementAccess{URL: w.options.ManagementCluster.URL, ServiceAccountUID: account.UID}, client.IgnoreNotFound(err)
}

// readReports reads the monitor of each firewall, which it makes if there is none, and writes
// what it says into the firewall's status. What is refused of one firewall ends it for no other.
func (w *workloadReconciler) readReports(ctx context.Context, api client.Client, all []*v1alpha4.MetalStackFirewall, state *workloadState,
	access v1alpha4.FirewallWorkloadAccess,
) error {
	state.interval = reportInterval
	times, held := map[string]reportTimes{}, 0
	for _, f := range all {
		name := monitorName(f)
		if name == "" {
			if f.Spec.Controller == nil {
				if err := w.patchFirewall(ctx, f, clearReport); err != nil && !isRefusedReport(ctx, f, err) {
					return err
				}
			}
			continue
		}
		monitor := &unstructured.Unstructured{}
		monitor.SetGroupVersionKind(monitorKind)
		err := api.Get(ctx, client.ObjectKey{Namespace: workloadNamespace, Name: name}, monitor)
		if apierrors.IsNotFound(err) {
			monitor = newMonitor(f)
			err = api.Create(ctx, monitor)
		}
		now := w.clock.Now()
		if err != nil && isRefusedReport(ctx, f, err) {
			message := "The FirewallMonitor cannot be used: " + describeWorkloadError(err)
			err := w.patchFirewall(ctx, f, func(f *v1alpha4.MetalStackFirewall) { setUnreachable(f, message, now) })
			if err != nil && !isRefusedReport(ctx, f, err) {
				return err
			}
			continue
		}
		if err != nil {
			return &workloadError{err}
		}
		r := reportOf(monitor)
		times[string(f.UID)] = state.times[string(f.UID)].observe(r, now)
		err = w.patchFirewall(ctx, f, func(f *v1alpha4.MetalStackFirewall) {
			f.Status.WorkloadAccess = &access
			setReport(f, r, times[string(f.UID)], state.known, now)
			if areExchanged(all) && f.Status.Controller != nil && !r.lastRun.IsZero() {
				f.Status.Controller.LastRun = &metav1.Time{Time: times[string(f.UID)].lastRun.shown()}
			}
		})
		if err != nil && !isRefusedReport(ctx, f, err) {
			return err
		}
		if held++; held > 1 || r.lastRun.IsZero() {
			state.interval = eagerReportInterval
		}
	}
	state.times = times
	return nil
}

// patchFirewall changes the status of a firewall, if that makes a difference.
func (w *workloadReconciler) patchFirewall(ctx context.Context, f *v1alpha4.MetalStackFirewall, change func(*v1alpha4.MetalStackFirewall)) error {
	// The object is the cache's.
	*f = *f.DeepCopy()
	helper, err := patch.NewHelper(f, w.cached)
	if err != nil {
		return err
	}
	change(f)
	return ignoreGone(helper.Patch(ctx, f, patch.WithOwnedConditions{Conditions: reportConditions}))
}

func hasReports(all []*v1alpha4.MetalStackFirewall) bool {
	return slices.ContainsFunc(all, func(f *v1alpha4.MetalStackFirewall) bool {
		return meta.FindStatusCondition(f.Status.Conditions, infrastructure.ConditionControllerConnected) != nil
	})
}

// sayUnreachable says of the firewalls that nothing is known of their firewall-controllers.
func (w *workloadReconciler) sayUnreachable(ctx context.Context, all []*v1alpha4.MetalStackFirewall, message string) {
	ctx, cancel := context.WithTimeout(ctx, accessTimeout)
	defer cancel()
	for _, f := range all {
		if monitorName(f) == "" {
			continue
		}
		if err := w.patchFirewall(ctx, f, func(f *v1alpha4.MetalStackFirewall) { setUnreachable(f, message, w.clock.Now()) }); err != nil {
			ctrl.LoggerFrom(ctx).Info("Failed to patch a firewall", "firewall", f.Name, "err", err)
		}
	}
}

// failureOf is the condition of the cluster that tells of an error.
func (w *workloadReconciler) failureOf(rec *reconciliation, err error) *metav1.Condition {
	a := rec.firewallAccess
	name := kubeconfigName(rec.obj.(*v1alpha4.MetalStackCluster))
	reason := infrastructure.ReasonWaitingForControlPlane
	if isInitialized(rec) {
		reason = infrastructure.ReasonWorkloadClusterUnreachable
	}
	var inWorkload *workloadError
	var unusable *kubeconfigError
	switch {
	case errors.Is(err, errNoKubeconfig):
		return a.condition(metav1.ConditionFalse, reason, fmt.Sprintf("Secret %s, the kubeconfig of the workload cluster, not found", name))
	case errors.As(err, &unusable):
		return a.condition(metav1.ConditionFalse, infrastructure.ReasonWorkloadClusterUnreachable, fmt.Sprintf("Secret %s, the kubeconfig of the workload cluster, is not used: %s", name, unusable.message))
	case errors.As(err, &inWorkload):
		return a.condition(metav1.ConditionFalse, reason, "The workload cluster cannot be used: "+describeWorkloadError(inWorkload.error))
	}
	return ptr.To(a.failure(err))
}

// cleanUp deletes what a workload cluster got, when its firewalls have no firewall-controllers
// any more. If the workload cluster does not answer for long, or is another one's, it is left.
func (w *workloadReconciler) cleanUp(ctx context.Context, rec *reconciliation, cluster *v1alpha4.MetalStackCluster, reachable bool) (ctrl.Result, error) {
	now := w.clock.Now()
	state := w.workload.get(rec.request)
	if state.cleaned {
		return ctrl.Result{}, nil
	}
	all, err := rec.listFirewalls(ctx, w.cached, cluster)
	if err != nil {
		return ctrl.Result{}, err
	}
	for _, f := range all {
		// One that has a controller still loses it next, or has no access either.
		if belongsTo(cluster, f) && !rec.belongsToAnother(cluster, f) {
			if err := w.patchFirewall(ctx, f, clearReport); err != nil && !isRefusedReport(ctx, f, err) {
				return ctrl.Result{}, err
			}
		}
	}
	if reachable {
		if !w.slots.take(cluster.Namespace) {
			return ctrl.Result{RequeueAfter: jitter(minWorkloadRetry)}, nil
		}
		defer w.slots.leave(cluster.Namespace)
		limited, cancel := context.WithTimeout(ctx, workloadTimeout)
		defer cancel()
		var api *workloadAPI
		if api, err = w.connect(limited, rec, cluster); err == nil && api != nil {
			err = deleteWorkloadObjects(limited, api)
		}
	}
	if state.cleaningSince.IsZero() {
		state.cleaningSince = now
	}
	if err != nil && now.Sub(state.cleaningSince) < cleanupTimeout {
		w.workload.set(rec.request, state)
		return ctrl.Result{RequeueAfter: jitter(10 * time.Second)}, nil
	}
	if err != nil {
		ctrl.LoggerFrom(ctx).Info("Left the objects of firewall-controllers in a workload cluster that does not answer", "err", describeWorkloadError(err))
	}
	w.connections.forget(rec.request)
	w.workload.set(rec.request, workloadState{cleaned: true})
	w.workload.wake(cluster)
	return ctrl.Result{}, nil
}

// jitter keeps clusters apart from each other.
func jitter(d time.Duration) time.Duration {
	return d + time.Duration(rand.Int64N(int64(d)/5+1)) //nolint:gosec // It need not be unpredictable.
}
