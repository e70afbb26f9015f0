// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/cluster-api/util/conditions"
	ctrl "sigs.k8s.io/controller-runtime"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

// ownedConditions are the conditions that are ours. Ready is the server's, and
// Allocated is as soon as an allocation has begun.
var ownedConditions = []string{
	infrastructure.ConditionAllocated,
	infrastructure.ConditionControlPlaneEndpointSet,
	infrastructure.ConditionDeleting,
	infrastructure.ConditionFirewallControllerReady,
	infrastructure.ConditionFirewallReady,
	infrastructure.ConditionMetalAPIAccessReady,
	infrastructure.ConditionPaused,
}

// setConditions makes conditions of what the phases found.
func (r *reconciliation) setConditions() {
	r.setCondition(r.pausedCondition())
	deleting := r.obj.GetDeletionTimestamp() != nil
	switch said := conditions.Get(r.obj, infrastructure.ConditionDeleting); {
	case len(r.pauseReasons) > 0:
	case r.wait.reason == "" && deleting && said != nil:
		// What was said of the deletion holds, whatever the spec is now.
		r.setCondition(*said)
	case r.wait.reason == "":
	case deleting:
		r.setCondition(metav1.Condition{Type: infrastructure.ConditionDeleting, Status: metav1.ConditionTrue, Reason: r.wait.reason, Message: r.wait.message})
	case allocationOf(r.obj).Phase == "":
		r.setCondition(metav1.Condition{Type: infrastructure.ConditionAllocated, Status: metav1.ConditionFalse, Reason: r.wait.reason, Message: r.wait.message})
	}
	switch {
	case r.kind.name != clusters.name || len(r.pauseReasons) > 0:
	case deleting:
		// The firewalls are deleted, too, so the condition is not updated any more.
		conditions.Delete(r.obj, infrastructure.ConditionFirewallReady)
	case r.firewallReady != nil:
		r.setCondition(*r.firewallReady)
	case r.obj.(*v1alpha4.MetalStackCluster).Spec.FirewallSpec == nil:
		conditions.Delete(r.obj, infrastructure.ConditionFirewallReady)
	}
	for _, a := range []*access{r.metalAPIAccess, r.firewallAccess} {
		switch {
		case a.ready != nil:
			r.setCondition(*a.ready)
		case a.revoked:
			conditions.Delete(r.obj, a.conditionType)
		}
	}
	switch {
	case r.kind.name != clusters.name || len(r.pauseReasons) > 0:
	case r.endpointSet != nil:
		r.setCondition(*r.endpointSet)
	case !awaitsEndpoint(r.obj):
		conditions.Delete(r.obj, infrastructure.ConditionControlPlaneEndpointSet)
	}
}

func (r *reconciliation) pausedCondition() metav1.Condition {
	if len(r.pauseReasons) == 0 {
		return metav1.Condition{Type: infrastructure.ConditionPaused, Status: metav1.ConditionFalse, Reason: infrastructure.ReasonNotPaused}
	}
	return metav1.Condition{
		Type: infrastructure.ConditionPaused, Status: metav1.ConditionTrue, Reason: infrastructure.ReasonPaused,
		Message: strings.Join(r.pauseReasons, ", "),
	}
}

func (r *reconciliation) setCondition(c metav1.Condition) {
	c.LastTransitionTime = metav1.NewTime(r.clock.Now())
	c.Message = oneline.Sanitize(c.Message, oneline.MaxMessage)
	conditions.Set(r.obj, c)
}

// warningReasons are the reasons that need an action of a user or an administrator.
var warningReasons = []string{
	infrastructure.ReasonOwnerNotFound,
	infrastructure.ReasonGarbageCollected,
	infrastructure.ReasonOwnerLookupFailed,
	infrastructure.ReasonReleaseRefused,
	infrastructure.ReasonMarkedBeforeTakeover,
	infrastructure.ReasonMetalAPIUnavailable,
	infrastructure.ReasonBootstrapDataInvalid,
	infrastructure.ReasonFirewallCreationRefused,
	infrastructure.ReasonFirewallNameTaken,
	infrastructure.ReasonFirewallUpdateRefused,
	infrastructure.ReasonFirewallNotReady,
	infrastructure.ReasonManagementURLMissing,
	infrastructure.ReasonAuthorityUnreadable,
	infrastructure.ReasonClusterMismatch,
	infrastructure.ReasonEndpointDiffers,
}

// recordConditionEvents records an Event for each of our conditions that has changed, so
// that every change is recorded once, also after a restart.
func (r *reconciliation) recordConditionEvents(ctx context.Context) {
	for _, c := range r.obj.GetConditions() {
		if !slices.Contains(ownedConditions, c.Type) || (c.Type == infrastructure.ConditionAllocated && c.Reason != r.wait.reason) {
			continue
		}
		was := meta.FindStatusCondition(r.oldConditions, c.Type)
		if was == nil && c.Type == infrastructure.ConditionPaused && c.Status == metav1.ConditionFalse {
			continue
		}
		if was != nil && was.Reason == c.Reason && was.Message == c.Message {
			continue
		}
		ctrl.LoggerFrom(ctx).Info("Condition changed", "type", c.Type, "status", c.Status, "reason", c.Reason, "message", c.Message)
		kind := corev1.EventTypeNormal
		if slices.Contains(warningReasons, c.Reason) {
			kind = corev1.EventTypeWarning
		}
		message := c.Message
		if message == "" {
			message = c.Type + " is " + string(c.Status)
		}
		r.recordEvent(kind, c.Reason, c.Type, message)
	}
}
