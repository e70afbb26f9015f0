// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/cluster-api/util/conditions"
	ctrl "sigs.k8s.io/controller-runtime"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

const (
	// minSilence is for how long a firewall-controller may report nothing before it is said to
	// be silent, if three of its intervals are shorter.
	minSilence = 5 * time.Minute
	// minSeedSilence is the same of its reading of the management cluster, which it does less often.
	minSeedSilence = 10 * time.Minute
	// lastRunInterval is how often newer times alone are written.
	lastRunInterval = 5 * time.Minute
	// The longest texts of a report.
	maxReportedVersion = 128
	maxReportedMessage = 1024
	// maxReportedDistance is the longest distance.
	maxReportedDistance = 8
)

// A report is what a firewall-controller says in its FirewallMonitor. The administrators of the
// workload cluster can write anything into it: it is for display, and for decisions about the
// firewalls of this cluster alone.
type report struct {
	version, nftablesExporterVersion, message string
	lastRun, lastSeedRun                      time.Time
	distance                                  *int32
}

// reportOf reads a FirewallMonitor. What cannot be read is left out.
func reportOf(monitor *unstructured.Unstructured) report {
	status, _, _ := unstructured.NestedMap(monitor.Object, "controllerStatus")
	text := func(field string, limit int) string {
		value, _ := status[field].(string)
		return oneline.Sanitize(value, limit)
	}
	at := func(field string) time.Time {
		value, _ := status[field].(string)
		t, err := time.Parse(time.RFC3339, value)
		if err != nil {
			return time.Time{}
		}
		// A status has seconds.
		return t.Truncate(time.Second).UTC()
	}
	r := report{
		version:                 text("controllerVersion", maxReportedVersion),
		nftablesExporterVersion: text("nftablesExporterVersion", maxReportedVersion),
		message:                 text("message", maxReportedMessage),
		lastRun:                 at("lastRun"), lastSeedRun: at("lastRunAgainstSeed"),
	}
	if supported, _ := status["distanceSupported"].(bool); supported {
		// The shortest distance is left out.
		distance, _ := status["distance"].(int64)
		if distance >= 0 && distance <= maxReportedDistance {
			r.distance = ptr.To(int32(distance))
		}
	}
	return r
}

// reportTimes are those of the last report of a firewall.
type reportTimes struct {
	lastRun, lastSeedRun reportTime
	// since is when reports were read first, without an outage since.
	since time.Time
}

// observe returns the times after another report.
func (t reportTimes) observe(r report, now time.Time) reportTimes {
	if t.since.IsZero() {
		t.since = now
	}
	return reportTimes{t.lastRun.observe(r.lastRun, now), t.lastSeedRun.observe(r.lastSeedRun, now), t.since}
}

// A reportTime is a time of a report, and when that was, by the clock of this process: that of
// the firewall may be another one. Both are zero until something is reported.
type reportTime struct{ reported, at time.Time }

// observe returns the time after another report. A change is one of now, whatever time it
// names. Of the first one it is not known when it was written, but that it was before now: if
// it is in the future, it is one of now as well, and stays so when that time comes.
func (t reportTime) observe(reported, now time.Time) reportTime {
	switch {
	case reported.IsZero() || reported.Equal(t.reported):
		t.reported = reported
		if reported.IsZero() {
			t.at = time.Time{}
		}
		return t
	case t.reported.IsZero() && !reported.After(now):
		return reportTime{reported, reported}
	}
	return reportTime{reported, now}
}

// shown is the time for display, which is not in the future.
func (t reportTime) shown() time.Time {
	if t.at.Before(t.reported) {
		return t.at.Truncate(time.Second).UTC()
	}
	return t.reported
}

// knowsManagementCluster returns whether the user data of a firewall have a kubeconfig of this
// management cluster with a ServiceAccount that exists, and whether it has the URL that
// kubeconfigs have now. Another one may work as well.
func knowsManagementCluster(f *v1alpha4.MetalStackFirewall, known v1alpha4.FirewallManagementAccess) (account, url bool) {
	is := f.Status.ManagementAccess
	account = is != nil && is.ServiceAccountUID == known.ServiceAccountUID && !isAdopted(f)
	return account, account && is.URL == known.URL
}

