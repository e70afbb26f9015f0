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
	infrastructure.ConditionDeleting,
	infrastructure.ConditionFirewallReady,
	infrastructure.ConditionPaused,
}

// setConditions makes conditions of what the phases found.
func (s *scope) setConditions() {
	s.setCondition(s.pausedCondition())
	deleting := s.obj.GetDeletionTimestamp() != nil
	switch said := conditions.Get(s.obj, infrastructure.ConditionDeleting); {
	case len(s.pauseReasons) > 0:
	case s.wait.reason == "" && deleting && said != nil:
		// What was said of the deletion holds, whatever the spec is now.
		s.setCondition(*said)
	case s.wait.reason == "":
	case deleting:
		s.setCondition(metav1.Condition{Type: infrastructure.ConditionDeleting, Status: metav1.ConditionTrue, Reason: s.wait.reason, Message: s.wait.message})
	case allocationOf(s.obj).Phase == "":
		s.setCondition(metav1.Condition{Type: infrastructure.ConditionAllocated, Status: metav1.ConditionFalse, Reason: s.wait.reason, Message: s.wait.message})
	}
	switch {
	case s.kind.name != clusters.name || len(s.pauseReasons) > 0:
	case deleting:
		// The firewalls are deleted, too, so the condition is not updated any more.
		conditions.Delete(s.obj, infrastructure.ConditionFirewallReady)
	case s.firewallReady != nil:
		s.setCondition(*s.firewallReady)
	case s.obj.(*v1alpha4.MetalStackCluster).Spec.FirewallSpec == nil:
		conditions.Delete(s.obj, infrastructure.ConditionFirewallReady)
	}
}

func (s *scope) pausedCondition() metav1.Condition {
	if len(s.pauseReasons) == 0 {
		return metav1.Condition{Type: infrastructure.ConditionPaused, Status: metav1.ConditionFalse, Reason: infrastructure.ReasonNotPaused}
	}
	return metav1.Condition{
		Type: infrastructure.ConditionPaused, Status: metav1.ConditionTrue, Reason: infrastructure.ReasonPaused,
		Message: strings.Join(s.pauseReasons, ", "),
	}
}

func (s *scope) setCondition(c metav1.Condition) {
	c.LastTransitionTime = metav1.NewTime(s.clock.Now())
	c.Message = oneline.Sanitize(c.Message, oneline.MaxMessage)
	conditions.Set(s.obj, c)
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
	infrastructure.ReasonFirewallNotReady,
}

// recordConditionEvents records an Event for each of our conditions that has changed, so
// that every change is recorded once, also after a restart.
func (s *scope) recordConditionEvents(ctx context.Context) {
	for _, c := range s.obj.GetConditions() {
		if !slices.Contains(ownedConditions, c.Type) || (c.Type == infrastructure.ConditionAllocated && c.Reason != s.wait.reason) {
			continue
		}
		was := meta.FindStatusCondition(s.oldConditions, c.Type)
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
		s.recordEvent(kind, c.Reason, c.Type, message)
	}
}