// setReport writes a report into the status of a firewall, and what follows from it.
func setReport(f *v1alpha4.MetalStackFirewall, r report, times reportTimes, known v1alpha4.FirewallManagementAccess, now time.Time) {
	setControllerStatus(f, r, times)
	interval := time.Duration(0)
	if i := f.Spec.Controller.Interval; i != nil {
		interval = i.Duration
	}
	silence := max(3*interval, minSilence)
	last := times.lastRun.at
	connected := metav1.Condition{Type: infrastructure.ConditionControllerConnected, Status: metav1.ConditionFalse}
	seed := metav1.Condition{Type: infrastructure.ConditionSeedConnected, Status: metav1.ConditionFalse}
	knowsAccount, knowsURL := knowsManagementCluster(f, known)
	why := "without a kubeconfig of this management cluster, so its firewall-controller does not get its configuration"
	if knowsAccount {
		why = fmt.Sprintf("with %s as URL of the management cluster, which is %s now; if it does not get its configuration there", f.Status.ManagementAccess.URL, known.URL)
	}
	replace := fmt.Sprintf("The firewall was allocated %s: replace it (kubectl annotate msf -n %s %s %s=)", why, f.Namespace, f.Name, infrastructure.ReplaceAnnotation)
	// After a start or an outage it must be silent for as long as otherwise: its clock may be slow,
	// and it could not report either.
	was, settling := connectedCondition(f).Status, now.Sub(times.since) <= silence
	switch {
	case !r.lastRun.IsZero() && (now.Sub(last) <= silence || settling && was == metav1.ConditionTrue):
		connected.Status, connected.Reason = metav1.ConditionTrue, infrastructure.ReasonControllerConnected
	case settling && was == metav1.ConditionUnknown:
		connected.Status, connected.Reason = was, infrastructure.ReasonWorkloadClusterUnreachable
		connected.Message = "The firewall-controller has not reported since the workload cluster can be read again"
	case r.lastRun.IsZero() && !knowsURL:
		connected.Reason, connected.Message = infrastructure.ReasonNoKubeconfig, replace
	case r.lastRun.IsZero():
		connected.Reason, connected.Message = infrastructure.ReasonControllerNeverReported, "The firewall-controller has not reported yet"
	default:
		connected.Reason = infrastructure.ReasonControllerSilent
		connected.Message = "The firewall-controller has not reported since " + last.UTC().Format(time.RFC3339)
		if !knowsURL {
			connected.Message += ". " + replace
		}
	}
	if began := allocationOf(f).StartTime; was == metav1.ConditionUnknown && connected.Status == metav1.ConditionFalse && began != nil {
		// An outage does not end a silence.
		connected.LastTransitionTime = metav1.NewTime(later(began.Time, last))
	}
	lastSeed := times.lastSeedRun.at
	switch {
	case !knowsAccount:
		seed.Reason, seed.Message = infrastructure.ReasonNoKubeconfig, replace
	case connected.Status != metav1.ConditionTrue:
		seed.Status, seed.Reason, seed.Message = connected.Status, connected.Reason, connected.Message
	case r.lastSeedRun.IsZero() && !knowsURL:
		seed.Reason, seed.Message = infrastructure.ReasonNoKubeconfig, replace
	case r.lastSeedRun.IsZero():
		seed.Reason, seed.Message = infrastructure.ReasonControllerNeverReported, "The firewall-controller has not reported that it has read its configuration in the management cluster"
	case !r.lastSeedRun.IsZero() && now.Sub(lastSeed) <= max(3*interval, minSeedSilence):
		seed.Status, seed.Reason = metav1.ConditionTrue, infrastructure.ReasonControllerConnected
	default:
		seed.Reason = infrastructure.ReasonControllerSilent
		seed.Message = fmt.Sprintf("The firewall-controller has not read its configuration in the management cluster since %s: it must reach %s", lastSeed.UTC().Format(time.RFC3339), f.Status.ManagementAccess.URL)
		if !knowsURL {
			seed.Message += ". " + replace
		}
	}
	for _, c := range []metav1.Condition{connected, seed} {
		setReportCondition(f, c, now)
	}
}

// setControllerStatus writes a report. Of one with newer times only, those are written at times.
func setControllerStatus(f *v1alpha4.MetalStackFirewall, r report, times reportTimes) {
	timeOf := func(t time.Time) *metav1.Time {
		if t.IsZero() {
			return nil
		}
		return &metav1.Time{Time: t}
	}
	reported := &v1alpha4.FirewallControllerStatus{
		Version: r.version, NftablesExporterVersion: r.nftablesExporterVersion, Message: r.message, Distance: r.distance,
		LastRun: timeOf(times.lastRun.shown()), LastSeedRun: timeOf(times.lastSeedRun.shown()),
	}
	if *reported == (v1alpha4.FirewallControllerStatus{}) {
		// What was reported before stays.
		return
	}
	if is := f.Status.Controller; is != nil {
		// The message is left out: firewall-controller writes the time into it.
		same := is.Version == reported.Version && is.NftablesExporterVersion == reported.NftablesExporterVersion &&
			ptr.Equal(is.Distance, reported.Distance) && (is.LastRun == nil) == (reported.LastRun == nil) && (is.LastSeedRun == nil) == (reported.LastSeedRun == nil)
		if same && !isMuchLater(is.LastRun, reported.LastRun) && !isMuchLater(is.LastSeedRun, reported.LastSeedRun) {
			return
		}
	}
	f.Status.Controller = reported
}

func isMuchLater(was, is *metav1.Time) bool {
	return was != nil && is != nil && (is.Sub(was.Time) >= lastRunInterval || is.Before(was))
}

// setUnreachable says of a firewall that nothing is known while the workload cluster cannot be read.
func setUnreachable(f *v1alpha4.MetalStackFirewall, message string, now time.Time) {
	for _, kind := range []string{infrastructure.ConditionControllerConnected, infrastructure.ConditionSeedConnected} {
		setReportCondition(f, metav1.Condition{
			Type: kind, Status: metav1.ConditionUnknown, Reason: infrastructure.ReasonWorkloadClusterUnreachable, Message: message,
		}, now)
	}
}

func setReportCondition(f *v1alpha4.MetalStackFirewall, c metav1.Condition, now time.Time) {
	if c.LastTransitionTime.IsZero() {
		c.LastTransitionTime = metav1.NewTime(now)
	}
	c.Message = oneline.Sanitize(c.Message, oneline.MaxMessage)
	if is := meta.FindStatusCondition(f.Status.Conditions, c.Type); is != nil && is.Status == c.Status {
		c.LastTransitionTime = is.LastTransitionTime
	}
	conditions.Set(f, c)
}

// clearReport removes what was said of a firewall-controller that a firewall has no more.
func clearReport(f *v1alpha4.MetalStackFirewall) {
	f.Status.Controller, f.Status.WorkloadAccess = nil, nil
	for _, kind := range reportConditions {
		conditions.Delete(f, kind)
	}
}

var reportConditions = []string{infrastructure.ConditionControllerConnected, infrastructure.ConditionSeedConnected}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// isRefusedReport returns whether an error is about what is written of one firewall, and logs it.
func isRefusedReport(ctx context.Context, f *v1alpha4.MetalStackFirewall, err error) bool {
	all := []error{err}
	var several utilerrors.Aggregate
	if errors.As(err, &several) {
		all = several.Errors()
	}
	if slices.ContainsFunc(all, func(err error) bool {
		return !apierrors.IsInvalid(err) && !apierrors.IsBadRequest(err) && !apierrors.IsRequestEntityTooLargeError(err)
	}) {
		return false
	}
	ctrl.LoggerFrom(ctx).V(1).Info("What a firewall-controller reports was refused", "firewall", f.Name, "reason", describeWorkloadError(all[0]))
	return true
}
